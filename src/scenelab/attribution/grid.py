"""Many pictures as one, their strongest places in red: what the handout's `vis_grad_attention` draws."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.utils import make_grid

DIMMED = 0.3  # of green and blue where a map is strong, so that red shows on white as well


def show_strong(
    images: Float[Tensor, "n 3 h w"], maps: Float[Tensor, "n 1 h w"] | None, *, alpha: float, columns: int
) -> Float[Tensor, "3 rows cols"]:
    """A grid of pictures in [0, 1], in each those pixels red whose map is above alpha times the map's mean.

    Args:
        images: in any range; each is stretched from its smallest value to its largest.
        maps: one an image, of any scale; None shows the pictures alone.
        alpha: threshold in means of a map.
        columns: pictures in a row.
    """
    pictures = make_grid(images.detach().float().cpu(), nrow=columns, normalize=True, scale_each=True)
    if maps is None:
        return pictures
    maps = maps.detach().float().cpu()
    strong = maps > alpha * maps.mean(dim=(1, 2, 3), keepdim=True)
    red = make_grid(strong.float(), nrow=columns)[:1].bool()
    shown = torch.cat([torch.ones_like(pictures[:1]), pictures[1:] * DIMMED])
    return torch.where(red, shown, pictures)
