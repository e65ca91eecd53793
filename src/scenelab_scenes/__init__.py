"""Procedural scenes: a small data set painted from a seed, so that every lesson runs without a download.

Twelve kinds of place share skies, horizons, palettes, occluders and a camera. `difficulty.py` sets how hard they are.

    >>> render("coast", seed=0).shape
    (128, 128, 3)
"""

from .difficulty import AMBIGUITY, NUISANCE
from .kinds import KINDS, render
from .writing import write_scenes

__all__ = ["AMBIGUITY", "KINDS", "NUISANCE", "render", "write_scenes"]
