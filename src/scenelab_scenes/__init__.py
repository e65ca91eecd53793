"""Synthetic images of scenes, generated from a seed: a small data set that needs no download.

The twelve classes (kinds of scene) share skies, horizons, palettes, occluders and a camera. `difficulty.py` sets how
hard they are to classify.

    >>> render("coast", seed=0).shape
    (128, 128, 3)
"""

from .difficulty import AMBIGUITY, NUISANCE
from .kinds import KINDS, render
from .writing import write_scenes

__all__ = ["AMBIGUITY", "KINDS", "NUISANCE", "render", "write_scenes"]
