"""Do the places that a map calls important matter to the model? Deletion and insertion (Petsiuk et al. 2018).

Pixels are replaced by a blurred picture, the most important first (deletion, for which the paper takes a grey one), or
brought back into it (insertion), and the target's probability is followed. A map that tells the truth makes it fall
fast and rise fast. The areas below the curves mean little alone: a random order and an edge detector, which know
nothing of the model, are what they are held against.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from scenelab.asking import Model, ask, evaluating

BLUR = 11.0  # standard deviation in pixels of a picture of 128; larger ones have more
STEPS = 20


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
    blurred = blur(images)
    pixels = maps.shape[2] * maps.shape[3]
    mixed = torch.randperm(pixels, generator=torch.Generator().manual_seed(0)).to(maps.device)
    order = mixed[maps.flatten(1)[:, mixed].argsort(dim=1, descending=True, stable=True)]
    ranks = order.argsort(dim=1).view_as(maps)
    deletion, insertion = [], []
    with evaluating(model), torch.no_grad():
        for step in range(steps + 1):
            taken = ranks < round(pixels * step / steps)
            for curve, inside, outside in ((deletion, blurred, images), (insertion, images, blurred)):
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


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {"random": scatter, "edges": edges}
