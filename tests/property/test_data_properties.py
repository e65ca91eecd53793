"""Properties of any data: range and shape of augmented batches, the val part of a class, lossless packing."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Generator

from scenelab.data.augment import augment_batch
from scenelab.data.augment_config import Augment
from scenelab.data.cache import pack
from scenelab.data.decode import fit
from scenelab.data.miniplaces import Listing
from scenelab.data.splits import val_paths

steady = settings(max_examples=30, derandomize=True, deadline=None, database=None)
shares = st.floats(0, 1, width=32)
ranges = st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(lambda pair: (min(pair), max(pair)))

strengths = dict.fromkeys(["gain", "brightness", "contrast", "saturation", "erase"], shares)
alphas = dict.fromkeys(("mixup", "cutmix"), st.sampled_from([0.0, 0.1, 1.0]))
geometry = {"flip": st.booleans(), "degrees": st.floats(0, 180), "area": st.none() | ranges, "aspect": ranges}
augmentations = st.builds(Augment, **geometry, **strengths, **alphas)


@steady
@given(augmentations, st.integers(1, 5), st.integers(1, 20), st.integers(1, 24), st.integers(0, 2**31))
def test_an_augmented_batch_keeps_its_range_and_takes_the_size(augment, count, side, size, seed):
    images = torch.rand(count, 3, side, side, generator=Generator().manual_seed(1))
    images[0] = seed % 2  # all black or all white
    result = augment_batch(images, augment, Generator().manual_seed(seed), size=size)
    assert result.shape == (count, 3, size, size)
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1 + 1e-6
    assert torch.equal(result, augment_batch(images, augment, Generator().manual_seed(seed), size=size))


name = st.text(min_size=1, max_size=8) | st.binary(min_size=1, max_size=8).map(os.fsdecode)  # some are no UTF-8
names = st.lists(name, min_size=2, unique=True)


@steady
@given(names, st.randoms(use_true_random=False))
def test_the_val_part_of_a_class_depends_on_its_names_alone(paths, order):
    out = val_paths(paths)
    shuffled = list(paths)
    order.shuffle(shuffled)
    assert val_paths(shuffled) == out
    assert 1 <= len(out) < len(paths)
    assert out <= set(paths)
    assert len(out) == max(1, round(len(paths) / 10))


@steady
@given(names, name)
def test_a_new_image_moves_at_most_one_other(paths, new):
    if new in paths:
        return
    before, after = val_paths(paths), val_paths([*paths, new])
    assert len(before - after) <= 1
    assert len(after - before - {new}) <= 1


sides = st.integers(1, 20)


@steady
@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=4), st.integers(1, 12), st.integers(0, 2**31))
def test_packing_is_lossless(shapes, size, seed):
    """PNGs of any shape come back as `fit` returns them, those of the right size unchanged."""
    draw = np.random.default_rng(seed)
    arrays = [draw.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    with tempfile.TemporaryDirectory() as folder:
        for index, array in enumerate(arrays):
            Image.fromarray(array).save(Path(folder) / f"{index}.png")
        paths = tuple(f"{index}.png" for index in range(len(arrays)))
        listing = Listing(
            root=Path(folder), split="train", paths=paths, labels=tuple(range(len(paths))), categories=paths
        )
        for _ in range(2):  # built, then opened
            dataset = pack(listing, Path(folder) / "packed", size=size)
            rows = dataset.gather(np.arange(len(dataset)))
            assert dataset.labels.tolist() == list(range(len(arrays)))
            for row, array in zip(rows, arrays, strict=True):
                assert torch.equal(row, fit(torch.from_numpy(array).permute(2, 0, 1), size))
                if array.shape[:2] == (size, size):
                    assert np.array_equal(row.permute(1, 2, 0).numpy(), array)
