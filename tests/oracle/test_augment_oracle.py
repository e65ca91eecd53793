"""Augmentation against torchvision's functional transforms, image by image with the same parameters."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as oracle

from scenelab.data.augment import affine_maps, crop_sides, jitter, resize, uniform, warp
from scenelab.data.augment_config import HANDOUT, Augment

BILINEAR = InterpolationMode.BILINEAR
LUMA_ROUNDED = 2e-4  # torchvision weights red by 0.2989, we by 0.299


def dice(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def noise(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side, generator=dice(7)).double()


def smooth(side: int) -> Tensor:
    """Return an image of slow waves without symmetry, which a second interpolation hardly changes."""
    y, x = torch.meshgrid(*[torch.linspace(0, 1, side, dtype=torch.float64)] * 2, indexing="ij")
    waves = [torch.sin(5 * x + 2 * y), torch.cos(3 * y - 4 * x * y), torch.sin(2 * x * x + 6 * y)]
    return torch.stack(waves)[None].mul(0.5).add(0.5)


def matrix(mirror: float, degrees: float, width: float, height: float, left: float, top: float) -> Tensor:
    """Return the map as a product: flip ∘ rotation ∘ crop, on coordinates in [-1, 1]."""
    angle = math.radians(degrees)
    crop = torch.tensor([[width, 0, left], [0, height, top], [0, 0, 1]], dtype=torch.float64)
    turn = torch.eye(3, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return (torch.diag(torch.tensor([mirror, 1, 1], dtype=torch.float64)) @ turn @ crop)[:2]


def parameters(mapping: Tensor) -> tuple[float, float, float, float, float, float]:
    """Read flip, angle, crop sides and crop center from a map."""
    linear, offset = mapping[:, :2].double(), mapping[:, 2].double()
    mirror = torch.diag(torch.stack([torch.linalg.det(linear).sign(), torch.ones(())]).double())
    turned, moved = mirror @ linear, mirror @ offset
    width, height = turned[:, 0].norm(), turned[:, 1].norm()
    turn = torch.stack([turned[:, 0] / width, turned[:, 1] / height], dim=1)
    left, top = turn.T @ moved
    degrees = math.degrees(math.atan2(turn[1, 0], turn[0, 0]))
    return mirror[0, 0].item(), degrees, width.item(), height.item(), left.item(), top.item()


@pytest.mark.parametrize(
    "augment", [HANDOUT, Augment(degrees=40.0, area=(0.1, 0.9), aspect=(0.5, 2.0)), Augment(flip=True)]
)
def test_maps_are_flip_after_rotation_after_crop(augment):
    for mapping in affine_maps(200, augment, dice()):
        mirror, degrees, width, height, left, top = parameters(mapping)
        again = matrix(mirror, degrees, width, height, left, top)
        assert torch.allclose(again, mapping.double(), rtol=0, atol=1e-5)
        assert abs(degrees) <= augment.degrees + 1e-4
        assert abs(left) <= 1 - width + 1e-5
        assert abs(top) <= 1 - height + 1e-5
        low, high = augment.area or (1, 1)
        assert low - 1e-5 <= width * height <= high + 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_one_warp_is_torchvisions_flip_rotate_and_crop(seed):
    """On a smooth image, since torchvision interpolates twice and repeats pixels at the border of a crop."""
    side, size = 64, 48
    image = smooth(side)
    for mapping in affine_maps(6, HANDOUT, dice(seed)):
        mirror, degrees, width, height, left, top = parameters(mapping)
        rows, columns = round(height * side), round(width * side)  # torchvision crops whole pixels
        first_row = round((top + 1 - height) / 2 * side)
        first_column = round((left + 1 - width) / 2 * side)
        center = (2 * first_column + columns) / side - 1, (2 * first_row + rows) / side - 1
        whole = matrix(mirror, degrees, columns / side, rows / side, *center)
        ours = warp(image, whole[None], size)
        flipped = oracle.horizontal_flip(image) if mirror < 0 else image
        turned = oracle.rotate(flipped, degrees, interpolation=BILINEAR)
        theirs = oracle.resized_crop(
            turned, first_row, first_column, rows, columns, [size, size], interpolation=BILINEAR, antialias=False
        )
        inside = warp(torch.ones_like(image), whole[None], size) > 0.999  # black corners have hard edges
        inside &= F.avg_pool2d(inside.double(), 5, stride=1, padding=2, count_include_pad=False) > 0.999
        inside[..., :2] = inside[..., -2:] = inside[..., :2, :] = inside[..., -2:, :] = False
        assert inside.float().mean() > 0.5
        assert (ours - theirs)[inside].abs().max() < 3e-3


@pytest.mark.parametrize("degrees", [-90, -33, -15, 4, 15, 90, 180])
def test_rotation_is_torchvisions_rotate(degrees):
    images = noise(2, 15)
    maps = matrix(1, degrees, 1, 1, 0, 0).expand(2, 2, 3)
    theirs = oracle.rotate(images, degrees, interpolation=BILINEAR)
    assert torch.allclose(warp(images, maps, 15), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("top", "left", "height", "width"), [(2, 3, 9, 11), (0, 0, 16, 7), (5, 1, 6, 15), (0, 0, 16, 16)]
)
def test_a_crop_is_torchvisions_resized_crop_inside_its_border(top, left, height, width):
    """At its border torchvision repeats the pixels of the crop; we interpolate with those beside it."""
    images, size = noise(2, 16), 24
    maps = matrix(1, 0, width / 16, height / 16, (2 * left + width) / 16 - 1, (2 * top + height) / 16 - 1)
    ours = warp(images, maps.expand(2, 2, 3), size)
    theirs = oracle.resized_crop(
        images, top, left, height, width, [size, size], interpolation=BILINEAR, antialias=False
    )
    rows, columns = math.ceil(size / height / 2), math.ceil(size / width / 2)
    inner = (..., slice(rows, -rows), slice(columns, -columns))
    assert torch.allclose(ours[inner], theirs[inner], rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [9, 16, 40])
def test_resize_is_torchvisions_resize(size):
    images = noise(2, 25)
    theirs = oracle.resize(images, [size, size], interpolation=BILINEAR, antialias=True)
    assert torch.allclose(resize(images, size), theirs, rtol=0, atol=1e-12)


def test_crops_are_distributed_like_torchvisions():
    """Compare means and deviations of area and log aspect over 3,000 crops, within four standard errors."""
    area, aspect, count = (0.25, 1.0), (0.8, 1.2), 3000
    height, width = crop_sides(count, area, aspect, dice())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        image = torch.empty(1, 5000, 5000, device="meta")
        drawn = [RandomResizedCrop.get_params(image, list(area), list(aspect)) for _ in range(count)]
    their_height, their_width = torch.tensor([crop[2:] for crop in drawn]).T / 5000
    for ours, theirs in (
        (height * width, their_height * their_width),
        ((width / height).log(), (their_width / their_height).log()),
    ):
        error = 4 * (ours.var() / count + theirs.var() / count).sqrt()
        assert (ours.mean() - theirs.mean()).abs() < error
        assert ours.std() == pytest.approx(theirs.std().item(), rel=0.08)


ADJUSTMENTS = {
    "brightness": oracle.adjust_brightness,
    "contrast": oracle.adjust_contrast,
    "saturation": oracle.adjust_saturation,
}


@pytest.mark.parametrize(
    "strengths", [{"brightness": 0.6}, {"contrast": 0.6}, {"saturation": 0.6}, dict.fromkeys(ADJUSTMENTS, 0.4)]
)
def test_jitter_is_torchvisions_adjustments_in_their_order(strengths):
    images = noise(16, 9).float()
    ours = jitter(images, Augment(**strengths), dice(3))
    generator, theirs = dice(3), images
    for name, strength in strengths.items():
        factors = uniform(16, 1 - strength, 1 + strength, generator)
        theirs = torch.stack([ADJUSTMENTS[name](image, float(f)) for image, f in zip(theirs, factors, strict=True)])
    assert torch.allclose(ours, theirs, rtol=0, atol=2 * LUMA_ROUNDED)
    assert (ours - images).abs().max() > 0.1
