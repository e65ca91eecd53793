"""scenelab: a lab for scene recognition, from convolution by hand to a hardened, graded network."""

__version__ = "0.1.0"
