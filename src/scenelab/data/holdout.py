"""Hold out training images for model selection, so that val is used for the final result only."""

import numpy as np

from scenelab.data.cache import MemmapDataset
from scenelab.errors import LabError

SEED = 20190301  # fixed, so that all runs hold out the same images


def hold_out(train: MemmapDataset, share: float, fold: int = 0) -> tuple[MemmapDataset, MemmapDataset]:
    """Hold out a fraction of each class; return the remaining and the held-out images as two data sets.

    Args:
        train: the data set to split.
        share: fraction of each class to hold out, in (0, 1).
        fold: index of the part to hold out, from 0; parts with different indices are disjoint.
    """
    if (fold + 1) * share > 1 + 1e-9:
        raise LabError(f"fold is {fold} with a holdout of {share}; expected less than {int(1 / share + 1e-9)}")
    labels, generator = train.labels.numpy(), np.random.Generator(np.random.PCG64(SEED))
    is_held_out = np.zeros(len(train), dtype=bool)
    for label in range(len(train.categories)):
        members = np.flatnonzero(labels == label)
        start, end = (round(part * share * len(members)) for part in (fold, fold + 1))
        is_held_out[generator.permutation(members)[start:end]] = True
    rest, holdout = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    if not len(rest) or not len(holdout):
        raise LabError(f"holdout is {share} of {len(train)} images, which leaves one part empty; choose another share")
    part = f"{share}, fold {fold}" if fold else f"{share}"
    return (
        train.subset(rest, split=train.split, name=f"without {part}"),
        train.subset(holdout, split="holdout", name=f"held out {part}"),
    )
