"""Settings for how hard the scenes are to classify."""

NUISANCE = 1.5
"""Scale of nuisances: haze, sensor noise, blur, uneven exposure, crop, tilt and the probability of an occluder.

0 gives clean, level, unobstructed images; above 2 many scenes are unrecognizable."""

AMBIGUITY: float = 0.35
"""Fraction of scenes (0 to 1) that borrow elements of a second kind, such as a skyline behind a beach."""
