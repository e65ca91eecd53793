"""Hold out part of the training images for choices, so that val is only reported."""

import numpy as np

from scenelab.data.cache import MemmapDataset
from scenelab.errors import LabError

SEED = 20190301  # fixed: every run holds out the same images


def hold_out(train: MemmapDataset, share: float) -> tuple[MemmapDataset, MemmapDataset]:
    """Return the images to train on and the split `holdout`, a `share` in (0, 1) of the images of each class."""
    labels, generator = train.labels.numpy(), np.random.Generator(np.random.PCG64(SEED))
    is_held_out = np.zeros(len(train), dtype=bool)
    for label in range(len(train.categories)):
        members = np.flatnonzero(labels == label)
        is_held_out[generator.permutation(members)[: round(share * len(members))]] = True
    rest, holdout = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    if not len(rest) or not len(holdout):
        raise LabError(f"holdout is {share} of {len(train)} images, which leaves one part empty; choose another share")
    return (
        train.subset(rest, split=train.split, name=f"without {share}"),
        train.subset(holdout, split="holdout", name=f"held out {share}"),
    )
