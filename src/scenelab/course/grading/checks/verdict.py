"""Outcomes of checks: failures, errors of the submission, and the verdict that students read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

GPU = re.compile(r"cuda|nvidia|\b(gpus?|mps)\b", re.IGNORECASE)
TEXT = 400  # characters of an error's text that are shown
NOT_INSTALLED = "nor installed where this is graded"


@dataclass
class CheckFailed(Exception):  # noqa: N818 - an outcome
    """Raised by a check that fails; `reason` tells the student why in one or two sentences."""

    reason: str
    example: str = ""  # values that show the mistake
    share: float = 0.0  # fraction of the check's points that is still earned
    known: bool = False  # recognized as a single common mistake, so checks that need this one still run


@dataclass
class CheckSkipped(Exception):  # noqa: N818 - an outcome
    """Raised by a check that cannot run; `reason` tells the student why."""

    reason: str


VERBS = {
    "NotImplementedError": "is not filled in yet",
    "ResultError": "is not as expected",
    "WireError": "returned what cannot be checked",
}
"""Words for exceptions that are no errors in the student's code, by type."""


@dataclass
class SubmissionError(Exception):
    """Raised if a submission raises an exception, exceeds a limit, or ends its process."""

    kind: str  # "error", "time", "memory", "processes", "end", "protocol" or "budget"
    text: str  # one line for the student
    place: str = ""  # file, line and code, where known
    error: str = ""  # name of the exception's type
    deliberate: bool = False  # raised on purpose by code that mentions CUDA

    def __str__(self) -> str:
        return self.text + (f" ({self.place})" if self.place else "")

    @property
    def wants_gpu(self) -> bool:
        """Whether the error's text, or the code that raised it on purpose, mentions a GPU."""
        return self.kind == "error" and (self.deliberate or bool(GPU.search(f"{self.text} {self.place}")))

    @staticmethod
    def of(described: Any) -> SubmissionError:
        """Build an error from the value `error` of a reply, which is untrusted and may have any type."""
        values = described if isinstance(described, dict) else {}
        kind, text = str(values.get("type", "error"))[:60], " ".join(str(values.get("text", "")).split())
        text = text if len(text) <= TEXT else f"{text[:TEXT].rpartition(' ')[0] or text[:TEXT]} …"
        code = f": {str(values['code']).strip()[:120]}" if values.get("code") else ""
        place = f"{str(values['file'])[:80]}, line {values.get('line')}{code}" if values.get("file") else ""
        verb = VERBS.get(kind, f"raised {kind}")
        deliberate = bool(values.get("deliberate")) and kind != "NotImplementedError"
        return SubmissionError("error", f"{verb}: {text}" if text else verb, place, kind, deliberate)


class ReplyTensors(dict[str, Tensor]):
    """Tensors of a reply by name; a missing name raises SubmissionError."""

    def __missing__(self, name: str) -> Tensor:
        raise SubmissionError("protocol", f"disturbed the answer to the grader, which lacks {name}")


@dataclass
class Verdict:
    """Verdict on one check."""

    status: str = "not run"  # or "passed", "failed"
    share: float = 0.0  # fraction of the points that is earned
    reason: str = ""
    example: str = ""
    known: bool = False  # as in `CheckFailed`


def cause_of(reason: str) -> str:
    """Return the reason without its numbers; checks with the same cause fail by one mistake."""
    return re.sub(r"\d[\d.]*", "#", reason)
