"""Matrix products on blocks of images that fit the cache, with the rows divided among threads."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

Input = Float[Tensor, "n h w ci"]
Output = Float[Tensor, "n ho wo co"]
Weight = Float[Tensor, "co ci k k"]
Bias = Float[Tensor, "co"] | None

BLOCK_BYTES = 2**20
"""Size of a workspace on CPUs, chosen to fit the L2 cache (measurements in docs/convolution.md)."""


def images_per_block(images: int, bytes_per_image: int, device: torch.device) -> int:
    """Return the number of images per block: as many as fit in `BLOCK_BYTES`, at least 1; on a GPU, all images."""
    if device.type != "cpu":
        return max(1, images)
    return max(1, min(images, BLOCK_BYTES // max(1, bytes_per_image)))


def blocks(images: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) indices of consecutive blocks of at most `size` images."""
    for start in range(0, images, size):
        yield start, min(images, start + size)


def splits(rows: int) -> int:
    """Return the number of equal parts to split `rows` into: the number of threads if possible, else 1."""
    threads = torch.get_num_threads()
    return threads if rows % threads == 0 else 1


def gemm(left: Tensor, right: Tensor, out: Float[Tensor, "rows co"], *, add: bool = False) -> None:
    """Compute out = left·right, or out += left·right if `add`, with the rows divided among the threads if possible.

    For a tall product with 64 columns, torch's own division among threads reaches only two thirds of this speed.
    """
    count = splits(len(left))
    factor, target = left.unflatten(0, (count, -1)), out.unflatten(0, (count, -1))
    right = right.expand(count, *right.shape)
    if add:
        target.baddbmm_(factor, right)
    else:
        torch.bmm(factor, right, out=target)


def gemm_bias(left: Tensor, right: Tensor, bias: Bias, out: Float[Tensor, "rows co"]) -> None:
    """Compute out = left·right + bias, with one bias value per column, or no bias if it is None."""
    if bias is not None:
        out.copy_(bias.expand_as(out))
    gemm(left, right, out, add=bias is not None)


def gemm_accumulate(total: Float[Tensor, "p k co"], left: Tensor, right: Tensor) -> None:
    """Add leftᵀ·right to `total` as P partial products, each over a P-th of the rows.

    P must divide the number of rows. The sum of `total` over its first dimension is the full product.
    """
    count = len(total)
    total.baddbmm_(left.unflatten(0, (count, -1)).transpose(1, 2), right.unflatten(0, (count, -1)))
