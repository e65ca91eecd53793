import numpy as np
import pytest
import torch

from scenelab.data.cache import MemmapDataset
from scenelab.data.holdout import hold_out
from scenelab.errors import LabError


def packed(a_class: int = 10, classes: int = 3) -> MemmapDataset:
    count = a_class * classes
    images = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    return MemmapDataset(
        images=images, labels=torch.arange(classes).repeat(a_class), paths=tuple(f"{i}.jpg" for i in range(count)),
        categories=tuple("abc"[:classes]), split="train", digest="d",
    )  # fmt: skip


def test_the_same_share_of_each_class_is_held_out_and_nothing_is_lost():
    whole = packed()
    rest, held = hold_out(whole, 0.3)
    assert (len(rest), len(held)) == (21, 9)
    assert held.labels.bincount().tolist() == [3, 3, 3]
    assert sorted(rest.paths + held.paths) == sorted(whole.paths)
    assert (rest.split, held.split) == ("train", "holdout")
    assert len({whole.digest, rest.digest, held.digest}) == 3


def test_images_labels_and_paths_stay_together():
    whole = packed()
    for part in hold_out(whole, 0.3):
        for row in range(len(part)):
            number = int(part.rows(np.array([row])).flatten()[0])
            assert part.paths[row] == f"{number}.jpg"
            assert part.labels[row] == whole.labels[number]


def test_a_part_of_a_part():
    _, held = hold_out(packed(), 0.5)
    first = held.first(4)
    assert torch.equal(first.rows(slice(None)), held.rows(slice(4)))
    assert first.paths == held.paths[:4]


def test_all_runs_hold_out_the_same_images():
    assert hold_out(packed(), 0.2)[1].paths == hold_out(packed(), 0.2)[1].paths


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_an_empty_part_is_refused(share):
    with pytest.raises(LabError, match="leaves one part empty"):
        hold_out(packed(), share)
