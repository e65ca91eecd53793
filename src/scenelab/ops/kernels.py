"""Convolution and its gradients as sums of products: the three functions that do the arithmetic.

With input X (N×Cᵢ×H×W, zero outside its sides), weight W (Cₒ×Cᵢ×K×K), bias b, stride S and padding P:

    Y[n,o,h,w]     = b[o] + Σ_c Σ_i Σ_j  W[o,c,i,j] · X[n, c, S·h+i-P, S·w+j-P]
    ∂L/∂X[n,c,y,x] = Σ_o Σ_i Σ_j  W[o,c,i,j] · ∂L/∂Y[n,o,h,w]   where S·h+i-P = y and S·w+j-P = x
    ∂L/∂W[o,c,i,j] = Σ_n Σ_h Σ_w  ∂L/∂Y[n,o,h,w] · X[n, c, S·h+i-P, S·w+j-P]

Y has Hₒ = ⌊(H + 2P - K) / S⌋ + 1 rows, and columns likewise (Dumoulin & Visin 2016, relationship 6).

The functions check nothing and keep no gradient graph; `scenelab.ops.function` does both. None returns a view.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def forward(
    input: Float[Tensor, "n ci h w"],
    weight: Float[Tensor, "co ci k k"],
    bias: Float[Tensor, "co"] | None,
    stride: int,
    padding: int,
) -> Float[Tensor, "n co ho wo"]:
    """Y, in channels_last if the input or the weight lies so in memory, as `F.conv2d` does."""
    windows = _windows(_padded(input, padding), weight.shape[-1], stride)
    products = torch.einsum("nchwij,ocij->nohw", windows, weight)
    output = products.clone(memory_format=_memory_format(input, weight))  # products may be a view of their matrix
    return output if bias is None else output.add_(bias.view(-1, 1, 1))


def grad_input(
    grad_output: Float[Tensor, "n co ho wo"],
    weight: Float[Tensor, "co ci k k"],
    input_shape: tuple[int, int, int, int],
    stride: int,
    padding: int,
) -> Float[Tensor, "n ci h w"]:
    """∂L/∂X: the gradient spread out by the stride, correlated with the weight turned by 180 degrees.

    Dumoulin & Visin 2016, relationship 14: row S·h+K-1-P of the spread gradient holds row h, the rest is zero.
    """
    _, _, height, width = input_shape
    kernel, layout = weight.shape[-1], _memory_format(grad_output, weight)
    images, channels, rows, columns = grad_output.shape
    # The padded input has 2P + H rows; K-1 zeros around it let every window of the weight begin inside.
    spread = grad_output.new_zeros(
        images, channels, height + 2 * padding + kernel - 1, width + 2 * padding + kernel - 1
    )
    first, last_row, last_column = kernel - 1, (rows - 1) * stride + kernel, (columns - 1) * stride + kernel
    spread[:, :, first:last_row:stride, first:last_column:stride] = grad_output
    inside = spread[:, :, padding : padding + height + kernel - 1, padding : padding + width + kernel - 1]
    products = torch.einsum("nohwij,ocij->nchw", _windows(inside, kernel, 1), weight.flip(2, 3))
    return products.clone(memory_format=layout)


def grad_weight(
    grad_output: Float[Tensor, "n co ho wo"],
    input: Float[Tensor, "n ci h w"],
    kernel_size: int,
    stride: int,
    padding: int,
) -> Float[Tensor, "co ci k k"]:
    """∂L/∂W: each window of the input, weighed by the gradient of the output that it made."""
    windows = _windows(_padded(input, padding), kernel_size, stride)
    products = torch.einsum("nchwij,nohw->ocij", windows, grad_output)
    return products.clone(memory_format=_memory_format(input, grad_output))


def _padded(input: Float[Tensor, "n c h w"], padding: int) -> Float[Tensor, "n c hp wp"]:
    return F.pad(input, [padding] * 4) if padding else input


def _windows(input: Float[Tensor, "n c h w"], kernel: int, stride: int) -> Float[Tensor, "n c ho wo k k"]:
    """Every K×K window of the input, S apart: a view, nothing is copied."""
    return input.unfold(2, kernel, stride).unfold(3, kernel, stride)


def _memory_format(*tensors: Float[Tensor, "_ _ _ _"]) -> torch.memory_format:
    """channels_last if any of the tensors has its channels innermost in memory."""
    return torch.channels_last if any(map(_channels_innermost, tensors)) else torch.contiguous_format


def _channels_innermost(tensor: Float[Tensor, "n c h w"]) -> bool:
    """Whether the strides step through channels, columns, rows, images in this order, gaps allowed.

    The strides decide, for `is_contiguous(memory_format=channels_last)` is also true of an ordinary tensor with
    one channel or of one pixel.
    """
    (_, channels, height, width), (by_image, by_channel, by_row, by_column) = tensor.shape, tensor.stride()
    by_rows = height * by_row
    return by_column >= channels * by_channel and by_row >= width * by_column and by_image >= by_rows > by_channel
