"""Test the convolution in student_code.py: python ./test_conv.py; the exit status is 0 only if everything passed."""

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck

from student_code import CustomConv2d, custom_conv2d

BATCH, IN_CHANNELS, OUT_CHANNELS, KERNEL, STRIDE, PADDING, SIDE = 2, 3, 64, 7, 2, 3, 12
TOLERANCE = 1e-5


def _convolve(input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return custom_conv2d(input, weight, bias, STRIDE, PADDING)


def check_fprop(input: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether the outputs are PyTorch's."""
    print("Check Fprop ...")
    with torch.no_grad():
        ours = _convolve(input, weight, bias)
        native = F.conv2d(input, weight, bias, STRIDE, PADDING)
    passed = ours.shape == native.shape and torch.allclose(ours, native, rtol=0, atol=TOLERANCE)
    print(f"Fprop testing {'passed' if passed else 'failed'}")
    return passed


def check_bprop(input: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether the gradients are PyTorch's in every entry, and the numerical ones along random directions."""
    print("Check Bprop ...")
    leaves = (input, weight, bias)
    native = F.conv2d(*leaves, STRIDE, PADDING)
    towards = torch.randn_like(native)
    expected = torch.autograd.grad(native, leaves, towards)
    ours = torch.autograd.grad(_convolve(*leaves), leaves, towards, allow_unused=True)
    passed = all(
        mine is not None and torch.allclose(mine, theirs, rtol=0, atol=TOLERANCE)
        for mine, theirs in zip(ours, expected)
    )
    # All 10,336 numerical gradients take half a minute, one along a random direction of each argument no time.
    passed = passed and gradcheck(_convolve, leaves, eps=1e-4, atol=TOLERANCE, fast_mode=True, raise_exception=False)
    print(f"Bprop testing {'passed' if passed else 'failed'}")
    return passed


def check_wrapper(input: Tensor) -> bool:
    """Whether the module runs forward and backward in float32 and gives what nn.Conv2d gives."""
    print("Check nn.module wrapper ...")
    ours = CustomConv2d(IN_CHANNELS, OUT_CHANNELS, KERNEL, stride=STRIDE, padding=PADDING).to(input.device)
    native = nn.Conv2d(IN_CHANNELS, OUT_CHANNELS, KERNEL, stride=STRIDE, padding=PADDING).to(input.device)
    native.load_state_dict(ours.state_dict())
    results = []
    for module in (ours, native):
        images = input.detach().float().requires_grad_()
        output = module(images)
        output.square().mean().backward()
        results.append([output.detach(), images.grad, *(parameter.grad for parameter in module.parameters())])
    passed = all(
        mine is not None and torch.allclose(mine, theirs, rtol=1e-4, atol=TOLERANCE)
        for mine, theirs in zip(*results)
    )
    if not passed:
        print("nn.module wrapper testing failed")
    return passed


def main() -> int:
    """Run the three checks; 0 if all passed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"Using device: {device}")
    torch.manual_seed(0)
    options = {"dtype": torch.float64, "device": device, "requires_grad": True}
    input = torch.randn(BATCH, IN_CHANNELS, SIDE, SIDE, **options)
    weight = torch.randn(OUT_CHANNELS, IN_CHANNELS, KERNEL, KERNEL, **options)
    bias = torch.randn(OUT_CHANNELS, **options)
    passed = [check_fprop(input, weight, bias), check_bprop(input, weight, bias), check_wrapper(input)]
    if not all(passed):
        return 1
    print("All passed! End of testing.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
