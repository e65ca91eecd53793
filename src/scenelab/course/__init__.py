"""The course assignment: handout, student kit, submission, and grading."""

from typing import TYPE_CHECKING

from scenelab.lazy import lazy_exports

if TYPE_CHECKING:
    from scenelab.course.grading.batch import Batch
    from scenelab.course.grading.rubric import Rubric, read_rubric
    from scenelab.course.kit import make_kit
    from scenelab.course.kit.gradescope import make_gradescope
    from scenelab.course.submission import check_and_zip
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = ["Batch", "Rubric", "check_and_zip", "make_gradescope", "make_kit", "read_rubric"]
