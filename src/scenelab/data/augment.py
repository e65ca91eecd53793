"""Augmentation of whole batches on any device: every draw comes from the generator that is handed in.

Geometry (flip, rotation, crop) is composed into one affine map an image and sampled once, so that a picture is
interpolated once instead of three times.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from pydantic import AfterValidator, Field
from torch import Generator, Tensor

from scenelab.schema import Share, config_class

CROP_ATTEMPTS = 10  # as torchvision's RandomResizedCrop
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601; torchvision rounds the first to 0.2989


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if not 0 < bounds[0] <= bounds[1]:
        raise ValueError("expected 0 < low <= high")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
Strength = Annotated[float, Field(ge=0, le=10)]
Beta = Annotated[float, Field(ge=0, le=1000)]


@config_class("augment")
class Augment:
    """What is drawn for each training image; a zero (or None) switches a part off.

    Attributes:
        flip: mirror half of the images.
        degrees: rotation drawn from [-degrees, degrees]; what comes in from outside is black.
        area: range of the crop's share of the picture; None keeps the whole picture.
        aspect: range of the crop's width over height, drawn uniformly in its logarithm.
        gain: each colour channel is multiplied by a factor from [1-gain, 1+gain].
        brightness, contrast, saturation: strength s of a factor from [1-s, 1+s] (torchvision's ColorJitter).
        erase: probability of filling a random rectangle with the picture's mean (Zhong et al. 2020).
        mixup, cutmix: Beta(a, a) parameter (Zhang et al. 2018, Yun et al. 2019); with both, each batch takes one.
        mixed: probability that a batch is mixed at all.
    """

    flip: bool = False
    degrees: Annotated[float, Field(ge=0, le=360)] = 0.0
    area: Annotated[tuple[Share, Share], AfterValidator(_ordered)] | None = None
    aspect: Range = (3 / 4, 4 / 3)
    gain: Strength = 0.0
    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    erase: Share = 0.0
    mixup: Beta = 0.0
    cutmix: Beta = 0.0
    mixed: Share = 1.0

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed with one another."""
        return bool(self.mixup or self.cutmix)


HANDOUT = Augment(flip=True, degrees=15.0, area=(0.25, 1.0), aspect=(0.8, 1.2), gain=0.15)
"""The handout's: mirror, colour 0.15, rotation ±15°, random sized crop of 25–100 % of the area, aspect 0.8–1.2."""


@dataclass(frozen=True)
class Part:
    """Some images of a batch: what is drawn for them does not depend on whether the others are there.

    Attributes:
        count: images of the whole batch.
        rows: which of them are at hand.
    """

    count: int
    rows: slice


def uniform(count: int, low: float, high: float, generator: Generator) -> Float[Tensor, " n"]:
    """Draw `count` values from [low, high)."""
    return torch.empty(count, device=generator.device).uniform_(low, high, generator=generator)


def uniform_each(
    images: Tensor, low: float, high: float, generator: Generator, part: Part | None, *, each: int = 1
) -> Float[Tensor, "n each"]:
    """Draw `each` values from [low, high) for each of the images; for those of a part out of draws for the batch."""
    drawn = uniform((part.count if part else len(images)) * each, low, high, generator).view(-1, each)
    return drawn[part.rows] if part else drawn


def crop_sides(
    count: int, area: tuple[float, float], aspect: tuple[float, float], generator: Generator
) -> Float[Tensor, "2 n"]:
    """Draw crop heights and widths as shares of the picture's side, in (0, 1].

    Area and log aspect are uniform; pairs that do not fit are drawn again up to ten times, then the whole picture
    is taken (Szegedy et al. 2015, as torchvision's RandomResizedCrop).
    """
    drawn_area = uniform(CROP_ATTEMPTS * count, *area, generator).view(CROP_ATTEMPTS, count)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    root = torch.exp(0.5 * uniform(CROP_ATTEMPTS * count, low, high, generator)).view(CROP_ATTEMPTS, count)
    side = drawn_area.sqrt()
    sides = torch.stack([side / root, side * root])
    fits = (sides <= 1).all(dim=0)
    first = fits.to(torch.int8).argmax(dim=0)
    chosen = sides.gather(1, first.expand(2, 1, count))[:, 0]
    return torch.where(fits.any(dim=0), chosen, torch.ones_like(chosen))


def affine_maps(count: int, augment: Augment, generator: Generator) -> Float[Tensor, "n 2 3"]:
    """Draw one map an image from output to input coordinates, both in [-1, 1] (`affine_grid`'s convention).

    Read from the input: mirror, then rotate, then crop. So the map is mirror ∘ rotate ∘ crop on coordinates.
    """
    height, width = torch.ones(2, count, device=generator.device)
    if augment.area is not None:
        height, width = crop_sides(count, augment.area, augment.aspect, generator)
    top = uniform(count, -1, 1, generator) * (1 - height)
    left = uniform(count, -1, 1, generator) * (1 - width)
    angle = torch.deg2rad(uniform(count, -augment.degrees, augment.degrees, generator))
    cos, sin = angle.cos(), angle.sin()
    mirror = torch.ones_like(cos)
    if augment.flip:
        mirror = 1 - 2 * (uniform(count, 0, 1, generator) < 0.5).to(cos.dtype)
    x_row = torch.stack([cos * width, -sin * height, cos * left - sin * top], dim=1) * mirror[:, None]
    y_row = torch.stack([sin * width, cos * height, sin * left + cos * top], dim=1)
    return torch.stack([x_row, y_row], dim=1)


def warp(images: Float[Tensor, "n c h w"], maps: Float[Tensor, "n 2 3"], size: int) -> Float[Tensor, "n c s s"]:
    """Sample each image through its map, bilinearly, black outside."""
    if not len(images):
        return images.new_empty(0, images.shape[1], size, size)  # the library refuses to sample nothing
    grid = F.affine_grid(maps, [len(images), images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def resize(images: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c s s"]:
    """Resize square images, antialiased; the same tensor where the size is right already."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def scale_channels(
    images: Float[Tensor, "n c h w"], gain: float, generator: Generator, part: Part | None = None
) -> Float[Tensor, "n c h w"]:
    """Multiply each channel of each image by a factor from [1-gain, 1+gain] and clip to [0, 1]."""
    factors = uniform_each(images, 1 - gain, 1 + gain, generator, part, each=images.shape[1])
    return (images * factors[:, :, None, None]).clamp_(0, 1)


def blend(
    images: Float[Tensor, "n c h w"], other: Tensor, strength: float, generator: Generator, part: Part | None = None
) -> Float[Tensor, "n c h w"]:
    """factor · images + (1 - factor) · other, factor from [1-strength, 1+strength], clipped to [0, 1]."""
    factor = uniform_each(images, max(0.0, 1 - strength), 1 + strength, generator, part)[:, :, None, None]
    return (images * factor + other * (1 - factor)).clamp_(0, 1)


def jitter(
    images: Float[Tensor, "n 3 h w"], augment: Augment, generator: Generator, part: Part | None = None
) -> Float[Tensor, "n 3 h w"]:
    """Brightness, contrast and saturation in this order, each as torchvision's ColorJitter defines it."""
    luma = torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)
    if augment.brightness:
        images = blend(images, torch.zeros((), device=images.device), augment.brightness, generator, part)
    if augment.contrast:
        grey = (images * luma).sum(dim=1, keepdim=True)
        images = blend(images, grey.mean(dim=(2, 3), keepdim=True), augment.contrast, generator, part)
    if augment.saturation:
        images = blend(images, (images * luma).sum(dim=1, keepdim=True), augment.saturation, generator, part)
    return images


def boxes(count: int, share: Float[Tensor, " n"], generator: Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Square boxes of the given area share at random centres, cut at the border: y0, y1, x0, x1 in [0, 1]."""
    half = share.sqrt() / 2
    y, x = uniform(count, 0, 1, generator), uniform(count, 0, 1, generator)
    return (y - half).clamp(0, 1), (y + half).clamp(0, 1), (x - half).clamp(0, 1), (x + half).clamp(0, 1)


def box_mask(edges: tuple[Tensor, Tensor, Tensor, Tensor], height: int, width: int) -> Tensor:
    """N×1×H×W boolean mask of the pixels whose centre lies in the box."""
    y0, y1, x0, x1 = (edge.view(-1, 1) for edge in edges)
    rows = (torch.arange(height, device=y0.device) + 0.5) / height
    columns = (torch.arange(width, device=y0.device) + 0.5) / width
    inside_rows = (rows >= y0) & (rows < y1)
    inside_columns = (columns >= x0) & (columns < x1)
    return (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]


def erase(
    images: Float[Tensor, "n c h w"], probability: float, generator: Generator, part: Part | None = None
) -> Float[Tensor, "n c h w"]:
    """Fill a box of 2–33 % of the area with the image's mean colour, with the given probability (Zhong et al. 2020)."""
    count, rows = (part.count, part.rows) if part else (len(images), slice(None))
    hit = uniform(count, 0, 1, generator)[rows] < probability
    top, bottom, left, right = boxes(count, uniform(count, 0.02, 0.33, generator), generator)
    mask = box_mask((top[rows], bottom[rows], left[rows], right[rows]), *images.shape[-2:])
    return torch.where(mask & hit.view(-1, 1, 1, 1), images.mean(dim=(2, 3), keepdim=True), images)


def augment_batch(
    images: Float[Tensor, "n 3 h w"], augment: Augment, generator: Generator, *, size: int, part: Part | None = None
) -> Float[Tensor, "n 3 s s"]:
    """Apply everything but mixing to a batch in [0, 1]; the result is in [0, 1] and size×size.

    Args:
        part: where `images` are some of a batch, which; they come out as they would among the others.
    """
    count, rows = (part.count, part.rows) if part else (len(images), slice(None))
    if augment.area is not None or augment.degrees:
        images = warp(images, affine_maps(count, augment, generator)[rows], size)
    else:
        images = resize(images, size)
        if augment.flip:
            mirrored = uniform(count, 0, 1, generator)[rows] < 0.5
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
    if augment.gain:
        images = scale_channels(images, augment.gain, generator, part)
    images = jitter(images, augment, generator, part)
    return erase(images, augment.erase, generator, part) if augment.erase else images


def mix_batch(
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"] | Float[Tensor, "n k"],
    augment: Augment,
    generator: Generator,
    *,
    num_classes: int,
) -> tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"] | Float[Tensor, "n k"]]:
    """Mixup or CutMix with a permuted batch; labels become N×K shares. Without either, both come back as they are."""
    choices = [name for name in ("mixup", "cutmix") if getattr(augment, name)]
    if not choices:
        return images, labels
    if augment.mixed < 1 and torch.rand(1, generator=generator, device=generator.device).item() >= augment.mixed:
        return images, labels
    pick = int(torch.randint(len(choices), (1,), generator=generator, device=generator.device))
    alpha = getattr(augment, choices[pick])
    keep = _beta(alpha, generator)
    order = torch.randperm(len(images), generator=generator, device=generator.device)
    if choices[pick] == "mixup":
        mixed = images * keep + images[order] * (1 - keep)
    else:
        edges = boxes(1, torch.tensor([1 - keep], device=generator.device), generator)
        mask = box_mask(edges, *images.shape[-2:])
        mixed = torch.where(mask, images[order], images)
        keep = 1 - mask.float().mean().item()
    shares = labels if labels.is_floating_point() else F.one_hot(labels, num_classes).float()
    return mixed, shares * keep + shares[order] * (1 - keep)


def _beta(alpha: float, generator: Generator) -> float:
    """One draw from Beta(alpha, alpha) as a ratio of Gamma draws, which take a generator."""
    pair = torch._standard_gamma(  # pyright: ignore[reportPrivateImportUsage]
        torch.full((2,), alpha, device=generator.device), generator=generator
    )
    return float(pair[0] / pair.sum())
