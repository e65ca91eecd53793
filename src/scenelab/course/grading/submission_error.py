"""Errors that a submission's process causes, and its values made safe to print and store."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenelab.course.grading.scenelab_runner.wire import WireError
from scenelab.errors import printable

MAX_TEXT, MAX_ITEMS, MAX_DEPTH = 4000, 5000, 8  # of strings, lists and nesting
COPY = re.compile(r"/tmp/submission-\w+/")
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
GPU = re.compile(r"cuda|nvidia|\bgpu\b", re.IGNORECASE)


@dataclass
class SubmissionError(Exception):
    """The submission did not answer: it raised, exceeded a limit, or its process ended."""

    kind: str  # "error", "time", "memory", "processes", "end", "protocol" or "budget"
    text: str  # one line for the student
    place: str = ""  # file, line and code, where known
    error: str = ""  # name of the exception's type

    def __str__(self) -> str:
        return self.text + (f" ({self.place})" if self.place else "")

    @property
    def wants_gpu(self) -> bool:
        """Whether the error, or the line that raised it, names a GPU."""
        return self.kind == "error" and bool(GPU.search(f"{self.text} {self.place}"))

    @staticmethod
    def of(described: Any) -> "SubmissionError":
        """Build the error from a reply, which may hold anything."""
        values = described if isinstance(described, dict) else {}
        kind, text = str(values.get("type", "error"))[:60], " ".join(str(values.get("text", "")).split())[:400]
        code = f": {str(values['code']).strip()[:120]}" if values.get("code") else ""
        place = f"{str(values['file'])[:80]}, line {values.get('line')}{code}" if values.get("file") else ""
        verb = "is not written yet" if kind == "NotImplementedError" else f"raised {kind}"
        return SubmissionError("error", f"{verb}: {text}" if text else verb, place, kind)


class CancelledError(BaseException):
    """The batch was stopped, so the submission has no result."""


def sanitize(value: Any, stage: Path, depth: int = 0) -> Any:
    """Return JSON values with printable, short strings, the same in each run; raise WireError if nested too deeply."""
    if depth > MAX_DEPTH:
        raise WireError("the values are nested too deeply")
    if isinstance(value, str):
        text = value[:MAX_TEXT].replace(f"{stage}/submission/", "")
        return printable(ADDRESS.sub("0x…", COPY.sub("", text)), keep="\n")
    if isinstance(value, dict):
        items = list(value.items())[:MAX_ITEMS]
        return {sanitize(str(name), stage, depth): sanitize(each, stage, depth + 1) for name, each in items}
    if isinstance(value, list):
        return [sanitize(each, stage, depth + 1) for each in value[:MAX_ITEMS]]
    return value
