"""Convolution with 1×1 kernels without padding: a matrix product over all pixels.

Each block of rows is small enough for its output to stay in the cache while bias and product are added.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.conv.gemm import Bias, Input, Output, Weight, blocks, gemm_accumulate, gemm_bias, images_per_block, splits

OUTPUT_SHARE = 2  # a block's output may have OUTPUT_SHARE * BLOCK_BYTES; measured in docs/convolution.md


def _products(left: Tensor, right: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Compute out = left·right + bias in blocks of rows."""
    size = max(left.shape[1], right.shape[1]) * left.element_size() // OUTPUT_SHARE
    for start, end in blocks(len(left), images_per_block(len(left), size, left.device)):
        gemm_bias(left[start:end], right, bias, out[start:end])


def _rows(pixels: Float[Tensor, "n h w c"], stride: int = 1) -> Float[Tensor, "nhw c"]:
    return pixels[:, ::stride, ::stride].reshape(-1, pixels.shape[-1])


def forward(input: Input, weight: Weight, bias: Bias, stride: int, padding: int, output: Output) -> None:
    """Write the convolution Y = X·Wᵀ + b to `output`, with X at every `stride`-th row and column."""
    _products(_rows(input, stride), weight.flatten(1).t(), bias, output.view(-1, output.shape[-1]))


def grad_input(grad_output: Output, weight: Weight, stride: int, padding: int, result: Input) -> None:
    """Write the gradient ∂X to `result`: ∂Y·W at every `stride`-th row and column, zero elsewhere."""
    if stride == 1:
        _products(_rows(grad_output), weight.flatten(1), None, result.view(-1, result.shape[-1]))
        return
    pixels = result.zero_()[:, ::stride, ::stride]
    pixels.copy_(torch.mm(_rows(grad_output), weight.flatten(1)).view_as(pixels))


def grad_weight(grad_output: Output, input: Input, kernel: int, stride: int, padding: int) -> Weight:
    """Return the gradient ∂W = ∂Yᵀ·X, with X at every `stride`-th row and column."""
    rows, pixels = _rows(grad_output), _rows(input, stride)
    total = rows.new_zeros(splits(len(rows)), rows.shape[1], pixels.shape[1])
    gemm_accumulate(total, rows, pixels)
    return total.sum(dim=0)[:, :, None, None]
