"""Record of a submission's actions: JSON lines that the runner writes to a pipe to the grader.

A line cannot be removed once it is written. All lines about a request are written before its reply is sent. The last
line announces the reply, so that the grader notices if the submission has closed the pipe.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

MAX_TEXT = 600  # characters of a note; short lines are written atomically (PIPE_BUF is 4096 bytes)
MAX_FLAGS = 80  # different flags; other notes are not limited
CONVOLUTION = re.compile(r"(convolve|correlate|correlateND|convolution|filter2D)|(^|_)conv(olve)?_?[123]?d?$")
USUAL = """
    torch numpy scipy torchvision einops opt_einsum typing_extensions jaxtyping beartype typeguard tqdm matplotlib
    _distutils_hack sympy mpmath absl tensorboard google six packaging PIL scenelab_runner
""".split()
QUOTE = json.encoder.encode_basestring_ascii  # a function in C
PACKAGE = re.compile(r"/(?:site|dist)-packages/([^/.]+)")


class Record:
    """Writer of the record to a pipe (file descriptor `handle`) about the submission in the folder `root`."""

    def __init__(self, handle: int, root: str = "") -> None:
        self.handle, self.root = handle, root
        self._flags: set[str] = set()

    def note(self, kind: str, text: str = "", *, write: Any = os.write, quote: Any = QUOTE) -> None:
        """Write a JSON line with a kind and a text of at most `MAX_TEXT` characters; ignore a closed pipe.

        `write` and `quote` are bound here, because the student's code may replace `os.write` and `json.dumps`.
        """
        line = '{"kind": ' + quote(kind) + ', "text": ' + quote(text[:MAX_TEXT]) + "}\n"
        try:  # noqa: SIM105
            write(self.handle, line.encode())
        except OSError:
            pass

    def flag(self, text: str) -> None:
        """Write a review flag, unless the same flag or `MAX_FLAGS` different flags were written before."""
        if text not in self._flags and len(self._flags) < MAX_FLAGS:
            self._flags.add(text)
            self.note("flag", text)

    def place(self, frame: FrameType | None) -> str:
        """Return "FILE, line N" of the innermost caller in a file of the submission, or "" if there is none."""
        while frame is not None:
            name = frame.f_code.co_filename
            if self.root and name.startswith(self.root):
                return f"{os.path.relpath(name, self.root)}, line {frame.f_lineno}"
            frame = frame.f_back
        return ""


records: list[Record] = []  # of this process


@contextlib.contextmanager
def trace_calls(record: Record) -> Iterator[None]:
    """Profile a `with` block; note calls of convolutions outside torch, and flag packages that are not in `USUAL`.

    Notes and flag are written at the end of the block. Threads started in the block are profiled too, which is slow.
    """
    codes: dict[int, CodeType] = {}
    functions: dict[int, Any] = {}
    standard = getattr(sys, "stdlib_module_names", ())  # from Python 3.10 on

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            codes[id(frame.f_code)] = frame.f_code
        elif event == "c_call":
            functions[id(argument)] = argument

    gc.disable()  # finalizers are not the student's calls
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        gc.enable()
        calls = {(match[1], code.co_name) for code in codes.values() if (match := PACKAGE.search(code.co_filename))}
        for function in functions.values():
            module = getattr(function, "__module__", None)
            package = module.partition(".")[0] if isinstance(module, str) else ""
            if package and package not in standard:
                calls.add((package, str(getattr(function, "__name__", ""))))
        for package, name in sorted(calls):
            if package != "torch" and CONVOLUTION.search(name):  # SciPy, NumPy, OpenCV and others
                record.note("foreign", f"{package}.{name}")
        if packages := sorted({package for package, _ in calls} - set(USUAL)):
            record.flag(f"the convolution runs code of {', '.join(packages[:6])}")
