"""A grid of images with their strongest pixels in red, as the handout's `vis_grad_attention` draws it."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.utils import make_grid

DIMMED = 0.3  # factor for green and blue where a map is strong, so that red shows on white


def highlight_grid(
    images: Float[Tensor, "n 3 h w"], maps: Float[Tensor, "n 1 h w"] | None, *, alpha: float, columns: int
) -> Float[Tensor, "3 rows cols"]:
    """Return a grid in [0, 1] in which pixels are red where their map exceeds alpha times its mean.

    Each image is scaled from its minimum to its maximum; without maps they are shown alone.
    """
    grid = make_grid(images.detach().float().cpu(), nrow=columns, normalize=True, scale_each=True)
    if maps is None:
        return grid
    maps = maps.detach().float().cpu()
    strong = maps > alpha * maps.mean(dim=(1, 2, 3), keepdim=True)
    red = make_grid(strong.float(), nrow=columns)[:1].bool()
    return torch.where(red, torch.cat([torch.ones_like(grid[:1]), grid[1:] * DIMMED]), grid)
