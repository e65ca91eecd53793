"""A part of the training images that nothing is trained on: choices are made there, and val is only reported."""

import numpy as np

from scenelab.data.cache import Packed
from scenelab.errors import LabError

SEED = 20190301  # the same images are held out in all runs, whatever their seed


def hold_out(train: Packed, share: float) -> tuple[Packed, Packed]:
    """Split training images into those to learn from and those held out, the same share of each class.

    Args:
        share: of the images of each class that are held out, rounded, in (0, 1).

    Returns:
        The rest, and the split `holdout`.

    Raises:
        LabError: one of the two would be empty.
    """
    labels, generator = train.labels.numpy(), np.random.Generator(np.random.PCG64(SEED))
    held = np.zeros(len(train), dtype=bool)
    for label in range(len(train.categories)):
        members = np.flatnonzero(labels == label)
        held[generator.permutation(members)[: round(share * len(members))]] = True
    if held.all() or not held.any():
        raise LabError(f"holdout is {share} of {len(train)} images, which leaves one part empty; choose another share")
    rest, kept = np.flatnonzero(~held), np.flatnonzero(held)
    return (
        train.subset(rest, split=train.split, name=f"without {share}"),
        train.subset(kept, split="holdout", name=f"held out {share}"),
    )
