"""What our convolution saves for the backward pass, and gradients of gradients through a network of it."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from scenelab.conv import Conv2d, conv2d


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (7, 2, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_only_the_input_and_the_weight_are_saved_and_not_copied(kernel, stride, padding, layout):
    input = torch.rand(2, 3, 9, 8).contiguous(memory_format=layout).requires_grad_()
    weight, bias = torch.rand(4, 3, kernel, kernel, requires_grad=True), torch.rand(4, requires_grad=True)
    saved: list[Tensor] = []
    with saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        output = conv2d(input, weight, bias, stride, padding)
    assert [(tensor.data_ptr(), tensor.shape) for tensor in saved] == [
        (tensor.data_ptr(), tensor.shape) for tensor in (input, weight)
    ]
    output.sum().backward()


def make_network(convolution: type[nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    first, second = convolution(3, 5, 7, 2, 3), convolution(5, 6, 3, padding=1, bias=False)
    pooled = [convolution(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)]
    return nn.Sequential(first, nn.Softplus(), second, nn.Tanh(), *pooled).double()


def test_a_gradient_penalty_is_that_of_torchs_convolution():
    images, gradients = torch.rand(3, 3, 12, 11, dtype=torch.float64, requires_grad=True), []
    for network in (make_network(nn.Conv2d), make_network(Conv2d)):
        score = network(images).logsumexp(dim=1).sum()
        (slope,) = torch.autograd.grad(score, images, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().sum()
        gradients.append(torch.autograd.grad(penalty, [*network.parameters()][:-1]))  # the last is an offset
    assert all(gradient.abs().max() > 0 for gradient in gradients[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-10)
