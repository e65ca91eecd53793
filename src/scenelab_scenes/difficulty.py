"""How hard the scenes are: the two numbers to turn when a classifier finds them too easy or too hard."""

NUISANCE = 1.5
"""Scales everything that hides a scene without changing it: haze, sensor noise, blur, uneven exposure, crop, tilt and
the chance of an occluder. 0 gives clean, level, unobstructed images; 1.5 is the data set as shipped; above 2 scenes
start to drown."""

AMBIGUITY: float = 0.35
"""Fraction of scenes (0 to 1) that borrow elements of a second kind, such as a skyline behind a beach or a bookshelf
in a corridor, and show fewer of their own."""
