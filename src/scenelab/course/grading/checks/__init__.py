"""The checks, by name; importing a module registers those in it."""

from scenelab.course.grading.checks import attack, attention, convolution, model  # noqa: F401
from scenelab.course.grading.checks.base import CHECKS, Check, Context, Failed, NotRun, check

__all__ = ["CHECKS", "Check", "Context", "Failed", "NotRun", "check"]
