"""Augment batches of images on any device; all randomness comes from the generator argument.

Flip, rotation and crop are composed into one affine map per image, so that each image is interpolated once.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor

from scenelab.classifier import Images
from scenelab.data.augment_config import Augment

CROP_ATTEMPTS = 10  # as torchvision's RandomResizedCrop
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601; torchvision uses 0.2989 for red


Targets = Int64[Tensor, " n"] | Float[Tensor, "n k"]


@dataclass(frozen=True)
class Shard:
    """One rank's `rows` of a global batch of `batch_size` images; they are augmented exactly as in the global batch."""

    batch_size: int
    rows: slice


def uniform(count: int, low: float, high: float, generator: Generator) -> Float[Tensor, " n"]:
    """Sample `count` values uniformly from [low, high), on the generator's device."""
    return torch.empty(count, device=generator.device).uniform_(low, high, generator=generator)


def _factors(
    images: Images, low: float, high: float, generator: Generator, shard: Shard | None, columns: int = 1
) -> Tensor:
    """Sample `columns` factors in [low, high) per image of the global batch; return the shard's, N×columns×1×1."""
    shard = shard or Shard(len(images), slice(None))
    return uniform(shard.batch_size * columns, low, high, generator).view(-1, columns, 1, 1)[shard.rows]


def crop_sides(
    count: int, area: tuple[float, float], aspect: tuple[float, float], generator: Generator
) -> Float[Tensor, "2 n"]:
    """Sample heights (row 0) and widths (row 1) of crops in (0, 1], as fractions of the image's side.

    Area and log aspect ratio are uniform. After ten samples that do not fit into the image, the crop is the full image
    (Szegedy et al. 2015, as torchvision's RandomResizedCrop).
    """
    areas = uniform(CROP_ATTEMPTS * count, *area, generator).view(CROP_ATTEMPTS, count)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    root_aspects = torch.exp(0.5 * uniform(CROP_ATTEMPTS * count, low, high, generator)).view(CROP_ATTEMPTS, count)
    sides = torch.stack([areas.sqrt() / root_aspects, areas.sqrt() * root_aspects])  # 2 × attempts × n
    fits = (sides <= 1).all(dim=0)
    first = fits.to(torch.int8).argmax(dim=0)
    selected = sides.gather(1, first.expand(2, 1, count))[:, 0]
    return torch.where(fits.any(dim=0), selected, torch.ones_like(selected))


def affine_maps(count: int, augment: Augment, generator: Generator) -> Float[Tensor, "n 2 3"]:
    """Sample one affine map per image: flip ∘ rotation ∘ crop.

    A map takes output coordinates to input coordinates, both in [-1, 1] (convention of `F.affine_grid`).
    """
    height, width = torch.ones(2, count, device=generator.device)
    if augment.area is not None:
        height, width = crop_sides(count, augment.area, augment.aspect, generator)
    top, left = (uniform(count, -1, 1, generator) * (1 - side) for side in (height, width))
    angle = torch.deg2rad(uniform(count, -augment.degrees, augment.degrees, generator))
    cos, sin = angle.cos(), angle.sin()
    sign = torch.ones_like(cos)
    if augment.flip:
        sign = 1 - 2 * (uniform(count, 0, 1, generator) < 0.5).to(cos.dtype)
    x_row = torch.stack([cos * width, -sin * height, cos * left - sin * top], dim=1) * sign[:, None]
    y_row = torch.stack([sin * width, cos * height, sin * left + cos * top], dim=1)
    return torch.stack([x_row, y_row], dim=1)


def warp(images: Images, maps: Float[Tensor, "n 2 3"], size: int) -> Float[Tensor, "n c s s"]:
    """Transform each image by its affine map to size×size pixels, with bilinear interpolation and black padding."""
    if not len(images):
        return images.new_empty(0, images.shape[1], size, size)  # grid_sample accepts no empty batch
    grid = F.affine_grid(maps, [len(images), images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def resize(images: Images, size: int) -> Float[Tensor, "n c s s"]:
    """Resize square images to size×size pixels with antialiasing; return the input itself if no change is needed."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def scale_channels(images: Images, gain: float, generator: Generator, shard: Shard | None = None) -> Images:
    """Multiply each channel of each image by a random factor from [1-gain, 1+gain] and clamp to [0, 1]."""
    return (images * _factors(images, 1 - gain, 1 + gain, generator, shard, images.shape[1])).clamp_(0, 1)


def blend(images: Images, other: Tensor, strength: float, generator: Generator, shard: Shard | None = None) -> Images:
    """Blend each image with `other` by a random factor f: f · image + (1 - f) · other, clamped to [0, 1].

    One f per image is sampled uniformly from [max(0, 1-strength), 1+strength).
    """
    factor = _factors(images, max(0.0, 1 - strength), 1 + strength, generator, shard)
    return (images * factor + other * (1 - factor)).clamp_(0, 1)


def jitter(images: Images, augment: Augment, generator: Generator, shard: Shard | None = None) -> Images:
    """Jitter brightness, contrast and saturation in this order, each as in torchvision's `ColorJitter`."""
    luma = torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)
    if augment.brightness:
        images = blend(images, torch.zeros((), device=images.device), augment.brightness, generator, shard)
    if augment.contrast:
        gray = (images * luma).sum(dim=1, keepdim=True)
        images = blend(images, gray.mean(dim=(2, 3), keepdim=True), augment.contrast, generator, shard)
    if augment.saturation:
        images = blend(images, (images * luma).sum(dim=1, keepdim=True), augment.saturation, generator, shard)
    return images


def boxes(count: int, area: Float[Tensor, " n"], generator: Generator) -> Float[Tensor, "4 n"]:
    """Return edges y0, y1, x0, x1 of a random square per image with the area fraction `area`, clamped to [0, 1]."""
    half = area.sqrt() / 2
    y, x = uniform(count, 0, 1, generator), uniform(count, 0, 1, generator)
    return torch.stack([y - half, y + half, x - half, x + half]).clamp(0, 1)


def box_mask(edges: Float[Tensor, "4 n"], height: int, width: int) -> Bool[Tensor, "n 1 h w"]:
    """Return a mask per image: True for pixels whose center is inside the box y0, y1, x0, x1 in [0, 1]."""
    y0, y1, x0, x1 = edges[:, :, None]
    y = (torch.arange(height, device=edges.device) + 0.5) / height
    x = (torch.arange(width, device=edges.device) + 0.5) / width
    in_rows, in_columns = (y >= y0) & (y < y1), (x >= x0) & (x < x1)
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def erase(images: Images, probability: float, generator: Generator, shard: Shard | None = None) -> Images:
    """Fill a square of 2–33 % of the area with the mean color, with `probability` per image (Zhong et al. 2020)."""
    shard = shard or Shard(len(images), slice(None))
    is_hit = _factors(images, 0, 1, generator, shard) < probability
    edges = boxes(shard.batch_size, uniform(shard.batch_size, 0.02, 0.33, generator), generator)
    mask = box_mask(edges[:, shard.rows], *images.shape[-2:])
    return torch.where(mask & is_hit, images.mean(dim=(2, 3), keepdim=True), images)


def augment_batch(
    images: Images, augment: Augment, generator: Generator, *, size: int, shard: Shard | None = None
) -> Float[Tensor, "n 3 s s"]:
    """Apply all transforms except mixup and CutMix to images in [0, 1].

    Args:
        images: a batch, or the rows of a global batch that belong to `shard`.
        augment: the transforms and their strengths.
        generator: must be on the images' device.
        size: side of the returned images in pixels.
        shard: the rank's rows of the global batch; None if `images` is the global batch.
    """
    shard = shard or Shard(len(images), slice(None))
    if augment.area is not None or augment.degrees:
        images = warp(images, affine_maps(shard.batch_size, augment, generator)[shard.rows], size)
    else:
        images = resize(images, size)
        if augment.flip:
            images = torch.where(_factors(images, 0, 1, generator, shard) < 0.5, images.flip(-1), images)
    if augment.gain:
        images = scale_channels(images, augment.gain, generator, shard)
    images = jitter(images, augment, generator, shard)
    return erase(images, augment.erase, generator, shard) if augment.erase else images


def mix_batch(
    images: Images, labels: Targets, augment: Augment, generator: Generator, *, num_classes: int
) -> tuple[Images, Targets]:
    """Mix a batch with a permutation of itself by mixup or CutMix.

    Returns:
        Mixed images and N×K class probabilities, or the inputs unchanged if the batch is not mixed.
    """
    methods = [name for name in ("mixup", "cutmix") if getattr(augment, name)]
    if not methods:
        return images, labels
    if augment.mixed < 1 and torch.rand(1, generator=generator, device=generator.device).item() >= augment.mixed:
        return images, labels
    method = methods[int(torch.randint(len(methods), (1,), generator=generator, device=generator.device))]
    weight = _beta(getattr(augment, method), generator)
    order = torch.randperm(len(images), generator=generator, device=generator.device)
    if method == "mixup":
        mixed = images * weight + images[order] * (1 - weight)
    else:
        edges = boxes(1, torch.tensor([1 - weight], device=generator.device), generator)
        mask = box_mask(edges, *images.shape[-2:])
        mixed = torch.where(mask, images[order], images)
        weight = 1 - mask.float().mean().item()
    targets = labels if labels.is_floating_point() else F.one_hot(labels, num_classes).float()
    return mixed, targets * weight + targets[order] * (1 - weight)


def _beta(alpha: float, generator: Generator) -> float:
    """Sample from Beta(alpha, alpha) as a ratio of Gamma samples; torch's Beta takes no generator."""
    pair = torch._standard_gamma(  # pyright: ignore[reportPrivateImportUsage]
        torch.full((2,), alpha, device=generator.device), generator=generator
    )
    return float(pair[0] / pair.sum())
