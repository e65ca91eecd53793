"""What holds for every convolution: linear in each argument, moves with its input, and its gradients are adjoint."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.autograd import gradcheck, gradgradcheck

from scenelab.conv import conv2d, taps


def deterministic(examples: int) -> settings:
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None)


@dataclass(frozen=True)
class Case:
    """A convolution's numbers; tensors are drawn from its seed."""

    images: int
    channels: int
    outputs: int
    height: int
    width: int
    kernel: int
    stride: int
    padding: int
    seed: int

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        rows, columns = (
            (side + 2 * self.padding - self.kernel) // self.stride + 1 for side in (self.height, self.width)
        )
        return (
            (self.images, self.channels, self.height, self.width),
            (self.outputs, self.channels, self.kernel, self.kernel),
            (self.outputs,),
            (self.images, self.outputs, rows, columns),
        )

    def tensors(self) -> list[Tensor]:
        """Input, weight, bias and a gradient of the output, float64."""
        dice = Generator().manual_seed(self.seed)
        return [torch.randn(shape, generator=dice, dtype=torch.float64) for shape in self.shapes]


@st.composite
def cases(draw, min_images=0, images=3, channels=4, kernels=5, side=9, strides=3) -> Case:
    kernel = draw(st.integers(1, kernels))
    padding = draw(st.integers(0, kernel))
    sides = st.integers(max(1, kernel - 2 * padding), max(side, kernel))
    counts = (st.integers(min_images, images), st.integers(1, channels), st.integers(1, channels), sides, sides)
    return Case(*map(draw, counts), kernel, draw(st.integers(1, strides)), padding, seed=draw(st.integers(0, 2**31)))


tiny = cases(min_images=1, images=2, channels=2, kernels=3, side=4)

# The same numbers, or some that are as good, elsewhere in memory.
LAYOUTS = {
    "contiguous": lambda t: t.contiguous(),
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "sliced": lambda t: torch.stack([t, -t], dim=-1).flatten(-2)[..., ::2],
    "channels sliced": lambda t: torch.cat([t, t], 1).contiguous(memory_format=torch.channels_last)[:, : t.shape[1]],
    "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded images": lambda t: t[:1].expand_as(t),
    "expanded pixels": lambda t: t[:, :, :1, :1].expand_as(t),
}
layouts = st.sampled_from(list(LAYOUTS))


@deterministic(150)
@given(cases(), layouts, layouts, layouts, st.booleans())
def test_output_and_gradients_are_pytorchs_in_any_layout(case, of_input, of_weight, of_gradient, with_bias):
    input, weight, bias, towards = case.tensors()
    leaves = [LAYOUTS[of_input](input).requires_grad_(), LAYOUTS[of_weight](weight).requires_grad_()]
    if with_bias:
        leaves.append(bias.requires_grad_())
    towards = LAYOUTS[of_gradient](towards)
    results = []
    for convolution in (conv2d, F.conv2d):
        output = convolution(*leaves, stride=case.stride, padding=case.padding)
        results.append([output.detach(), *torch.autograd.grad(output, leaves, towards)])
    for ours, native in zip(*results, strict=True):
        torch.testing.assert_close(ours, native, rtol=1e-11, atol=1e-11)
    for layout in (torch.contiguous_format, torch.channels_last) if case.images else ():
        ours, native = (output.is_contiguous(memory_format=layout) for output, *_ in results)
        assert ours == native


@deterministic(40)
@given(cases(), st.floats(-3, 3))
def test_linear_in_input_weight_and_bias(case, factor):
    input, weight, bias, _ = case.tensors()
    other_input, other_weight, other_bias = input.flip(0, 2).sin(), weight.flip(1, 3).cos(), bias.exp()
    geometry = (case.stride, case.padding)
    for mixed, parts in (
        ((input + factor * other_input, weight, None), ((input, weight, None), (other_input, weight, None))),
        ((input, weight + factor * other_weight, None), ((input, weight, None), (input, other_weight, None))),
        ((0 * input, weight, bias + factor * other_bias), ((0 * input, weight, bias), (0 * input, weight, other_bias))),
    ):
        first, second = (conv2d(*arguments, *geometry) for arguments in parts)
        torch.testing.assert_close(conv2d(*mixed, *geometry), first + factor * second, rtol=1e-10, atol=1e-10)


@deterministic(40)
@given(cases(min_images=1, images=2), st.integers(0, 2), st.integers(0, 2))
def test_an_input_moved_by_strides_moves_the_output_by_pixels(case, down, right):
    input, weight, bias, _ = case.tensors()
    by = (right * case.stride, 0, down * case.stride, 0)
    moved = conv2d(F.pad(input, by), weight, bias, case.stride, case.padding)
    still = conv2d(input, weight, bias, case.stride, case.padding)
    # Where a window reaches over the old edge it sees zeros in both: those of the padding, and those moved in.
    assert moved.shape[2:] == (still.shape[2] + down, still.shape[3] + right)
    torch.testing.assert_close(moved[:, :, down:, right:], still, rtol=1e-12, atol=1e-12)


@deterministic(20)
@given(tiny, st.booleans(), st.booleans())
def test_gradients_and_their_gradients_are_numerical_ones(case, with_bias, twice):
    def convolve(input, weight, bias=None):
        return conv2d(input, weight, bias, case.stride, case.padding)

    leaves = [tensor.requires_grad_() for tensor in case.tensors()[: 3 if with_bias else 2]]
    forward = {"check_fwd_over_rev": True} if twice else {"check_forward_ad": True, "check_batched_forward_grad": True}
    assert (gradgradcheck if twice else gradcheck)(convolve, leaves, check_batched_grad=True, **forward)


@deterministic(60)
@given(cases(min_images=1, kernels=4))
def test_tap_by_tap_the_convolution_and_its_gradients_are_pytorchs(case):
    input, weight, bias, towards = case.tensors()
    leaves, geometry = [tensor.requires_grad_() for tensor in (input, weight, bias)], (case.stride, case.padding)
    expected = F.conv2d(*leaves, *geometry)
    to_input, to_weight, _ = torch.autograd.grad(expected, leaves, towards)
    x, w, b, dy = input.detach().permute(0, 2, 3, 1), weight.detach(), bias.detach(), towards.permute(0, 2, 3, 1)
    output = taps.forward(x, w, b, *geometry, expected.shape[2:])
    torch.testing.assert_close(output.permute(0, 3, 1, 2), expected.detach())
    torch.testing.assert_close(taps.grad_input(dy, w, *geometry, input.shape[2:]).permute(0, 3, 1, 2), to_input)
    torch.testing.assert_close(taps.grad_weight(dy, x, case.kernel, *geometry), to_weight)
