"""K = 1: a convolution that is one product over all pixels, with nothing to copy.

The product is still made in blocks of rows: what it writes, bias first, is then in the cache when it is written again.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.conv.gemm import add_products, blocks, even_parts, images_per_block, multiply

SHARE = 2  # of the workspace for what a product writes; measured in docs/convolution.md


def _products(
    left: Float[Tensor, "rows k"],
    right: Float[Tensor, "k co"],
    bias: Float[Tensor, "co"] | None,
    out: Float[Tensor, "rows co"],
) -> None:
    """out = left·right + bias."""
    size = max(left.shape[1], right.shape[1]) * left.element_size() // SHARE
    for start, end in blocks(len(left), images_per_block(len(left), size, left.device)):
        part = out[start:end]
        if bias is not None:
            part.copy_(bias.expand_as(part))
        multiply(left[start:end], right, part, add=bias is not None)


def forward(
    input: Float[Tensor, "n h w ci"],
    weight: Float[Tensor, "co ci 1 1"],
    bias: Float[Tensor, "co"] | None,
    stride: int,
    output: Float[Tensor, "n ho wo co"],
) -> None:
    """Y = X·Wᵀ + b over the pixels that the stride meets."""
    pixels = input[:, ::stride, ::stride].reshape(-1, input.shape[-1])
    _products(pixels, weight.flatten(1).t(), bias, output.view(-1, output.shape[-1]))


def grad_input(
    grad_output: Float[Tensor, "n ho wo co"],
    weight: Float[Tensor, "co ci 1 1"],
    stride: int,
    result: Float[Tensor, "n h w ci"],
) -> None:
    """∂X = ∂Y·W at the pixels that the stride meets, zero elsewhere."""
    rows = grad_output.reshape(-1, grad_output.shape[-1])
    if stride == 1:
        _products(rows, weight.flatten(1), None, result.view(-1, result.shape[-1]))
        return
    met = result.zero_()[:, ::stride, ::stride]
    met.copy_(torch.mm(rows, weight.flatten(1)).view_as(met))


def grad_weight(
    grad_output: Float[Tensor, "n ho wo co"], input: Float[Tensor, "n h w ci"], stride: int
) -> Float[Tensor, "co ci 1 1"]:
    """∂W = ∂Yᵀ·X."""
    pixels = input[:, ::stride, ::stride].reshape(-1, input.shape[-1])
    rows = grad_output.reshape(-1, grad_output.shape[-1])
    total = rows.new_zeros(even_parts(len(rows)), rows.shape[1], pixels.shape[1])
    add_products(total, rows, pixels)
    return total.sum(dim=0)[:, :, None, None]
