"""Client of the process that runs a submission: requests with deadlines and resource limits."""

import os
import secrets
import select
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from scenelab.course.grading.checks.verdict import ReplyTensors, SubmissionError
from scenelab.course.grading.monitor import Monitor
from scenelab.course.grading.processes import stop, usage, waiting_seconds
from scenelab.course.grading.sandbox import Limits, Sandbox
from scenelab.course.grading.submission_error import CancelledError, sanitize
from scenelab_runner.message import Message
from scenelab_runner.operations import GRADED
from scenelab_runner.wire import WireError, decode, encode

__all__ = ["CancelledError", "SubmissionError", "Worker"]

START_SECONDS = 60  # timeout of the start, which loads torch
TICK = 0.05
MAX_FLAGS = 60
MAX_WAITING = 4  # by which waiting for a busy machine's processor may lengthen a request, in multiples of its seconds
Request = tuple[str, dict[str, Tensor], dict[str, Any]]  # operation, tensors, values


class Worker:
    """Process of one submission, started on the first call and restarted after it has ended.

    `stage / "submission"` holds the submission, and `code` is the student's file in it. `scanned` has the SHA-256 of
    each code file that the grader has read, by path relative to the submission.
    """

    def __init__(
        self, sandbox: Sandbox, stage: Path, code: Path, limits: Limits, scanned: dict[str, str] | None = None
    ) -> None:
        self.sandbox, self.stage, self.code, self.limits = sandbox, stage, code, limits
        self.scanned = scanned or {}
        self.emulate_gpu = self.cancelled = False
        self.gpu_places: list[str] = []
        self._no_gpu_helped: set[str] = set()  # errors that an emulated GPU did not prevent
        self.missing: list[str] = []
        self.flags: dict[str, None] = {}  # review flags, in order
        self.part = ""  # of the assignment; each has its own time budget
        self.spent: dict[str, float] = defaultdict(float)
        self.opening: Request | None = None  # request that is sent before the student's file is imported
        self.first: Message | None = None  # reply to `opening`, which took `first_seconds`
        self.seconds = self.first_seconds = 0.0  # duration of the last request
        self._process: Any = None
        self._monitor = Monitor(self.flag)
        self._user, self._token = sandbox.pick_user(), ""
        self._number = self._max_processes = 0
        self._deadline = self._checked = self._idle = self._before = 0.0

    @property
    def convolutions(self) -> list[str]:
        """Names of library convolutions that the last request called; empty if its operation is not in `GRADED`."""
        return self._monitor.convolutions

    def flag(self, text: str) -> None:
        """Add a flag for manual review, unless it is a duplicate or there are `MAX_FLAGS` already."""
        if len(self.flags) < MAX_FLAGS:
            self.flags[sanitize(text, self.stage)] = None

    def start(self) -> None:
        """Start the process and import the student's file, with an emulated GPU if the import needs a GPU.

        Raises:
            SubmissionError: the file cannot be imported.
            RuntimeError: the process does not start; this is an error of the grader.
        """
        try:
            self._start()
        except SubmissionError as error:
            if not error.wants_gpu:
                raise
            self._emulate_gpu(True)
            self._start()
            self.gpu_places.append(error.place or error.text)

    def call(
        self, operation: str, tensors: dict[str, Tensor] | None = None, *, seed: int = 0, **values: Any
    ) -> Message:
        """Send a request and return the reply; repeat it with an emulated GPU if the code needs a GPU.

        `seed` seeds the random number generators of the process; `values` are JSON values.

        Raises:
            SubmissionError: the code raises an exception, exceeds a limit or ends the process.
        """
        request = operation, tensors or {}, {**values, "seed": seed}
        try:
            return self._call(request)
        except SubmissionError as error:
            if self.emulate_gpu or not error.wants_gpu or str(error) in self._no_gpu_helped:
                raise
            self._emulate_gpu(True)
            place = error.place or error.text
            try:
                reply = self._call(request)
            except SubmissionError as second:
                if second.wants_gpu:  # the missing GPU was not the cause
                    self._emulate_gpu(False)
                    self._no_gpu_helped.add(str(error))
                    raise error from None
                self.gpu_places.append(place)
                raise
            self.gpu_places.append(place)
            return reply

    def _emulate_gpu(self, on: bool) -> None:
        self.close()
        self.emulate_gpu = on

    def _call(self, request: Request) -> Message:
        begun, budget, self._idle = time.monotonic(), self.limits.budget_seconds, 0.0
        if self.cancelled:
            raise CancelledError
        if self.spent[self.part] > budget:
            part = f"the checks of the part {self.part!r}" if self.part else "all checks"
            raise SubmissionError("budget", f"was not run: {part} may take {budget:g} seconds together")
        try:
            if self._process is None:
                self._start()
            return self._request(*request)
        finally:
            self.spent[self.part] += time.monotonic() - begun - self._idle

    def _start(self) -> None:
        self._launch()
        if self.opening is not None and self.first is None:
            self.first = self._request(*self.opening)
            self.first_seconds = self.seconds
        folder = self.stage / "submission"
        values = {"path": str(self.code.relative_to(folder)), "folder": str(folder)}
        values |= {"emulate_gpu": self.emulate_gpu, "scanned": self.scanned}
        missing = self._request("load", {}, values).values.get("missing", [])
        self.missing = [str(name)[:80] for name in missing] if isinstance(missing, list) else []

    def _launch(self) -> None:
        self._token = secrets.token_hex(16)
        options: dict[str, Any] = {"user": self._user, "token": self._token}
        with self._monitor.open() as handles:
            command = ["driver.py", *map(str, handles)]
            self._process = self.sandbox.start(command, self.stage, self.limits, handles=handles, **options)
        for stream in (self._process.stdin, self._process.stdout):  # the submission may read back what woke `select`
            os.set_blocking(stream.fileno(), False)
        self._max_processes = self.limits.processes
        self._deadline, self._before = time.monotonic() + START_SECONDS, 0.0
        try:
            decode(self._read)
        except (WireError, SubmissionError) as error:
            self.close()
            if self.cancelled:
                raise CancelledError from error
            raise RuntimeError(f"the grader's own process did not start in {self.sandbox}: {error}") from error
        _, self._max_processes = usage(self._process.pid)

    def _request(self, operation: str, tensors: dict[str, Tensor], values: dict[str, Any]) -> Message:
        self._number += 1
        number, begun, graded = self._number, time.monotonic(), operation in GRADED
        self._deadline, self._before = begun + self.limits.seconds, waiting_seconds(self._process.pid)
        nonce = self._monitor.begin()
        try:
            self._write(encode(Message({**values, "operation": operation, "number": number, "nonce": nonce}, tensors)))
            reply = decode(self._read)
            reply.values = sanitize(reply.values, self.stage)
            if reply.values.get("number") != number:
                raise WireError("the reply is to another request")
            self._idle = self._waited()
            self.seconds = time.monotonic() - begun - self._idle
            self._monitor.read()
            self._monitor.end(graded=graded, answered=True)
        except WireError as error:
            self.close()
            raise SubmissionError("protocol", "disturbed the pipe to the grader, which then ended it") from error
        except BaseException:
            with suppress(SubmissionError, OSError):
                self._monitor.read()
            self._monitor.end(graded=graded, answered=False)
            self.close()
            raise
        reply.tensors = ReplyTensors(reply.tensors)
        if "error" in reply.values:
            if operation == "load":
                self.close()
            raise SubmissionError.of(reply.values["error"])
        return reply

    def _write(self, data: bytes) -> None:
        view, handle = memoryview(data), self._process.stdin.fileno()
        while view:
            self._wait(writing=[handle])
            try:
                view = view[os.write(handle, view[: 1 << 16]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._ended() from error

    def _read(self, count: int) -> bytes:
        data, handle = bytearray(), self._process.stdout.fileno()
        while len(data) < count:
            self._wait(reading=[handle])
            try:
                part = os.read(handle, min(count - len(data), 1 << 20))
            except BlockingIOError:
                continue
            if not part:
                raise self._ended()
            data += part
        return bytes(data)

    def _wait(self, *, reading: list[int] | None = None, writing: list[int] | None = None) -> None:
        """Wait until a file descriptor is ready; raise SubmissionError at the deadline or above a resource limit."""
        ready = False
        while not ready:
            record = [self._monitor.handle] if self._monitor.handle >= 0 else []
            readable, writable, _ = select.select(record + (reading or []), writing or [], [], TICK)
            if record and record[0] in readable:
                self._monitor.read()
                readable.remove(record[0])
            ready, now = bool(readable or writable), time.monotonic()
            if now > self._deadline and now > self._deadline + self._waited():
                raise SubmissionError("time", f"did not end within {self.limits.seconds:g} seconds")
            if ready and now - self._checked < TICK:
                return
            self._checked = now
            memory, count = usage(self._process.pid)
            if memory > self.limits.memory:
                raise SubmissionError("memory", f"took more than {self.limits.memory >> 20:,} MiB of memory")
            if count > self._max_processes and "helper" not in self._monitor.events:
                self.flag("more than one process ran at once; nothing is watched in the others")
                self._max_processes = self.limits.processes
            if count > self.limits.processes:
                raise SubmissionError("processes", f"started more than {self.limits.processes} processes")

    def _waited(self) -> float:
        """Return the seconds of the last request in which the process only waited for a processor."""
        waited = waiting_seconds(self._process.pid) - self._before  # negative if the process has ended
        return min(max(0.0, waited), MAX_WAITING * self.limits.seconds)

    def _ended(self) -> SubmissionError:
        if self.cancelled:
            raise CancelledError
        reason = "a crash of the interpreter, os._exit, or too much time on the CPU"
        return SubmissionError("end", f"ended the process that it runs in ({reason})")

    def close(self) -> None:
        """Kill the process and everything that it started; the next call starts a new one."""
        if self._process is not None:
            stop(self._process, self._token, self._user)
            self._process = None
        self._monitor.close()
