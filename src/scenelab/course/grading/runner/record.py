"""Notes from the process in the sandbox to the grader: a pipe from which no line can be taken back.

Each line is written before the reply is sent. Each reply is announced in it, so that closing the pipe is noticed.
"""

import contextlib
import json
import os
import sys
from types import FrameType

MAX_TEXT = 600  # characters of a note; a line is written at once (PIPE_BUF is 4096 bytes)
MAX_FLAGS = 80  # that differ; a note of a call is always written


class Record:
    """The writing end.

    Args:
        handle: its file descriptor.
        root: the submission's folder; frames of code below it are named in notes.
    """

    def __init__(self, handle: int, root: str = "") -> None:
        self.handle, self.root = handle, root
        self._flags: set[str] = set()

    def note(self, kind: str, text: str = "") -> None:
        """Write a line."""
        line = json.dumps({"kind": kind, "text": text[:MAX_TEXT]}).encode() + b"\n"
        with contextlib.suppress(OSError):
            os.write(self.handle, line)

    def flag(self, text: str) -> None:
        """Write a review flag once."""
        if text not in self._flags and len(self._flags) < MAX_FLAGS:
            self._flags.add(text)
            self.note("flag", text)

    def place(self, frame: FrameType | None) -> str:
        """Return file and line of the submission's innermost code, or ""."""
        while frame is not None:
            name = frame.f_code.co_filename
            if self.root and name.startswith(self.root):
                return f"{os.path.relpath(name, self.root)}, line {frame.f_lineno}"
            frame = frame.f_back
        return ""

    def place_here(self) -> str:
        """Return the place of the caller."""
        return self.place(sys._getframe(1))
