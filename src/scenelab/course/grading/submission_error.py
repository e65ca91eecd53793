"""Errors caused by a submission's process, and sanitization of the values that it sends."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenelab.errors import printable
from scenelab_runner.wire import WireError

MAX_TEXT, MAX_ITEMS, MAX_DEPTH = 4000, 5000, 8  # characters per string, items per list, levels of nesting
COPY = re.compile(r"/tmp/submission-\w+/")
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
GPU = re.compile(r"cuda|nvidia|\bgpu\b", re.IGNORECASE)


@dataclass
class SubmissionError(Exception):
    """Raised if a submission raises an exception, exceeds a limit, or ends its process."""

    kind: str  # "error", "time", "memory", "processes", "end", "protocol" or "budget"
    text: str  # one line for the student
    place: str = ""  # file, line and code, where known
    error: str = ""  # name of the exception's type

    def __str__(self) -> str:
        return self.text + (f" ({self.place})" if self.place else "")

    @property
    def wants_gpu(self) -> bool:
        """Whether the error's text, or the line that raised it, mentions a GPU."""
        return self.kind == "error" and bool(GPU.search(f"{self.text} {self.place}"))

    @staticmethod
    def of(described: Any) -> "SubmissionError":
        """Build an error from the value `error` of a reply, which is untrusted and may have any type."""
        values = described if isinstance(described, dict) else {}
        kind, text = str(values.get("type", "error"))[:60], " ".join(str(values.get("text", "")).split())[:400]
        code = f": {str(values['code']).strip()[:120]}" if values.get("code") else ""
        place = f"{str(values['file'])[:80]}, line {values.get('line')}{code}" if values.get("file") else ""
        verb = "is not written yet" if kind == "NotImplementedError" else f"raised {kind}"
        return SubmissionError("error", f"{verb}: {text}" if text else verb, place, kind)


class CancelledError(BaseException):
    """Exception raised when the batch is stopped before the submission has a result."""


def sanitize(value: Any, stage: Path, depth: int = 0) -> Any:
    """Copy JSON values; shorten long ones, remove unprintable characters and `stage` paths, mask memory addresses.

    Raise WireError if the values are nested more than `MAX_DEPTH` levels deep.
    """
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
