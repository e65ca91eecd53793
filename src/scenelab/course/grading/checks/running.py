"""Order of checks, and the verdict on one of them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from scenelab.course.grading.checks.base import CHECKS, Check, CheckContext
from scenelab.course.grading.checks.verdict import NOT_INSTALLED, CheckFailed, CheckSkipped, SubmissionError, Verdict

FUNCTIONS = {
    "convolution": "CustomConv2DFunction.forward",
    "attack": "PGDAttack.perturb",
    "attention": "GradAttention.explain",
}
BACKWARD = "CustomConv2DFunction.backward"
UNDEFINED = ("NotImplementedError", "NameError", "UnboundLocalError")  # raised by kits that are not filled in
NO_GRADIENT = re.compile("backward returned None|nothing reached it|incorrect number of gradients")


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names of checks and of all checks that they need, each after the checks that it needs."""
    ordered: dict[str, None] = {}

    def add(name: str) -> None:
        for needed in CHECKS[name].needs:
            add(needed)
        ordered[name] = None

    for name in names:
        add(name)
    return list(ordered)


def judge(check: Check, context: CheckContext, failed: set[str]) -> Verdict:
    """Run a check unless its function is not filled in or a check that it needs did not pass; return the verdict.

    Args:
        check: the check.
        context: its input; `name` is set.
        failed: names of earlier checks that did not pass. A check that does not pass is added, unless the rest of the
            code could be judged in spite of its mistake.
    """
    context.name = check.name
    needed = next((name for name in check.needs if name in failed), None)
    if (function := FUNCTIONS.get(check.group)) in context.unfilled:
        verdict = Verdict("failed", reason=f"{function} is not filled in yet")
    elif needed is not None:
        verdict = Verdict(reason=f"skipped, because {needed} did not pass")
    else:
        verdict = _run(check, context)
    if verdict.status != "passed" and not verdict.known:
        failed.add(check.name)
    return verdict


def _run(check: Check, context: CheckContext) -> Verdict:
    try:
        check.run(context)
    except CheckFailed as failure:
        if _lacks_backward(check, context, failure.reason):
            return Verdict("failed", reason=f"{BACKWARD} is not filled in yet")
        return Verdict("failed", failure.share, failure.reason, failure.example, failure.known)
    except CheckSkipped as reason:
        return Verdict(reason=reason.reason)
    except SubmissionError as error:
        is_run = error.kind != "budget" and NOT_INSTALLED not in error.text
        reason = f"your code {error}"
        if _lacks_backward(check, context, reason, error.error):
            reason = f"{BACKWARD} is not filled in yet"
        return Verdict("failed" if is_run else "not run", reason=reason)
    return Verdict("passed", share=1.0)


def _lacks_backward(check: Check, context: CheckContext, reason: str, error: str = "") -> bool:
    if check.group != "convolution" or BACKWARD not in context.unfilled:
        return False
    return error in UNDEFINED or bool(NO_GRADIENT.search(reason))
