"""The checks, by name; importing a module registers those in it."""

from scenelab.course.grading.checks import attack, attention, convolution, model  # noqa: F401
from scenelab.course.grading.checks.base import CHECKS, Check, CheckContext, CheckFailed, CheckSkipped, check

__all__ = ["CHECKS", "Check", "CheckContext", "CheckFailed", "CheckSkipped", "check"]
