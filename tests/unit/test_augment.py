"""Augmentation by hand: ranges, seeds, mixing, erasing, and invalid settings."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from torch import Generator

from scenelab.data.augment import (
    Shard,
    affine_maps,
    augment_batch,
    box_mask,
    boxes,
    crop_sides,
    erase,
    mix_batch,
    resize,
    scale_channels,
    warp,
)
from scenelab.data.augment_config import HANDOUT, Augment
from scenelab.errors import LabError

COLOUR = dict.fromkeys(("gain", "brightness", "contrast", "saturation"), 0.4)
EVERYTHING = Augment(
    flip=True, degrees=15.0, area=(0.25, 1.0), aspect=(0.8, 1.25), erase=0.5, mixup=0.2, cutmix=1.0, **COLOUR
)


def dice(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def make_images(count: int = 8, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=dice(99))


def test_everything_is_off_by_default_and_the_handout_switches_on_its_own():
    off = Augment()
    assert not any([off.flip, off.area, off.degrees, off.erase, off.mixup, off.cutmix])
    assert not any(getattr(off, name) for name in COLOUR)
    assert Augment(flip=True, degrees=15.0, area=(0.25, 1.0), aspect=(0.8, 1.2), gain=0.15) == HANDOUT


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *(({name: -0.5}, f"{name}: got -0.5; expected at least 0") for name in ("degrees", "erase", "mixup", *COLOUR)),
        ({"cutmix": -0.5}, "cutmix: got -0.5; expected at least 0"),
        ({"erase": 25.0}, "erase: got 25.0; expected at most 1"),
        ({"mixed": 1.5}, "mixed: got 1.5; expected at most 1"),
        ({"area": (0.0, 1.0)}, "area: got (0.0, 1.0); expected 0 < low <= high"),
        ({"area": (0.5, 0.25)}, "area: got (0.5, 0.25); expected 0 < low <= high"),
        ({"area": (0.5, 1.5)}, "area[1]: got 1.5; expected at most 1"),
        ({"aspect": (0.0, 1.0)}, "aspect: got (0.0, 1.0); expected 0 < low <= high"),
        ({"aspect": (1.2, 0.8)}, "aspect: got (1.2, 0.8); expected 0 < low <= high"),
    ],
)
def test_an_invalid_setting_is_refused(values, message):
    with pytest.raises(LabError) as caught:
        Augment(**values)
    assert str(caught.value) == f"augment.{message}"


@pytest.mark.parametrize("side", [8, 13, 128])
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["identity", "flip"])
def test_warp_by_the_identity_and_by_a_flip_is_exact(side, sign):
    images = make_images(3, side).double()
    maps = torch.tensor([[sign, 0, 0], [0, 1, 0]]).double().expand(3, 2, 3)
    assert torch.allclose(warp(images, maps, side), images if sign > 0 else images.flip(-1), rtol=0, atol=1e-12)


def test_flip_mirrors_half_of_the_images_and_changes_nothing_else():
    images = make_images(400, 4)
    result = augment_batch(images, Augment(flip=True), dice(), size=4)
    mirrored = (result == images.flip(-1)).flatten(1).all(dim=1)
    same = (result == images).flatten(1).all(dim=1)
    assert (mirrored ^ same).all()
    assert 160 < mirrored.sum() < 240
    for flip, low, high in ((True, 900, 1100), (False, 0, 0)):
        maps = affine_maps(2000, Augment(flip=flip, degrees=5.0), dice())
        assert low <= (torch.linalg.det(maps[:, :, :2]) < 0).sum() <= high


def test_without_augmentation_images_are_only_resized():
    images, labels = make_images(), torch.arange(8)
    assert augment_batch(images, Augment(), dice(), size=16) is images
    assert augment_batch(images, Augment(), dice(), size=12).shape == (8, 3, 12, 12)
    assert resize(images, 16) is images
    mixed, same = mix_batch(images, labels, Augment(erase=0.5), dice(), num_classes=8)
    assert (mixed is images, same is labels) == (True, True)


@pytest.mark.parametrize("area", [(0.25, 1.0), (0.08, 1.0), (0.9, 1.0), (0.5, 0.5)])
@pytest.mark.parametrize("aspect", [(0.8, 1.2), (0.75, 4 / 3), (0.5, 0.5)])
def test_crops_lie_within_their_ranges(area, aspect):
    height, width = crop_sides(2000, area, aspect, dice())
    assert ((height > 0) & (height <= 1) & (width > 0) & (width <= 1)).all()
    whole = (height == 1) & (width == 1)
    covered, shape = height * width, width / height
    assert (whole | ((covered >= area[0] - 1e-6) & (covered <= area[1] + 1e-6))).all()
    assert (whole | ((shape >= aspect[0] - 1e-6) & (shape <= aspect[1] + 1e-6))).all()
    if area != (0.9, 1.0) and area[0] < aspect[0]:
        assert whole.float().mean() < 0.03  # (2/3)^10 where two draws of three do not fit
    assert (crop_sides(50, (0.9, 1.0), (3.0, 4.0), dice()) == 1).all()  # one that never fits is the whole image


def test_every_channel_has_its_own_gain():
    images = torch.full((200, 3, 2, 2), 0.5)
    result = scale_channels(images, 0.2, dice())
    factors = result[:, :, 0, 0] / 0.5
    assert (result == result[:, :, :1, :1]).all()
    assert ((factors >= 0.8) & (factors <= 1.2)).all()
    assert factors.min() < 0.82
    assert factors.max() > 1.18
    assert (factors[:, 0] - factors[:, 1]).abs().mean() > 0.05
    assert (images == 0.5).all()
    assert scale_channels(torch.full((200, 3, 2, 2), 0.9), 0.2, dice()).max() == 1


def test_the_generator_decides_everything_and_global_randomness_is_untouched():
    images, labels = make_images(), torch.arange(8)

    def run(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = dice(seed)
        result = augment_batch(images, EVERYTHING, generator, size=12)
        return mix_batch(result, labels, EVERYTHING, generator, num_classes=8)

    original, first = images.clone(), run(5)
    first[0].fill_(3)
    assert torch.equal(images, original)
    first = run(5)
    torch.rand(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    second, other = run(5), run(6)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize("rows", [slice(0, 3), slice(3, 8), slice(8, 8), slice(0, 8)])
@pytest.mark.parametrize("geometry", [{}, {"area": None, "degrees": 0.0}])
def test_a_shard_is_augmented_as_within_the_whole_batch(rows, geometry):
    images, augment = make_images(), dataclasses.replace(EVERYTHING, **geometry)
    whole = augment_batch(images, augment, dice(), size=12)
    part = augment_batch(images[rows], augment, dice(), size=12, shard=Shard(8, rows))
    assert torch.equal(part, whole[rows])
    assert not torch.equal(augment_batch(images[3:], augment, dice(), size=12), whole[3:])


def test_box_mask_by_hand():
    edges = torch.tensor([[0.3], [0.7], [0.0], [0.5]])  # the centers of four pixels are at 1/8, 3/8, …
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[1:3, :2] = True
    assert torch.equal(box_mask(edges, 4, 4)[0, 0], expected)


def test_boxes_are_squares_clipped_to_the_image():
    y0, y1, x0, x1 = boxes(1000, torch.full((1000,), 0.16), dice())
    for low, high in ((y0, y1), (x0, x1)):
        assert ((low >= 0) & (high <= 1) & (high - low <= 0.4 + 1e-6)).all()
        inner = (low > 0) & (high < 1)
        assert torch.allclose((high - low)[inner], torch.tensor(0.4))
        assert inner.float().mean() > 0.4


def test_erase_fills_a_box_with_the_mean_color():
    images = make_images(50, 16)
    result = erase(images, 1.0, dice())
    changed = (result != images).any(dim=1)
    assert changed.flatten(1).any(dim=1).float().mean() > 0.9
    for image, new, mask in zip(images, result, changed, strict=True):
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])
        assert mask.float().mean() <= 0.4
        assert torch.allclose(new[:, mask], image.mean(dim=(1, 2))[:, None].expand(3, int(mask.sum())))


def test_erase_and_mixing_have_a_probability():
    images = make_images(400, 16)
    assert torch.equal(erase(images, 0.0, dice()), images)
    hit = (erase(images, 0.25, dice()) != images).flatten(1).any(dim=1).float().mean()
    assert 0.15 < hit < 0.3
    images, labels = colors()
    for mixed, low, high in ((0.3, 0.62, 0.78), (0.0, 1, 1)):
        augment = Augment(mixup=1.0, mixed=mixed)
        same = sum(mix_batch(images, labels, augment, dice(seed), num_classes=3)[0] is images for seed in range(400))
        assert low <= same / 400 <= high


def colors() -> tuple[torch.Tensor, torch.Tensor]:
    """Return a red, a green and a blue image of classes 0, 1, 2: the mean color of a mixture is its label."""
    return torch.eye(3)[:, :, None, None].expand(3, 3, 10, 10).contiguous(), torch.arange(3)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("seed", range(10))
def test_mixed_labels_are_the_shares_of_the_images(name, seed):
    images, labels = colors()
    mixed, shares = mix_batch(images, labels, Augment(**{name: 1.0}), dice(seed), num_classes=3)
    assert torch.allclose(mixed.mean(dim=(2, 3)), shares, atol=1e-6)
    for dim in (0, 1):  # a permuted batch
        assert torch.allclose(shares.sum(dim=dim), torch.ones(3))
    assert (shares >= 0).all()


def test_mixup_blends_whole_images_and_cutmix_pastes_boxes():
    images, labels = colors()

    def kinds(**alphas: float) -> set[str]:
        """What becomes of 30 batches; a batch that is both cut and blended would be neither."""
        result = set()
        for seed in range(30):
            mixed, _ = mix_batch(images, labels, Augment(**alphas), dice(seed), num_classes=3)
            blended = (mixed % 1 != 0).any()
            cut = (mixed != mixed[..., :1, :1]).any()
            result.add("both" if cut and blended else "cut" if cut else "blended" if blended else "same")
        return result

    assert kinds(mixup=1.0) - {"same"} == {"blended"}
    assert kinds(cutmix=1.0) - {"same"} == {"cut"}
    assert kinds(mixup=1.0, cutmix=1.0) - {"same"} == {"blended", "cut"}


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_the_mixing_weight_follows_beta(alpha):
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1))."""
    images, labels = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.arange(2)
    weights = []
    for seed in range(1500):
        mixed, shares = mix_batch(images, labels, Augment(mixup=alpha), dice(seed), num_classes=2)
        if mixed[0].item() != 0 or shares[0, 0] != 1:  # swapped with the other image
            weights.append(shares[0, 0].item())
    values = torch.tensor(weights)
    assert len(values) > 500
    assert values.mean() == pytest.approx(0.5, abs=0.06)
    assert values.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)


def test_label_probabilities_can_be_mixed_again():
    images, labels = colors()
    once = mix_batch(images, labels, Augment(mixup=1.0), dice(1), num_classes=3)
    mixed, shares = mix_batch(*once, Augment(cutmix=1.0), dice(2), num_classes=3)
    assert torch.allclose(mixed.mean(dim=(2, 3)), shares, atol=1e-6)
    assert torch.allclose(shares.sum(dim=1), torch.ones(3))
