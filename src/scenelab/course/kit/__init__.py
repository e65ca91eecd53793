"""The kit: the files that students receive, generated from the solution in `files/`."""

from scenelab.course.kit.make import files, make_kit

__all__ = ["files", "make_kit"]
