"""Matrix products in blocks that fit the cache, with the rows split between threads."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

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


def num_splits() -> int:
    """Return into how many partial sums a long sum of products is split: one per thread."""
    return torch.get_num_threads()


def num_even_splits(rows: int) -> int:
    """Return `num_splits()` where it divides the rows evenly, else 1."""
    return num_splits() if rows % num_splits() == 0 else 1


def gemm(
    left: Float[Tensor, "rows k"], right: Float[Tensor, "k co"], out: Float[Tensor, "rows co"], *, add: bool = False
) -> None:
    """Compute out = left·right, or out += left·right, with the rows split evenly between threads if possible.

    torch's own split of one tall product leaves a third of the speed unused with 64 columns.
    """
    count = num_even_splits(len(left))
    splits, target = left.unflatten(0, (count, -1)), out.unflatten(0, (count, -1))
    factor = right.expand(count, *right.shape)
    if add:
        target.baddbmm_(splits, factor)
    else:
        torch.bmm(splits, factor, out=target)


def gemm_accumulate(
    total: Float[Tensor, "p k co"], left: Float[Tensor, "rows k"], right: Float[Tensor, "rows co"]
) -> None:
    """Compute total += leftᵀ·right in `len(total)` partial sums, which must divide the rows evenly."""
    count = len(total)
    total.baddbmm_(left.unflatten(0, (count, -1)).transpose(1, 2), right.unflatten(0, (count, -1)))
