"""The student kit of the assignment, generated from the solution in `files/`."""

from scenelab.course.kit.make import files, make_gradescope, make_kit

__all__ = ["files", "make_gradescope", "make_kit"]
