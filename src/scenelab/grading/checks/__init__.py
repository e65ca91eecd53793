"""The checks, by name, in the order in which they run."""

from scenelab.grading.checks import attack, attention, convolution, model
from scenelab.grading.checks.base import CHECKS, Check, Context, Failed, NotRun, check

ORDER = (convolution, attack, attention, model)

__all__ = ["CHECKS", "ORDER", "Check", "Context", "Failed", "NotRun", "check"]
