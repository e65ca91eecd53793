"""Deletion and insertion: do the important pixels matter to the model (Petsiuk et al. 2018)?

Pixels become gray, the most important first (deletion), or are restored in a blurred image (insertion), while the
target's probability is recorded. A faithful map makes it fall fast and rise fast. The areas under the curves are
compared with those of maps that do not depend on the model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from scenelab.classifier import Model, eval_mode, logits_of

BLUR = 11.0  # standard deviation in pixels for an image of 128 pixels; it scales with the image
GRAY = 0.5  # value of deleted pixels, for images in [0, 1]
STEPS = 20
BLOB_SIZE = 16  # pixels per value of a blob map, as in the last feature maps of our networks


@dataclass(frozen=True)
class Curves:
    """Probability of the target against the share of deleted or inserted pixels, one row per image.

    Areas are by the trapezoidal rule, in [0, 1]; low is good for deletion, high for insertion.
    """

    deletion: Float[Tensor, "n s"]
    insertion: Float[Tensor, "n s"]

    @property
    def deletion_area(self) -> Float[Tensor, " n"]:
        """Area under each deletion curve."""
        return _area(self.deletion)

    @property
    def insertion_area(self) -> Float[Tensor, " n"]:
        """Area under each insertion curve."""
        return _area(self.insertion)


def _area(curves: Tensor) -> Tensor:
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1), dim=1)


def deletion_insertion(
    model: Model,
    images: Float[Tensor, "n c h w"],
    maps: Float[Tensor, "n 1 h w"],
    targets: Int64[Tensor, " n"],
    *,
    steps: int = STEPS,
) -> Curves:
    """Return the curves of maps; ties are broken in a random order that is the same for all images.

    Args:
        maps: importance of each pixel; larger is more important.
        steps: equal parts in which pixels are replaced; a curve has one more point.
    """
    blurred, gray = blur(images), torch.full_like(images, GRAY)
    pixels = maps.shape[2] * maps.shape[3]
    shuffled = torch.randperm(pixels, generator=torch.Generator().manual_seed(0)).to(maps.device)
    order = shuffled[maps.flatten(1)[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    ranks = order.argsort(dim=1).view_as(maps)
    deletion, insertion = [], []
    with eval_mode(model), torch.no_grad():
        for step in range(steps + 1):
            replaced = ranks < round(pixels * step / steps)
            for curve, inside, outside in ((deletion, gray, images), (insertion, images, blurred)):
                logits = logits_of(model, torch.where(replaced, inside, outside))
                curve.append(logits.softmax(dim=1).gather(1, targets[:, None])[:, 0])
    return Curves(torch.stack(deletion, dim=1), torch.stack(insertion, dim=1))


def blur(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Blur images until only large areas of color are left."""
    sigma = BLUR * images.shape[-1] / 128
    side = min(2 * round(3 * sigma) + 1, 2 * (min(images.shape[2:]) // 2) - 1)
    return gaussian_blur(images, [side, side], [sigma, sigma])


def edge_map(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return the magnitude of Sobel's gradient of the brightness, which looks plausible and uses no model."""
    gray = images.mean(dim=1, keepdim=True)
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=images.dtype, device=images.device)
    kernels = torch.stack([sobel, sobel.t()])[:, None]
    return F.conv2d(F.pad(gray, (1, 1, 1, 1), mode="replicate"), kernels).square().sum(dim=1, keepdim=True).sqrt()


def random_map(images: Float[Tensor, "n c h w"], *, seed: int = 0) -> Float[Tensor, "n 1 h w"]:
    """Return uniform random values."""
    return _uniform(images, images.shape[2], images.shape[3], seed)


def blob_map(images: Float[Tensor, "n c h w"], *, seed: int = 1) -> Float[Tensor, "n 1 h w"]:
    """Return coarse random values, upsampled as Grad-CAM's are."""
    height, width = images.shape[2:]
    coarse = _uniform(images, max(2, height // BLOB_SIZE), max(2, width // BLOB_SIZE), seed)
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)


def _uniform(images: Tensor, height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator(device=images.device).manual_seed(seed)
    return torch.rand(len(images), 1, height, width, generator=generator, dtype=images.dtype, device=images.device)


def center_map(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return a Gaussian around the center, where photographs tend to have their subject."""
    rows, columns = (torch.linspace(-1, 1, side, dtype=images.dtype, device=images.device) for side in images.shape[2:])
    value = torch.exp(-2 * (rows[:, None].square() + columns.square()))
    return value.expand(len(images), 1, *images.shape[2:]).contiguous()


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "random": random_map,
    "edges": edge_map,
    "blobs": blob_map,
    "middle": center_map,
}
