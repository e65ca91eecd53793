"""Sanitization of the values that a submission's process sends, and the error of a stopped batch."""

import re
from pathlib import Path
from typing import Any

from scenelab.errors import printable
from scenelab_runner.wire import WireError

MAX_TEXT, MAX_ITEMS, MAX_DEPTH = 4000, 5000, 8  # characters per string, items per list, levels of nesting
COPY = re.compile(r"/tmp/submission-\w+/")
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


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
