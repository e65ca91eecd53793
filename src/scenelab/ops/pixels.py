"""K = 1: a convolution that is one product over all pixels, with nothing to copy."""

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.ops.blocks import add_products, even_parts, multiply


def forward(
    input: Float[Tensor, "n h w ci"],
    weight: Float[Tensor, "co ci 1 1"],
    bias: Float[Tensor, "co"] | None,
    stride: int,
    output: Float[Tensor, "n ho wo co"],
) -> None:
    """Y = X·Wᵀ + b over the pixels that the stride meets."""
    pixels = input[:, ::stride, ::stride].reshape(-1, input.shape[-1])
    rows = output.view(-1, output.shape[-1])
    if bias is not None:
        rows.copy_(bias.expand_as(rows))
    multiply(pixels, weight.flatten(1).t(), rows, add=bias is not None)


def grad_input(
    grad_output: Float[Tensor, "n ho wo co"],
    weight: Float[Tensor, "co ci 1 1"],
    stride: int,
    result: Float[Tensor, "n h w ci"],
) -> None:
    """∂X = ∂Y·W at the pixels that the stride meets, zero elsewhere."""
    rows = grad_output.reshape(-1, grad_output.shape[-1])
    if stride == 1:
        multiply(rows, weight.flatten(1), result.view(-1, result.shape[-1]))
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
