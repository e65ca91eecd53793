"""Convolution and its gradients as nested loops over plain numbers: slow and obviously correct, the tests' oracle.

A convolution is a list of products of one weight and one pixel, each added to one output:

    Y[n,o,h,v] = b[o] + Σ_c Σ_i Σ_j  W[o,c,i,j] · X[n, c, S·h+i-P, S·v+j-P]

`products` lists them, without those with the zeros of the padding. By the chain rule each product passes the gradient
of its output to each factor, times the other factor: the gradients are the same list with another left-hand side
(Goodfellow, Bengio & Courville 2016, Deep Learning, section 9.5, equations 9.11 and 9.13).
"""

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

Shape = tuple[int, ...]
Index = tuple[int, int, int, int]


def conv2d_reference(input: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """Return Y in float64; arguments as for `scenelab.conv.conv2d`, unchecked."""
    (images, _, height, width), (outputs, _, kernel, _) = input.shape, weight.shape
    shape = (images, outputs, output_side(height, kernel, stride, padding), output_side(width, kernel, stride, padding))
    y, w, x = torch.zeros(shape).tolist(), weight.tolist(), input.tolist()
    if bias is not None:
        b = bias.tolist()
        for n, o, h, v in product(*map(range, shape)):
            y[n][o][h][v] = b[o]
    for (n, o, h, v), (_, c, i, j), (_, _, p, q) in products(input.shape, weight.shape, stride, padding):
        y[n][o][h][v] += w[o][c][i][j] * x[n][c][p][q]
    return _tensor(y, shape)


def grad_input_reference(grad_output: Tensor, weight: Tensor, input_shape: Shape, stride: int, padding: int) -> Tensor:
    """Return ∂L/∂X from ∂L/∂Y, in float64."""
    dx, dy, w = torch.zeros(input_shape).tolist(), grad_output.tolist(), weight.tolist()
    for (n, o, h, v), (_, c, i, j), (_, _, p, q) in products(input_shape, weight.shape, stride, padding):
        dx[n][c][p][q] += w[o][c][i][j] * dy[n][o][h][v]
    return _tensor(dx, input_shape)


def grad_weight_reference(grad_output: Tensor, input: Tensor, weight_shape: Shape, stride: int, padding: int) -> Tensor:
    """Return ∂L/∂W from ∂L/∂Y, in float64."""
    dw, dy, x = torch.zeros(weight_shape).tolist(), grad_output.tolist(), input.tolist()
    for (n, o, h, v), (_, c, i, j), (_, _, p, q) in products(input.shape, weight_shape, stride, padding):
        dw[o][c][i][j] += x[n][c][p][q] * dy[n][o][h][v]
    return _tensor(dw, weight_shape)


def grad_bias_reference(grad_output: Tensor) -> Tensor:
    """Return ∂L/∂b from ∂L/∂Y, in float64: b[o] is added once to every output of channel o."""
    outputs = grad_output.shape[1]
    db, dy = [0.0] * outputs, grad_output.tolist()
    for n, o, h, v in product(*map(range, grad_output.shape)):
        db[o] += dy[n][o][h][v]
    return _tensor(db, (outputs,))


def products(
    input_shape: Shape, weight_shape: Shape, stride: int, padding: int
) -> Iterator[tuple[Index, Index, Index]]:
    """Yield the indices of output, weight and pixel of every product of a convolution."""
    (images, channels, height, width), (outputs, _, kernel, _) = input_shape, weight_shape
    for n, o, c, i, j in product(range(images), range(outputs), range(channels), range(kernel), range(kernel)):
        for h in range(output_side(height, kernel, stride, padding)):
            for v in range(output_side(width, kernel, stride, padding)):
                p, q = stride * h + i - padding, stride * v + j - padding
                if 0 <= p < height and 0 <= q < width:
                    yield (n, o, h, v), (o, c, i, j), (n, c, p, q)


def output_side(side: int, kernel: int, stride: int, padding: int) -> int:
    """Return ⌊(side + 2·padding - kernel) / stride⌋ + 1 (Dumoulin & Visin 2016, relationship 6)."""
    return (side + 2 * padding - kernel) // stride + 1


def _tensor(values: list, shape: Shape) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(shape)
