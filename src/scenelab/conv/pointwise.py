"""1×1 kernels: one matrix product over all pixels, without copies.

The product is made in blocks of rows, so that the output is in the cache between adding the bias and the product.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.conv.gemm import blocks, gemm, gemm_accumulate, images_per_block, num_even_splits

OUTPUT_SHARE = 2  # the output of a product takes 1/OUTPUT_SHARE of a workspace; measured in docs/convolution.md


def _products(
    left: Float[Tensor, "rows k"],
    right: Float[Tensor, "k co"],
    bias: Float[Tensor, "co"] | None,
    out: Float[Tensor, "rows co"],
) -> None:
    """Compute out = left·right + bias."""
    size = max(left.shape[1], right.shape[1]) * left.element_size() // OUTPUT_SHARE
    for start, end in blocks(len(left), images_per_block(len(left), size, left.device)):
        block = out[start:end]
        if bias is not None:
            block.copy_(bias.expand_as(block))
        gemm(left[start:end], right, block, add=bias is not None)


def forward(
    input: Float[Tensor, "n h w ci"],
    weight: Float[Tensor, "co ci 1 1"],
    bias: Float[Tensor, "co"] | None,
    stride: int,
    output: Float[Tensor, "n ho wo co"],
) -> None:
    """Compute Y = X·Wᵀ + b over the strided pixels into `output`."""
    pixels = input[:, ::stride, ::stride].reshape(-1, input.shape[-1])
    _products(pixels, weight.flatten(1).t(), bias, output.view(-1, output.shape[-1]))


def grad_input(
    grad_output: Float[Tensor, "n ho wo co"],
    weight: Float[Tensor, "co ci 1 1"],
    stride: int,
    result: Float[Tensor, "n h w ci"],
) -> None:
    """Compute ∂X = ∂Y·W at the strided pixels, zero elsewhere, into `result`."""
    rows = grad_output.reshape(-1, grad_output.shape[-1])
    if stride == 1:
        _products(rows, weight.flatten(1), None, result.view(-1, result.shape[-1]))
        return
    pixels = result.zero_()[:, ::stride, ::stride]
    pixels.copy_(torch.mm(rows, weight.flatten(1)).view_as(pixels))


def grad_weight(
    grad_output: Float[Tensor, "n ho wo co"], input: Float[Tensor, "n h w ci"], stride: int
) -> Float[Tensor, "co ci 1 1"]:
    """Return ∂W = ∂Yᵀ·X."""
    pixels = input[:, ::stride, ::stride].reshape(-1, input.shape[-1])
    rows = grad_output.reshape(-1, grad_output.shape[-1])
    total = rows.new_zeros(num_even_splits(len(rows)), rows.shape[1], pixels.shape[1])
    gemm_accumulate(total, rows, pixels)
    return total.sum(dim=0)[:, :, None, None]
