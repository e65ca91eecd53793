"""Procedural scenes: a small dataset painted from a seed, so that every lesson runs without a download.

The twelve scene categories share skies, horizons, palettes, occluders and a camera. `difficulty.py` sets how hard they
are to classify.

    >>> render("coast", seed=0).shape
    (128, 128, 3)
"""

from .difficulty import AMBIGUITY, NUISANCE
from .kinds import KINDS, render
from .writing import write_scenes

__all__ = ["AMBIGUITY", "KINDS", "NUISANCE", "render", "write_scenes"]
