"""Convolution of any shape with one product per position (tap) of the kernel: slower than the other algorithms.

No value is multiplied with the zeros of the padding or of unused memory, so an infinite value or NaN reaches only the
results that depend on it, as in PyTorch. No tensor is changed in place, so that `make_fx` can trace the functions.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from scenelab.conv.gemm import Bias, Input, Output, Weight

Sides = tuple[int, ...]


def _axis(side: int, outputs: int, tap: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Return slices along one axis: outputs h with 0 ≤ S·h+tap-P < `side`, and their inputs S·h+tap-P."""
    first = max(0, -((tap - padding) // stride))
    last = max(first, min(outputs, (side - 1 - tap + padding) // stride + 1))
    start = stride * first + tap - padding
    return slice(first, last, 1), slice(start, start + stride * (last - first), stride)


def _taps(input: Sides, output: Sides, kernel: int, stride: int, padding: int) -> Iterator[tuple]:
    """Yield, per tap (i, j): i, j, two slices (rows, columns) of its outputs, and two slices of its inputs."""
    for i in range(kernel):
        for j in range(kernel):
            axes = zip(input, output, (i, j), strict=True)
            outputs, inputs = zip(*(_axis(*axis, stride, padding) for axis in axes), strict=True)
            yield i, j, outputs, inputs


def _place(values: Tensor, places: tuple[slice, slice], sides: Sides) -> Tensor:
    """Return NHWC images of zeros with height and width `sides` and `values` at rows and columns `places`."""
    for dim, place, side in zip((1, 2), places, sides, strict=True):
        before = [0, 0] * (3 - dim)  # F.pad begins with the last axis
        if place.step > 1:
            values = F.pad(values.unsqueeze(dim + 1), [*before, 0, place.step - 1]).flatten(dim, dim + 1)
        start = min(place.start, side)
        values = F.pad(values, [*before, start, side - start - values.shape[dim]])  # a negative padding crops
    return values


def forward(input: Input, weight: Weight, bias: Bias, stride: int, padding: int, sides: Sides) -> Output:
    """Return the convolution Y with height and width `sides`."""
    output = input.new_zeros(len(input), *sides, len(weight))
    for i, j, outputs, (rows, columns) in _taps(input.shape[1:3], sides, weight.shape[-1], stride, padding):
        output = output + _place(input[:, rows, columns] @ weight[:, :, i, j].t(), outputs, sides)
    return output if bias is None else output + bias


def grad_input(grad_output: Output, weight: Weight, stride: int, padding: int, sides: Sides) -> Input:
    """Return the gradient ∂X with height and width `sides`."""
    result = grad_output.new_zeros(len(grad_output), *sides, weight.shape[1])
    for i, j, (rows, columns), inputs in _taps(sides, grad_output.shape[1:3], weight.shape[-1], stride, padding):
        result = result + _place(grad_output[:, rows, columns] @ weight[:, :, i, j], inputs, sides)
    return result


def grad_weight(grad_output: Output, input: Input, kernel: int, stride: int, padding: int) -> Weight:
    """Return the gradient ∂W."""
    products = [
        grad_output[:, outputs[0], outputs[1]].flatten(0, 2).t() @ input[:, inputs[0], inputs[1]].flatten(0, 2)
        for _, _, outputs, inputs in _taps(input.shape[1:3], grad_output.shape[1:3], kernel, stride, padding)
    ]
    return torch.stack(products, dim=-1).unflatten(-1, (kernel, kernel))
