"""Checks of submissions by name, in `CHECKS`. Importing a module registers its checks."""

from scenelab.course.grading.checks import attack, attention, convolution, model  # noqa: F401
from scenelab.course.grading.checks.base import CHECKS, Check, CheckContext, CheckFailed, CheckSkipped, check

__all__ = ["CHECKS", "Check", "CheckContext", "CheckFailed", "CheckSkipped", "check"]
