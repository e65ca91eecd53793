"""Reading of the runner's record (a pipe of JSON events) and its count of PyTorch convolution calls.

The process in the sandbox cannot remove an event that it has written to the record.
"""

import json
import mmap
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from scenelab.course.grading.checks.verdict import SubmissionError
from scenelab.errors import printable
from scenelab_runner.wire import COUNTER

MAX_BYTES = 64 << 20  # read from the record per request
CLOSED = "the record of what the process does was closed"


def _seal(file: int) -> None:
    """Fix the size of shared memory; if a submission shrank it, reading the counter would kill the grader (SIGBUS)."""
    import fcntl  # Linux only, like the sandbox

    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)


class Monitor:
    """Reader of the record (a pipe) and convolution counter (shared memory); passes each review flag to `flag`."""

    def __init__(self, flag: Callable[[str], None]) -> None:
        self._flag = flag
        self.handle = -1  # file descriptor of the pipe's read end; -1 if closed
        self.convolutions: list[str] = []  # called by the last request, if it was graded
        self._memory: mmap.mmap | None = None
        self._rest, self._size, self._nonce, self._before = b"", 0, "", 0
        self.events: set[str] = set()  # replies, and "helper" if a program known to be harmless was started
        self._calls: list[tuple[str, str]] = []

    @contextmanager
    def open(self) -> Iterator[tuple[int, int]]:
        """Open a pipe and shared memory; yield the pipe's write end and the memory as file descriptors to inherit."""
        self.close()
        self.handle, writing = os.pipe()
        os.set_blocking(self.handle, False)
        with os.fdopen(writing, "wb"), os.fdopen(os.memfd_create("counter", os.MFD_ALLOW_SEALING), "r+b") as file:
            file.truncate(mmap.PAGESIZE)
            _seal(file.fileno())
            self._memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
            yield writing, file.fileno()

    def _count(self) -> int:
        return COUNTER.unpack_from(self._memory, 0)[0] if self._memory is not None else 0

    def begin(self) -> str:
        """Reset events and counts for a new request; return the nonce that marks its reply in the record."""
        self.convolutions, self._calls, self.events = [], [], set()
        self._size, self._before, self._nonce = 0, self._count(), secrets.token_hex(8)
        return self._nonce

    def read(self, *, ended: bool = False) -> None:
        """Read and store all pending events; flag a closed pipe unless the grader has killed the process (`ended`)."""
        while self.handle >= 0:
            try:
                part = os.read(self.handle, 1 << 16)
            except BlockingIOError:
                return
            if not part:
                if not ended:
                    self._flag(CLOSED)
                os.close(self.handle)
                self.handle = -1
                return
            self._size += len(part)
            if self._size > MAX_BYTES:
                raise SubmissionError("protocol", "disturbed the record of what it does, which then ended it")
            *lines, self._rest = (self._rest + part).split(b"\n")
            for line in lines:
                self._read_line(line)

    def _read_line(self, line: bytes) -> None:
        try:
            values = json.loads(line)
            kind, text = str(values["kind"]), str(values["text"])
        except (ValueError, KeyError, TypeError, RecursionError):
            self._flag("something else was written into the record of what the process does")
            return
        if kind == "flag":
            self._flag(text)
        elif kind in ("returned", "reply"):
            self.events.add(f"{kind} {text}")
        elif kind in ("convolution", "foreign") and f"returned {self._nonce}" not in self.events:
            self._calls.append((kind, printable(text)[:200]))
        elif kind == "helper":
            self.events.add(kind)

    def end(self, *, graded: bool, answered: bool) -> None:
        """Set `convolutions` to the library convolutions called during a request; flag a replaced pipe or counter.

        Args:
            graded: Whether the student's code must not call PyTorch's convolution; else nothing is counted.
            answered: Whether a reply has arrived. Then the pipe must contain its nonce, and one counted call is the
                runner's own (`tripwire.probe`).
        """
        if answered and f"reply {self._nonce}" not in self.events:
            self._flag(f"{CLOSED} or replaced")
        if not graded:
            return
        calls = self._count() - self._before - answered
        if calls < 0:
            self._flag("the watch for PyTorch's own convolution is no longer the one that was put there")
        if calls > 0 or self._calls:  # a call may be recorded and the runner's own be missing
            self.convolutions = list(dict.fromkeys(text for _, text in self._calls)) or ["PyTorch's"]

    def close(self) -> None:
        """Read the pending events of a killed process; close the pipe and the shared memory."""
        with suppress(SubmissionError, OSError):
            self.read(ended=True)
        if self.handle >= 0:
            os.close(self.handle)
        if self._memory is not None:
            self._memory.close()
        self.handle, self._rest, self._memory = -1, b"", None
