"""Convolution against the reference loops and PyTorch; a network trained with it against a native one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from scenelab.conv import winograd
from scenelab.conv.conv2d import Conv2d, conv2d
from scenelab.conv.reference import conv2d_reference, grad_bias_reference, grad_input_reference, grad_weight_reference
from scenelab.models.simplenet import SimpleNet, SimpleNetSmall

# images, channels in and out, height, width, kernel, stride, padding
SHAPES = {
    "handout": (2, 3, 4, 6, 7, 7, 2, 3),
    "1x1": (2, 3, 2, 4, 5, 1, 1, 0),
    "1x1 with a stride": (1, 2, 3, 5, 4, 1, 2, 0),
    "1x1, padded": (1, 2, 2, 3, 2, 1, 1, 1),
    "3x3": (2, 2, 3, 5, 4, 3, 1, 1),
    "columns left over": (1, 2, 2, 7, 9, 3, 3, 0),
    "even kernel": (1, 1, 2, 5, 6, 4, 2, 1),
    "kernel larger than the height": (1, 2, 2, 1, 6, 3, 1, 1),
    "stride larger than the kernel": (1, 2, 1, 7, 8, 2, 3, 1),
    "padding larger than the kernel": (1, 1, 2, 3, 2, 2, 1, 3),
    "one output": (2, 2, 2, 3, 3, 3, 1, 0),
    "no images": (0, 2, 2, 4, 4, 3, 1, 1),
}


def drawn(shape: tuple) -> list[Tensor]:
    """Input, weight and bias in float64 that require gradients."""
    images, channels, outputs, height, width, kernel, _, _ = shape
    dice = Generator().manual_seed(0)
    sizes = (images, channels, height, width), (outputs, channels, kernel, kernel), (outputs,)
    return [torch.randn(size, generator=dice, dtype=torch.float64).requires_grad_() for size in sizes]


def with_gradients(convolution, leaves: list[Tensor], stride: int, padding: int) -> list[Tensor]:
    """The output, then the gradients of all leaves for a gradient of the output with no symmetry."""
    output = convolution(*leaves, stride, padding)
    towards = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape).cos()
    return [output.detach(), *torch.autograd.grad(output, leaves, towards), towards]


def close(ours: list[Tensor], oracle: list[Tensor]) -> None:
    for mine, theirs in zip(ours, oracle, strict=True):
        assert mine.dtype == theirs.dtype == torch.float64
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_ours_and_pytorchs_are_the_reference(shape):
    *_, stride, padding = shape
    leaves = drawn(shape)
    *native, towards = with_gradients(F.conv2d, leaves, stride, padding)
    input, weight, bias = (leaf.detach() for leaf in leaves)
    reference = [
        conv2d_reference(input, weight, bias, stride, padding),
        grad_input_reference(towards, weight, input.shape, stride, padding),
        grad_weight_reference(towards, input, weight.shape, stride, padding),
        grad_bias_reference(towards),
    ]
    *ours, _ = with_gradients(conv2d, leaves, stride, padding)
    close(ours, reference)
    close(native, reference)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_simplenet_is_the_native_one(memory_format):
    """Every layer at its place: logits and all gradients of the whole network, in float64."""
    images = torch.randn(2, 3, 32, 40, generator=Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for conv_op in (Conv2d, nn.Conv2d):
        torch.manual_seed(0)
        network = SimpleNet(conv_op=conv_op, num_classes=5).double().to(memory_format=memory_format)
        input = images.clone(memory_format=memory_format).requires_grad_()
        logits = network(input)
        F.cross_entropy(logits, torch.tensor([1, 3])).backward()
        results.append([logits.detach(), input.grad, *(parameter.grad for parameter in network.parameters())])
    close(*results)


def losses(conv_op, steps: int) -> Tensor:
    """The loss curve of a small network that learns which of four noisy, tinted textures it sees."""
    torch.manual_seed(0)
    network = SimpleNetSmall(conv_op=conv_op, num_classes=4)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    dice = Generator().manual_seed(1)
    textures = torch.randn(4, 3, 1, 1, generator=dice) + torch.randn(4, 3, 32, 32, generator=dice)
    curve = []
    for _ in range(steps):
        labels = torch.randint(4, (8,), generator=dice)
        images = textures[labels] + torch.randn(8, 3, 32, 32, generator=dice) / 2
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        curve.append(loss.detach())
    return torch.stack(curve)


def test_training_follows_the_native_loss_curve():
    """In float32, where roundings differ: at a rate this low training does not blow them up (7e-4 was seen)."""
    ours, native = losses(Conv2d, 200), losses(nn.Conv2d, 200)
    assert native[-20:].mean() < 0.5 * native[:20].mean()  # it learns: the curves are no constants
    torch.testing.assert_close(ours, native, rtol=0, atol=1e-2)


@pytest.mark.parametrize(("height", "width", "padding"), [(8, 8, 1), (5, 11, 0), (3, 3, 2), (2, 9, 1), (14, 6, 1)])
@pytest.mark.parametrize("limit", [1, 2**14, 2**30])
def test_winograd_in_blocks_and_channel_groups_of_any_size(height, width, padding, limit, monkeypatch):
    """In float64, against PyTorch: whatever the tile, the block and the cut of the channels, the sums are the same."""
    monkeypatch.setattr(winograd, "WORKSPACE_BYTES", limit)
    monkeypatch.setattr(winograd, "FILTER_BYTES", limit)
    torch.manual_seed(0)
    images = torch.randn(5, 6, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 6, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(7, dtype=torch.float64)
    expected = F.conv2d(images, weight, bias, padding=padding)
    gradient = torch.randn_like(expected)
    (to_weight,) = torch.autograd.grad(expected, [weight], gradient)
    x, dy = (tensor.detach().permute(0, 2, 3, 1).contiguous() for tensor in (images, gradient))
    output = torch.empty_like(dy)
    winograd.forward(x, weight.detach(), bias, 1, padding, output)
    torch.testing.assert_close(output.permute(0, 3, 1, 2), expected)
    torch.testing.assert_close(winograd.grad_weight(dy, x, 3, 1, padding), to_weight)


@pytest.mark.parametrize("tile", [2, 4])
def test_the_winograd_matrices_turn_a_product_into_a_correlation(tile):
    """One tile in exact arithmetic's reach: Aᵀ[(Gg) ⊙ (Bᵀd)] along both axes is the sliding sum."""
    matrices = winograd.transforms(tile, torch.float64, torch.device("cpu"))
    torch.manual_seed(0)
    tiles, kernel = torch.randn(tile + 2, tile + 2, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    values = (matrices.filter @ kernel.flatten()) * (matrices.input @ tiles.flatten())
    expected = F.conv2d(tiles[None, None], kernel[None, None])[0, 0]
    torch.testing.assert_close((matrices.output @ values).view(tile, tile), expected)
