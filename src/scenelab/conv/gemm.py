"""Matrix products in blocks that fit the cache, with the rows split between threads."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

Input = Float[Tensor, "n h w ci"]
Output = Float[Tensor, "n ho wo co"]
Weight = Float[Tensor, "co ci k k"]
Bias = Float[Tensor, "co"] | None

BLOCK_BYTES = 2**20
"""Size of a workspace on the CPU: it fits the second-level cache; measured in docs/convolution.md."""


def images_per_block(images: int, bytes_per_image: int, device: torch.device) -> int:
    """Return how many images fit a workspace; on a GPU all of them."""
    if device.type != "cpu":
        return max(1, images)
    return max(1, min(images, BLOCK_BYTES // max(1, bytes_per_image)))


def blocks(images: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of consecutive blocks of at most `size` images."""
    for start in range(0, images, size):
        yield start, min(images, start + size)


def splits(rows: int) -> int:
    """Return the number of threads if it divides the rows evenly, else 1."""
    threads = torch.get_num_threads()
    return threads if rows % threads == 0 else 1


def gemm(left: Tensor, right: Tensor, out: Float[Tensor, "rows co"], *, add: bool = False) -> None:
    """Compute out = left·right, or out += left·right, with the rows split evenly between threads if possible.

    torch's own split of one tall product leaves a third of the speed unused with 64 columns.
    """
    count = splits(len(left))
    factor, target = left.unflatten(0, (count, -1)), out.unflatten(0, (count, -1))
    right = right.expand(count, *right.shape)
    if add:
        target.baddbmm_(factor, right)
    else:
        torch.bmm(factor, right, out=target)


def gemm_bias(left: Tensor, right: Tensor, bias: Bias, out: Float[Tensor, "rows co"]) -> None:
    """Compute out = left·right + bias."""
    if bias is not None:
        out.copy_(bias.expand_as(out))
    gemm(left, right, out, add=bias is not None)


def gemm_accumulate(total: Float[Tensor, "p k co"], left: Tensor, right: Tensor) -> None:
    """Compute total += leftᵀ·right in `len(total)` partial sums, which must divide the rows evenly."""
    count = len(total)
    total.baddbmm_(left.unflatten(0, (count, -1)).transpose(1, 2), right.unflatten(0, (count, -1)))
