"""The kit: the files that students receive, generated from the solution in `files/`."""

from scenelab.course.kit.make import files, make_gradescope, make_kit, run_checks

__all__ = ["files", "make_gradescope", "make_kit", "run_checks"]
