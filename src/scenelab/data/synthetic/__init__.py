"""Procedural scenes: the embedded data set, painted from a seed, so that every lesson runs without a download.

Twelve kinds of place share skies, horizons, palettes, occluders and a camera, and differ in what makes the place. The
hardness is set in `difficulty.py`.

    >>> render("coast", seed=0).shape
    (128, 128, 3)
"""

from pathlib import Path

from .difficulty import AMBIGUITY, NUISANCE
from .kinds import KINDS, SMALLEST, check_at_least, render
from .writing import fresh_folder, write_splits

__all__ = ["AMBIGUITY", "KINDS", "NUISANCE", "render", "write_scenes"]


def write_scenes(
    folder: Path, *, seed: int = 0, train_per_class: int = 200, val_per_class: int = 50, test: int = 50, size: int = 128
) -> None:
    """Write a data set in MiniPlaces' layout: the same arguments give byte-identical files (with the same libraries).

    `train.txt` and `val.txt` hold lines `path label`, `categories.txt` lines `/c/coast 1`, and `images/` the JPEGs:
    `train/c/coast/00000001.jpg`, `val/00000001.jpg` (classes shuffled) and `test/00000001.jpg` (no labels). The label
    is the position in `KINDS`. The folder appears whole or not at all.

    Args:
        folder: a new or an empty folder.
        seed: any integer >= 0; no two images of a seed, nor of two seeds, are painted from the same dice.
        train_per_class, val_per_class: images of each kind, >= 1.
        test: unlabelled images over all kinds, >= 1.
        size: side in pixels, >= 16.

    Raises:
        LabError: an argument is out of range, or `folder` is not empty or cannot be written.
    """
    check_at_least("seed", seed, 0)
    for name, value in (("train_per_class", train_per_class), ("val_per_class", val_per_class), ("test", test)):
        check_at_least(name, value, 1)
    check_at_least("size", size, SMALLEST)
    fresh_folder(
        folder,
        lambda target: write_splits(
            target,
            KINDS,
            render,
            seed=seed,
            train_per_class=train_per_class,
            val_per_class=val_per_class,
            test=test,
            size=size,
        ),
    )
