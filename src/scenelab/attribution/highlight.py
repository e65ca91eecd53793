"""Grid of images with their most important pixels in red, like the handout's `vis_grad_attention`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.utils import make_grid

DIMMED = 0.3  # factor of green and blue in red pixels, so that red shows on white


def highlight_grid(
    images: Float[Tensor, "n 3 h w"], maps: Float[Tensor, "n 1 h w"] | None, *, alpha: float, columns: int
) -> Float[Tensor, "3 rows cols"]:
    """Return a grid of images, `columns` per row, with pixels in red where a map exceeds `alpha` times its mean.

    The values of each image are rescaled from [minimum, maximum] to [0, 1]. If `maps` is None, no pixel is red.
    """
    grid = make_grid(images.detach().float().cpu(), nrow=columns, normalize=True, scale_each=True)
    if maps is None:
        return grid
    maps = maps.detach().float().cpu()
    strong = maps > alpha * maps.mean(dim=(1, 2, 3), keepdim=True)
    red = make_grid(strong.float(), nrow=columns)[:1].bool()
    return torch.where(red, torch.cat([torch.ones_like(grid[:1]), grid[1:] * DIMMED]), grid)
