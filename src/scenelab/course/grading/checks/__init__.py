"""Registry of grading checks; importing a check module registers its checks."""

from scenelab.course.grading.checks import attack, attention, convolution, model  # noqa: F401
from scenelab.course.grading.checks.base import CHECKS, Check, CheckContext, check
from scenelab.course.grading.checks.verdict import CheckFailed, CheckSkipped

__all__ = ["CHECKS", "Check", "CheckContext", "CheckFailed", "CheckSkipped", "check"]
