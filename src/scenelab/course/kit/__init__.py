"""The kit: the files that students receive, generated from the solution in `files/`."""

from scenelab.course.kit.make import course_part, files, make_course, make_kit, run_checks

__all__ = ["course_part", "files", "make_course", "make_kit", "run_checks"]
