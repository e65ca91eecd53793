"""How the work is cut: rows of the channels-last matrix in blocks that fit the cache."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK_BYTES = 2**20
"""Size of a workspace on the CPU: it stays in the second-level cache; measured in docs/convolution.md."""


def images_per_block(images: int, bytes_per_image: int, device: torch.device) -> int:
    """How many images are worked on at once: as many as fit a workspace; on a GPU all of them."""
    if device.type != "cpu":
        return max(1, images)
    return max(1, min(images, BLOCK_BYTES // max(1, bytes_per_image)))


def blocks(images: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of consecutive blocks of at most `size` images."""
    for start in range(0, images, size):
        yield start, min(images, start + size)


def parts() -> int:
    """Into how many sums a long sum of products is cut, so that each thread has its own."""
    return torch.get_num_threads()


def even_parts(rows: int) -> int:
    """As many parts as `parts` says where they divide the rows evenly, else one."""
    return parts() if rows % parts() == 0 else 1


def multiply(
    left: Float[Tensor, "rows k"], right: Float[Tensor, "k co"], out: Float[Tensor, "rows co"], *, add: bool = False
) -> None:
    """out = left·right, or out += left·right, with the rows cut into a part a thread where that goes evenly.

    The library's own cut of one tall product leaves a third of the speed unused with 64 columns.
    """
    count = even_parts(len(left))
    pieces, target = left.unflatten(0, (count, -1)), out.unflatten(0, (count, -1))
    factor = right.expand(count, *right.shape)
    if add:
        target.baddbmm_(pieces, factor)
    else:
        torch.bmm(pieces, factor, out=target)


def add_products(
    total: Float[Tensor, "p k co"], left: Float[Tensor, "rows k"], right: Float[Tensor, "rows co"]
) -> None:
    """total += leftᵀ·right, with the rows cut into as many parts as `total` has; their number must divide the rows."""
    count = len(total)
    total.baddbmm_(left.unflatten(0, (count, -1)).transpose(1, 2), right.unflatten(0, (count, -1)))
