"""Augmentation by hand: ranges, seeds, mixing, erasing, and what is refused."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from torch import Generator

from scenelab.data.augment import (
    HANDOUT,
    Augment,
    Part,
    affine_maps,
    augment_batch,
    blend,
    box_mask,
    boxes,
    crop_sides,
    erase,
    jitter,
    mix_batch,
    resize,
    scale_channels,
    uniform,
    warp,
)
from scenelab.errors import LabError

EVERYTHING = Augment(
    flip=True, degrees=15.0, area=(0.25, 1.0), aspect=(0.8, 1.25), gain=0.4, brightness=0.4, contrast=0.4,
    saturation=0.4, erase=0.5, mixup=0.2, cutmix=1.0,
)  # fmt: skip


def dice(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def pictures(count: int = 8, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=dice(99))


def test_the_handouts_constants():
    assert Augment(flip=True, degrees=15.0, area=(0.25, 1.0), aspect=(0.8, 1.2), gain=0.15) == HANDOUT
    off = Augment()
    assert (HANDOUT.brightness, HANDOUT.contrast, HANDOUT.saturation) == (0, 0, 0)
    assert (HANDOUT.erase, HANDOUT.mixup, HANDOUT.cutmix) == (0, 0, 0)
    assert (off.flip, off.degrees, off.area, off.gain, off.erase) == (False, 0, None, 0, 0)


@pytest.mark.parametrize(
    "name", ["degrees", "gain", "brightness", "contrast", "saturation", "erase", "mixup", "cutmix"]
)
def test_a_negative_strength_is_refused(name):
    with pytest.raises(LabError) as caught:
        Augment(**{name: -0.5})
    assert str(caught.value) == f"augment.{name}: got -0.5; expected at least 0"


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.5, 0.25)])
@pytest.mark.parametrize("name", ["area", "aspect"])
def test_bounds_out_of_order_are_refused(name, bounds):
    with pytest.raises(LabError) as caught:
        Augment(**{name: bounds})
    assert str(caught.value) == f"augment.{name}: got {bounds}; expected 0 < low <= high"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"area": (0.5, 1.5)}, "augment.area[1]: got 1.5; expected at most 1"),
        ({"erase": 25.0}, "augment.erase: got 25.0; expected at most 1"),
        ({"mixed": 1.5}, "augment.mixed: got 1.5; expected at most 1"),
    ],
)
def test_a_share_above_one_is_refused(values, message):
    with pytest.raises(LabError) as caught:
        Augment(**values)
    assert str(caught.value) == message


# Geometry


@pytest.mark.parametrize("side", [8, 13, 128])
def test_the_identity_map_is_the_identity(side):
    images = pictures(3, side)
    same = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(3, 2, 3)
    assert torch.allclose(warp(images, same, side), images, rtol=0, atol=2e-5)
    exact = warp(images.double(), same.double(), side)
    assert torch.allclose(exact, images.double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [8, 13])
def test_the_mirror_map_is_a_flip(side):
    images = pictures(3, side).double()
    mirror = torch.tensor([[-1.0, 0, 0], [0, 1, 0]]).double().expand(3, 2, 3)
    assert torch.allclose(warp(images, mirror, side), images.flip(-1), rtol=0, atol=1e-12)


def test_what_comes_in_from_outside_is_black():
    moved = torch.tensor([[[1.0, 0, 1], [0, 1, 0]]])  # half a picture to the left
    result = warp(torch.ones(1, 3, 8, 8), moved, 8)
    assert (result[..., :4] == 1).all()
    assert (result[..., 4:] == 0).all()


def test_flip_alone_mirrors_half_of_the_images_and_changes_nothing_else():
    images = pictures(400, 4)
    result = augment_batch(images, Augment(flip=True), dice(), size=4)
    mirrored = (result == images.flip(-1)).flatten(1).all(dim=1)
    same = (result == images).flatten(1).all(dim=1)
    assert (mirrored ^ same).all()
    assert 160 < mirrored.sum() < 240


def test_the_maps_mirror_half_of_the_images():
    maps = affine_maps(2000, Augment(flip=True, degrees=5.0), dice())
    assert 900 < (torch.linalg.det(maps[:, :, :2]) < 0).sum() < 1100
    maps = affine_maps(100, Augment(degrees=5.0), dice())
    assert (torch.linalg.det(maps[:, :, :2]) > 0).all()


def test_nothing_switched_on_changes_nothing():
    images = pictures()
    assert augment_batch(images, Augment(), dice(), size=16) is images
    assert augment_batch(images, Augment(), dice(), size=12).shape == (8, 3, 12, 12)
    assert resize(images, 16) is images


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


def test_a_crop_that_never_fits_is_the_whole_picture():
    assert (crop_sides(50, (0.9, 1.0), (3.0, 4.0), dice()) == 1).all()


def test_crops_stay_inside_the_picture():
    maps = affine_maps(500, Augment(area=(0.1, 1.0), aspect=(0.5, 2.0)), dice())
    corners = torch.tensor([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)])
    assert (torch.einsum("nij,kj->nki", maps, corners).abs() <= 1 + 1e-6).all()
    assert maps[:, 0, 2].std() > 0.1  # and they move about
    assert maps[:, 1, 2].std() > 0.1


# Colour


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


def test_blend_between_by_hand():
    images, other = torch.full((100, 1, 1, 1), 0.6), torch.full((100, 1, 1, 1), 0.2)
    factor = uniform(100, 0.7, 1.3, dice()).view(-1, 1, 1, 1)
    assert torch.allclose(blend(images, other, 0.3, dice()), 0.2 + 0.4 * factor)
    strong = blend(images, other, 5.0, dice())
    assert ((strong >= 0.2) & (strong <= 1)).all()  # no factor below 0, and clipped above


def test_grey_stays_grey_under_contrast_and_saturation():
    images = torch.rand(4, 1, 6, 6, generator=dice()).expand(4, 3, 6, 6)
    result = jitter(images, Augment(contrast=0.4, saturation=0.4), dice())
    assert torch.allclose(result, result[:, :1].expand_as(result), atol=1e-6)
    assert torch.allclose(jitter(images, Augment(saturation=0.4), dice()), images, atol=1e-6)


@pytest.mark.parametrize("low_high", [(0.0, 1.0), (0.9, 1.0), (0.0, 0.1)])
def test_the_result_stays_in_range(low_high):
    low, high = low_high
    images = low + (high - low) * pictures(32)
    for seed in range(5):
        result = augment_batch(images, EVERYTHING, dice(seed), size=12)
        mixed, _ = mix_batch(result, torch.arange(32) % 4, EVERYTHING, dice(seed), num_classes=4)
        for value in (result, mixed):
            assert value.min() >= 0
            assert value.max() <= 1


def test_the_input_is_left_as_it_was():
    images = pictures()
    before = images.clone()
    result = augment_batch(images, EVERYTHING, dice(), size=16)
    mix_batch(images, torch.zeros(8, dtype=torch.int64), EVERYTHING, dice(), num_classes=2)
    result.fill_(3)
    assert torch.equal(images, before)


# Dice


def test_the_generator_decides_everything_and_the_global_dice_are_untouched():
    images, labels = pictures(), torch.arange(8)

    def run(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = dice(seed)
        result = augment_batch(images, EVERYTHING, generator, size=12)
        return mix_batch(result, labels, EVERYTHING, generator, num_classes=8)

    first = run(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    torch.rand(3)  # the global stream moves on; ours does not notice
    torch.set_rng_state(before[0])
    second, other = run(5), run(6)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize("rows", [slice(0, 3), slice(3, 8), slice(8, 8), slice(0, 8)])
@pytest.mark.parametrize("geometry", [{}, {"area": None, "degrees": 0.0}])
def test_a_part_of_a_batch_comes_out_as_among_the_others(rows, geometry):
    images, augment = pictures(), dataclasses.replace(EVERYTHING, **geometry)
    whole = augment_batch(images, augment, dice(), size=12)
    part = augment_batch(images[rows], augment, dice(), size=12, part=Part(8, rows))
    assert torch.equal(part, whole[rows])
    assert not torch.equal(augment_batch(images[3:], augment, dice(), size=12), whole[3:])


def test_another_state_of_the_global_dice_changes_nothing():
    results = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            images, labels = mix_batch(pictures(), torch.arange(8), EVERYTHING, dice(), num_classes=8)
            results.append((augment_batch(images, EVERYTHING, dice(), size=16), labels))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


# Erasing


def test_a_box_by_hand():
    edges = tuple(torch.tensor([value]) for value in (0.3, 0.7, 0.0, 0.5))  # centres of four pixels lie at 1/8, 3/8, …
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[1:3, :2] = True
    assert torch.equal(box_mask(edges, 4, 4)[0, 0], expected)


def test_boxes_are_squares_cut_at_the_border():
    y0, y1, x0, x1 = boxes(1000, torch.full((1000,), 0.16), dice())
    for low, high in ((y0, y1), (x0, x1)):
        assert ((low >= 0) & (high <= 1) & (high - low <= 0.4 + 1e-6)).all()
        inner = (low > 0) & (high < 1)
        assert torch.allclose((high - low)[inner], torch.tensor(0.4))
        assert inner.float().mean() > 0.4


def test_erasing_fills_a_box_with_the_mean_colour():
    images = pictures(50, 16)
    result = erase(images, 1.0, dice())
    changed = (result != images).any(dim=1)
    assert changed.flatten(1).any(dim=1).float().mean() > 0.9
    for image, new, mask in zip(images, result, changed, strict=True):
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])
        assert mask.float().mean() <= 0.4
        assert torch.allclose(new[:, mask], image.mean(dim=(1, 2))[:, None].expand(3, int(mask.sum())))


def test_erasing_has_a_probability():
    images = pictures(400, 16)
    assert torch.equal(erase(images, 0.0, dice()), images)
    hit = (erase(images, 0.25, dice()) != images).flatten(1).any(dim=1).float().mean()
    assert 0.15 < hit < 0.3


# Mixing


def colours() -> tuple[torch.Tensor, torch.Tensor]:
    """Three pictures, red, green and blue, of the classes 0, 1, 2: the mean colour of a mixture tells its shares."""
    return torch.eye(3)[:, :, None, None].expand(3, 3, 10, 10).contiguous(), torch.arange(3)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("seed", range(10))
def test_label_shares_are_the_pictures_real_shares(name, seed):
    images, labels = colours()
    mixed, shares = mix_batch(images, labels, Augment(**{name: 1.0}), dice(seed), num_classes=3)
    assert torch.allclose(mixed.mean(dim=(2, 3)), shares, atol=1e-6)
    assert torch.allclose(shares.sum(dim=1), torch.ones(3))
    assert (shares >= 0).all()


def test_mixup_mixes_whole_pictures_and_cutmix_cuts():
    images, labels = colours()
    blended = [mix_batch(images, labels, Augment(mixup=1.0), dice(seed), num_classes=3)[0] for seed in range(10)]
    assert all((mixed == mixed[..., :1, :1]).all() for mixed in blended)
    assert any(((mixed > 0.1) & (mixed < 0.9)).any() for mixed in blended)
    cut = [mix_batch(images, labels, Augment(cutmix=1.0), dice(seed), num_classes=3)[0] for seed in range(10)]
    assert all(((mixed == 0) | (mixed == 1)).all() for mixed in cut)
    assert any((mixed != mixed[..., :1, :1]).any() for mixed in cut)


def test_with_both_each_batch_takes_one():
    images, labels = colours()
    kinds = set()
    for seed in range(30):
        mixed, _ = mix_batch(images, labels, Augment(mixup=1.0, cutmix=1.0), dice(seed), num_classes=3)
        kinds.add("cut" if (mixed != mixed[..., :1, :1]).any() else "blend" if (mixed % 1 > 0.01).any() else "same")
    assert {"cut", "blend"} <= kinds


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_the_share_follows_beta(alpha):
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)); both pictures here are of one class and of two colours."""
    images, labels = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.arange(2)
    drawn = []
    for seed in range(1500):
        mixed, shares = mix_batch(images, labels, Augment(mixup=alpha), dice(seed), num_classes=2)
        if mixed[0].item() != 0 or shares[0, 0] != 1:  # swapped with the other picture
            drawn.append(shares[0, 0].item())
    values = torch.tensor(drawn)
    assert len(values) > 500
    assert values.mean() == pytest.approx(0.5, abs=0.06)
    assert values.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)


def test_without_mixing_both_come_back_as_they_are():
    images, labels = colours()
    mixed, same = mix_batch(images, labels, Augment(erase=0.5), dice(), num_classes=3)
    assert mixed is images
    assert same is labels


def test_a_share_of_the_batches_is_mixed():
    images, labels = colours()
    augment = Augment(mixup=1.0, mixed=0.3)
    same = sum(mix_batch(images, labels, augment, dice(seed), num_classes=3)[0] is images for seed in range(400))
    assert 0.62 < same / 400 < 0.78
    assert mix_batch(images, labels, Augment(mixup=1.0, mixed=0.0), dice(), num_classes=3)[0] is images


def test_shares_can_be_mixed_again():
    images, labels = colours()
    once = mix_batch(images, labels, Augment(mixup=1.0), dice(1), num_classes=3)
    mixed, shares = mix_batch(*once, Augment(cutmix=1.0), dice(2), num_classes=3)
    assert torch.allclose(mixed.mean(dim=(2, 3)), shares, atol=1e-6)
    assert torch.allclose(shares.sum(dim=1), torch.ones(3))


def test_labels_of_unseen_classes_get_a_share_of_zero():
    images, labels = colours()
    _, shares = mix_batch(images, labels, Augment(mixup=1.0), dice(), num_classes=7)
    assert shares.shape == (3, 7)
    assert (shares[:, 3:] == 0).all()
