"""Messages between the grader and the code that runs a submission, and the description of its exceptions."""

from __future__ import annotations

import linecache
import re
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

MAX_TEXT = 2000  # characters of an error message
LOCAL = re.compile(r"[\w.]+\.<locals>\.")  # in front of the name of a function in a function
RAISES = re.compile(r"\b(raise|assert)\b|\b(exit|quit)\(")


class ResultError(Exception):
    """Raised if the student's file, or what its code returns, cannot be used."""


@dataclass
class Message:
    """Message between grader and runner: JSON values and tensors, both by name."""

    values: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def describe(error: BaseException, root: str) -> dict[str, Any]:
    """Return an exception as JSON values: type, text, and the innermost file, line and code below `root`.

    `deliberate` is True if code that mentions CUDA raised it on purpose, perhaps because there is no GPU.
    """
    frames = [each for each in traceback.extract_tb(error.__traceback__) if root and each.filename.startswith(root)]
    file, line, code = None, None, None
    if isinstance(error, SyntaxError):
        line = error.lineno if isinstance(error.lineno, int) else None
        file, code = Path(str(error.filename or "")).name, str(error.text or "")[:200]
    elif frames:
        file, line, code = Path(frames[-1].filename).name, frames[-1].lineno, (frames[-1].line or "")[:200]
    try:
        text = LOCAL.sub("", str(error.msg if isinstance(error, SyntaxError) else error)[:MAX_TEXT])
    except BaseException as other:  # __str__ may be the student's
        text = f"(its text cannot be had: __str__ raised {type(other).__name__})"
    deliberate = bool(code and RAISES.search(code)) and any(_mentions_cuda(each.filename) for each in frames)
    values = {"type": type(error).__name__, "text": text, "deliberate": deliberate}
    return {**values, "file": file, "line": line, "code": code}


def _mentions_cuda(file: str) -> bool:
    return any("cuda" in line for line in linecache.getlines(file))
