"""Do the places that a map calls important matter to the model? Deletion and insertion (Petsiuk et al. 2018).

Pixels are made grey, the most important first (deletion), or brought back into a blurred picture (insertion), and the
target's probability is followed. A map that tells the truth makes it fall fast and rise fast. The areas below the
curves mean little alone: they are held against maps that know nothing of the model, scattered pixels, edges, random
blobs as coarse as a late layer's maps, and the picture's middle.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from scenelab.classifier import Model, ask, evaluating

BLUR = 11.0  # standard deviation in pixels of a picture of 128; larger ones have more
GREY = 0.5  # what a deleted pixel shows, in images in [0, 1]
STEPS = 20
COARSE = 16  # pixels that one value of a random blob covers: as much as a value of our networks' last maps


@dataclass(frozen=True)
class Curves:
    """Probability of the target against the share of pixels that were deleted or inserted, an image a row.

    The areas are means over the curves by the trapezoidal rule, in [0, 1]; of deletion low ones are good, of insertion
    high ones.
    """

    deletion: Float[Tensor, "n s"]
    insertion: Float[Tensor, "n s"]

    @property
    def deletion_area(self) -> Float[Tensor, " n"]:
        return _area(self.deletion)

    @property
    def insertion_area(self) -> Float[Tensor, " n"]:
        return _area(self.insertion)


def _area(curves: Tensor) -> Tensor:
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1), dim=1)


def follow(
    model: Model,
    images: Float[Tensor, "n c h w"],
    maps: Float[Tensor, "n 1 h w"],
    targets: Int64[Tensor, " n"],
    *,
    steps: int = STEPS,
) -> Curves:
    """Deletion and insertion curves of maps; equal values come in a random order that is the same for all images.

    Args:
        maps: importance of each pixel, larger is more important.
        steps: parts of equal size in which pixels are replaced; a curve has one point more.
    """
    blurred, grey = blur(images), torch.full_like(images, GREY)
    pixels = maps.shape[2] * maps.shape[3]
    mixed = torch.randperm(pixels, generator=torch.Generator().manual_seed(0)).to(maps.device)
    order = mixed[maps.flatten(1)[:, mixed].argsort(dim=1, descending=True, stable=True)]
    ranks = order.argsort(dim=1).view_as(maps)
    deletion, insertion = [], []
    with evaluating(model), torch.no_grad():
        for step in range(steps + 1):
            taken = ranks < round(pixels * step / steps)
            for curve, inside, outside in ((deletion, grey, images), (insertion, images, blurred)):
                scores = ask(model, torch.where(taken, inside, outside))
                curve.append(scores.softmax(dim=1).gather(1, targets[:, None])[:, 0])
    return Curves(torch.stack(deletion, dim=1), torch.stack(insertion, dim=1))


def blur(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The pictures without their content: blurred until only large areas of colour are left."""
    sigma = BLUR * images.shape[-1] / 128
    side = min(2 * round(3 * sigma) + 1, 2 * (min(images.shape[2:]) // 2) - 1)
    return gaussian_blur(images, [side, side], [sigma, sigma])


def edges(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """How much the brightness changes, by Sobel's operator: a map that looks plausible and knows no model."""
    grey = images.mean(dim=1, keepdim=True)
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=images.dtype, device=images.device)
    kernels = torch.stack([across, across.t()])[:, None]
    return F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels).square().sum(dim=1, keepdim=True).sqrt()


def scatter(images: Float[Tensor, "n c h w"], *, seed: int = 0) -> Float[Tensor, "n 1 h w"]:
    """A random map: what any order of pixels would do."""
    generator = torch.Generator(device=images.device).manual_seed(seed)
    count, _, height, width = images.shape
    return torch.rand(count, 1, height, width, generator=generator, dtype=images.dtype, device=images.device)


def blobs(images: Float[Tensor, "n c h w"], *, seed: int = 1) -> Float[Tensor, "n 1 h w"]:
    """Coarse random values, enlarged as Grad-CAM's are: a map of regions that knows no model."""
    count, _, height, width = images.shape
    sides = (max(2, height // COARSE), max(2, width // COARSE))
    generator = torch.Generator(device=images.device).manual_seed(seed)
    coarse = torch.rand(count, 1, *sides, generator=generator, dtype=images.dtype, device=images.device)
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)


def middle(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """High in the middle and low at the border: where photographs have what they show."""
    rows, columns = (torch.linspace(-1, 1, side, dtype=images.dtype, device=images.device) for side in images.shape[2:])
    value = torch.exp(-2 * (rows[:, None].square() + columns.square()))
    return value.expand(len(images), 1, *images.shape[2:]).contiguous()


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "random": scatter, "edges": edges, "blobs": blobs, "middle": middle,
}  # fmt: skip
