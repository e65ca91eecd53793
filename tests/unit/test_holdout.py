"""The held-out part of the training images."""

import numpy as np
import pytest
import torch

from scenelab.data.cache import MemmapDataset
from scenelab.data.holdout import hold_out
from scenelab.errors import LabError


def make_dataset(per_class: int = 10, classes: int = 3) -> MemmapDataset:
    """Return 1×1 images whose value is their row."""
    count = per_class * classes
    return MemmapDataset(
        images=np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3),
        labels=torch.arange(classes).repeat(per_class),
        paths=tuple(f"{row}.jpg" for row in range(count)),
        categories=tuple("abc"[:classes]),
        split="train",
        digest="d",
    )


def test_the_same_share_of_each_class_is_held_out_and_nothing_is_lost():
    dataset = make_dataset()
    rest, holdout = hold_out(dataset, 0.3)
    assert (len(rest), len(holdout)) == (21, 9)
    assert holdout.labels.bincount().tolist() == [3, 3, 3]
    assert sorted(rest.paths + holdout.paths) == sorted(dataset.paths)
    assert (rest.split, holdout.split) == ("train", "holdout")
    assert len({dataset.digest, rest.digest, holdout.digest}) == 3
    assert holdout.paths == hold_out(make_dataset(), 0.3)[1].paths  # in every run


def test_folds_are_disjoint_and_have_every_image_once():
    parts = [hold_out(make_dataset(), 0.25, fold)[1].paths for fold in range(4)]
    assert sorted(path for part in parts for path in part) == sorted(make_dataset().paths)
    assert parts[0] == hold_out(make_dataset(), 0.25)[1].paths
    with pytest.raises(LabError, match="^fold is 4 with a holdout of 0.25; expected less than 4$"):
        hold_out(make_dataset(), 0.25, 4)


def test_images_labels_and_paths_stay_together_also_in_a_part_of_a_part():
    dataset = make_dataset()
    rest, holdout = hold_out(dataset, 0.3)
    for part in (rest, holdout, holdout.head(4)):
        rows = part.gather(slice(None))[:, 0, 0, 0].long()
        assert part.paths == tuple(f"{row}.jpg" for row in rows.tolist())
        assert torch.equal(part.labels, dataset.labels[rows])


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_an_empty_part_is_refused(share):
    with pytest.raises(LabError, match="leaves one part empty"):
        hold_out(make_dataset(), share)
