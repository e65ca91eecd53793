"""Reference implementation of convolution and its gradients by nested loops: slow and simple, for tests.

A convolution is a sum of products of one weight and one pixel, each added to one output:

    Y[n,o,h,v] = b[o] + Σ_c Σ_i Σ_j  W[o,c,i,j] · X[n, c, S·h+i-P, S·v+j-P]

`products` yields their indices, without products with the zeros of the padding. By the chain rule, each product adds to
the gradient of either factor: the gradient of the output times the other factor. All gradients therefore sum over the
same products (Goodfellow, Bengio & Courville 2016, Deep Learning, section 9.5, equations 9.11 and 9.13).
"""

from collections.abc import Iterable, Iterator
from itertools import product

import torch
from torch import Tensor

Shape = tuple[int, ...]
Index = tuple[int, ...]


def conv2d_reference(input: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """Return the N×Co×Ho×Wo output Y in float64; the arguments are as for `scenelab.conv.conv2d`, but not checked."""
    (images, _, height, width), (outputs, _, kernel, _) = input.shape, weight.shape
    shape = (images, outputs, output_side(height, kernel, stride, padding), output_side(width, kernel, stride, padding))
    start = torch.zeros(shape) if bias is None else bias.detach()[:, None, None].expand(shape)
    terms = products(input.shape, weight.shape, stride, padding)
    return _accumulate(start, weight, input, terms)


def grad_input_reference(grad_output: Tensor, weight: Tensor, input_shape: Shape, stride: int, padding: int) -> Tensor:
    """Return ∂L/∂X from ∂L/∂Y, in float64."""
    terms = ((x, w, y) for y, w, x in products(input_shape, weight.shape, stride, padding))
    return _accumulate(torch.zeros(input_shape), weight, grad_output, terms)


def grad_weight_reference(grad_output: Tensor, input: Tensor, weight_shape: Shape, stride: int, padding: int) -> Tensor:
    """Return ∂L/∂W from ∂L/∂Y, in float64."""
    terms = ((w, x, y) for y, w, x in products(input.shape, weight_shape, stride, padding))
    return _accumulate(torch.zeros(weight_shape), input, grad_output, terms)


def grad_bias_reference(grad_output: Tensor) -> Tensor:
    """Return ∂L/∂b from ∂L/∂Y, in float64: the sum of ∂L/∂Y over all outputs of each channel."""
    terms = (((o,), (0,), (n, o, h, v)) for n, o, h, v in product(*map(range, grad_output.shape)))
    return _accumulate(torch.zeros(grad_output.shape[1]), torch.ones(1), grad_output, terms)


def products(
    input_shape: Shape, weight_shape: Shape, stride: int, padding: int
) -> Iterator[tuple[Index, Index, Index]]:
    """Yield (output index, weight index, pixel index) for each product of a weight and a pixel in a convolution."""
    (images, channels, height, width), (outputs, _, kernel, _) = input_shape, weight_shape
    rows, columns = (output_side(side, kernel, stride, padding) for side in (height, width))
    for n, o, c, i, j, h, v in product(*map(range, (images, outputs, channels, kernel, kernel, rows, columns))):
        p, q = stride * h + i - padding, stride * v + j - padding
        if 0 <= p < height and 0 <= q < width:
            yield (n, o, h, v), (o, c, i, j), (n, c, p, q)


def output_side(side: int, kernel: int, stride: int, padding: int) -> int:
    """Return the output side ⌊(side + 2·padding - kernel) / stride⌋ + 1 (Dumoulin & Visin 2016, relationship 6)."""
    return (side + 2 * padding - kernel) // stride + 1


def _accumulate(start: Tensor, left: Tensor, right: Tensor, terms: Iterable[tuple[Index, Index, Index]]) -> Tensor:
    """Return `start` in float64, plus left[a]·right[b] at index `target` for each term (target, a, b)."""
    result, x, y = (tensor.detach().double().numpy().copy() for tensor in (start, left, right))
    for target, a, b in terms:
        result[target] += x[a] * y[b]
    return torch.from_numpy(result)
