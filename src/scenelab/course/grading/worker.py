"""The grader's side of the process that runs a student's code: requests with a deadline, and what became of them."""

import json
import mmap
import os
import re
import secrets
import select
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scenelab.course.grading.processes import stop, usage
from scenelab.course.grading.runner.driver import GRADED
from scenelab.course.grading.runner.wire import COUNTER, Message, WireError, decode, encode
from scenelab.course.grading.sandbox import Limits, Sandbox
from scenelab.errors import printable

START_SECONDS = 60  # for torch to load
TICK = 0.05
MOST_TEXT, MOST_ITEMS, DEEPEST = 4000, 5000, 8  # of texts, lists and lists in lists that a student's process sends
MAX_MARKS, MAX_NOTES = 60, 64 << 20  # marks that are kept; bytes of the record that are read of one request
COPY = re.compile(r"/tmp/submission-\w+/")
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
GPU = re.compile(r"cuda|nvidia|\bgpu\b", re.IGNORECASE)


@dataclass
class SubmissionError(Exception):
    """The student's code did not answer: it raised, took too long, took too much, or its process ended.

    Attributes:
        kind: "error", "time", "memory", "processes", "end", "protocol" or "budget".
        text: one line for the student.
        place: file, line and code, where known.
        error: name of the exception's type.
    """

    kind: str
    text: str
    place: str = ""
    error: str = ""

    def __str__(self) -> str:
        return self.text + (f" ({self.place})" if self.place else "")

    @property
    def wants_gpu(self) -> bool:
        """Whether an error, or the line that it stands in, names a GPU."""
        return self.kind == "error" and bool(GPU.search(f"{self.text} {self.place}"))


class CancelledError(BaseException):
    """The batch has been stopped: what this submission would have got is not known."""


class Worker:
    """One submission's process, started when it is first asked and again after each end.

    Args:
        sandbox: where it runs.
        stage: of `sandbox.make_stage`; `stage / "submission"` holds what was handed in.
        code: the student's file.
        limits: what it may take.
        scanned: SHA-256 of each file of code that the grader has read, by its path below `stage / "submission"`.

    Attributes:
        part: of the assignment; each has its own time.
        flags: what a person should look at, from the record of the process and from outside.
        convolutions: PyTorch's own that the last request reached.
        opening: a request that the process gets before the student's code is there: operation, tensors, values.
        first: the answer to it, after `first_seconds`.
        seconds: that the last request took.
    """

    def __init__(
        self, sandbox: Sandbox, stage: Path, code: Path, limits: Limits, scanned: dict[str, str] | None = None
    ) -> None:
        self.sandbox, self.stage, self.code, self.limits = sandbox, stage, code, limits
        self.scanned = scanned or {}
        self.emulate_gpu = False
        self.gpu_places: list[str] = []
        self.missing: list[str] = []
        self.flags: dict[str, None] = {}
        self.convolutions: list[str] = []
        self.part = ""
        self.spent: dict[str, float] = defaultdict(float)
        self.first: Message | None = None
        self.seconds = self.first_seconds = 0.0
        self.opening: tuple[str, dict[str, Tensor], dict[str, Any]] | None = None
        self.cancelled = False
        self._process: Any = None
        self._record = _Record(self)
        self._user = sandbox.pick_user()
        self._token = ""
        self._number = 0
        self._processes = 0
        self._deadline = self._looked = 0.0

    def call(
        self, operation: str, tensors: dict[str, Tensor] | None = None, *, seed: int = 0, **values: Any
    ) -> Message:
        """One request and its answer; where the code wants a GPU it is asked again with the CPU in its place.

        Raises:
            SubmissionError: there is no answer.
        """
        try:
            return self._ask(operation, tensors or {}, seed, values)
        except SubmissionError as error:
            if self.emulate_gpu or not error.wants_gpu:
                raise
            self._emulate_gpu()
            try:
                reply = self._ask(operation, tensors or {}, seed, values)
            except SubmissionError as again:
                if again.wants_gpu:
                    self._emulate_gpu(false_alarm=True)
                    raise error from None
                self.gpu_places.append(error.place or error.text)
                raise
            self.gpu_places.append(error.place or error.text)
            return reply

    def _emulate_gpu(self, *, false_alarm: bool = False) -> None:
        """Start anew with the CPU in a GPU's place, or back, where that did not help."""
        self.close()
        self.emulate_gpu = not false_alarm

    def start(self) -> None:
        """Start the process and import the student's file, with the CPU in a GPU's place where it needs that.

        Raises:
            SubmissionError: the file cannot be imported.
            RuntimeError: the process does not start, which is no fault of the student's.
        """
        try:
            self._start()
        except SubmissionError as error:
            if not error.wants_gpu:
                raise
            self._emulate_gpu()
            self._start()
            self.gpu_places.append(error.place or error.text)

    def _ask(self, operation: str, tensors: dict[str, Tensor], seed: int, values: dict[str, Any]) -> Message:
        begun = time.monotonic()
        if self.cancelled:
            raise CancelledError
        if self.spent[self.part] > self.limits.budget_seconds:
            part = f"the checks of the part {self.part!r}" if self.part else "all checks"
            raise SubmissionError(
                "budget", f"was not run: {part} may take {self.limits.budget_seconds:g} seconds together"
            )
        try:
            if self._process is None:
                self._start()
            return self._request(operation, tensors, {**values, "seed": seed}, self.limits.seconds)
        finally:
            self.spent[self.part] += time.monotonic() - begun

    def _start(self) -> None:
        self._token = secrets.token_hex(16)
        handle, counter = self._record.open()
        try:
            self._process = self.sandbox.start(
                "driver.py", [str(handle), str(counter)], self.stage, self.limits, user=self._user, token=self._token,
                descriptors=[handle, counter],
            )  # fmt: skip
        finally:
            os.close(handle)
            os.close(counter)
        os.set_blocking(self._process.stdin.fileno(), False)
        self._processes = self.limits.processes
        self._deadline = time.monotonic() + START_SECONDS
        try:
            ready = decode(self._read)
        except (WireError, SubmissionError) as error:
            self.close()
            if self.cancelled:
                raise CancelledError from error
            raise RuntimeError(f"the grader's own process did not start in {self.sandbox}: {error}") from error
        if "ready" not in ready.values:
            raise RuntimeError("the grader's own process did not start as it should")
        _, self._processes = usage(self._process.pid)
        if self.opening is not None and self.first is None:
            operation, tensors, values = self.opening
            self.first = self._request(operation, tensors, values, self.limits.seconds)
            self.first_seconds = self.seconds
        folder = self.stage / "submission"
        values = {"path": str(self.code.relative_to(folder)), "folder": str(folder), "emulate_gpu": self.emulate_gpu,
                  "scanned": self.scanned}  # fmt: skip
        reply = self._request("load", {}, values, self.limits.seconds)
        missing = reply.values.get("missing", [])
        self.missing = [str(name)[:80] for name in missing] if isinstance(missing, list) else []

    def _request(self, operation: str, tensors: dict[str, Tensor], values: dict[str, Any], seconds: float) -> Message:
        self._number += 1
        number, begun = self._number, time.monotonic()
        self._deadline = time.monotonic() + seconds
        self.convolutions = []
        nonce = self._record.begin()
        try:
            sent = {**values, "operation": operation, "number": number, "nonce": nonce}
            self._write(encode(Message(sent, tensors)))
            reply = decode(self._read)
            reply.values = self._clean(reply.values)
            if reply.values.get("number") != number:
                raise WireError("the answer is to another question")
            self.seconds = time.monotonic() - begun
            self._record.end(graded=operation in GRADED)
        except WireError as error:
            self.close()
            raise SubmissionError("protocol", "disturbed the pipe to the grader, which then ended it") from error
        except BaseException:
            with suppress(SubmissionError, OSError):
                self._record.read()
            self._record.settle(graded=operation in GRADED, answered=False)
            self.close()
            raise
        reply.tensors = _Sent(reply.tensors)
        if "error" in reply.values:
            if operation == "load":
                self.close()
            raise _trouble(reply.values["error"])
        return reply

    def _write(self, data: bytes) -> None:
        view, handle = memoryview(data), self._process.stdin.fileno()
        while view:
            self._wait(None, handle)
            try:
                view = view[os.write(handle, view[: 1 << 16]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._ended() from error

    def _read(self, count: int) -> bytes:
        data, handle = bytearray(), self._process.stdout.fileno()
        while len(data) < count:
            self._wait(handle, None)
            part = os.read(handle, min(count - len(data), 1 << 20))
            if not part:
                raise self._ended()
            data += part
        return bytes(data)

    def _wait(self, reading: int | None, writing: int | None) -> None:
        """Until the pipe is ready; meanwhile watch the clock, the memory and the number of processes."""
        while True:
            record = [self._record.handle] if self._record.handle >= 0 else []
            readable, writable, _ = select.select(
                [*record, *([] if reading is None else [reading])],
                [] if writing is None else [writing], [], TICK,
            )  # fmt: skip
            if record and record[0] in readable:
                self._record.read()
                readable.remove(record[0])
            now = time.monotonic()
            if now > self._deadline:
                raise SubmissionError("time", f"did not end within {self.limits.seconds:g} seconds")
            if now - self._looked < TICK and (readable or writable):
                return
            self._looked = now
            held, count = usage(self._process.pid)
            if held > self.limits.memory:
                raise SubmissionError("memory", f"took more than {self.limits.memory >> 20:,} MiB of memory")
            if count > self._processes and not self._record.helped:
                self.flag("more than one process ran at once; nothing is watched in the others")
                self._processes = self.limits.processes
            if count > self.limits.processes:
                raise SubmissionError("processes", f"started more than {self.limits.processes} processes")
            if readable or writable:
                return

    def flag(self, text: str) -> None:
        """Note once that a person should look at something."""
        if len(self.flags) < MAX_MARKS:
            self.flags[self._clean(text)] = None

    def _clean(self, value: Any, depth: int = 0) -> Any:
        """Values of the student's process with texts that can be printed and stored, short, and the same each time.

        Raises:
            WireError: they lie in each other too deep.
        """
        if depth > DEEPEST:
            raise WireError("the values lie in each other too deep")
        if isinstance(value, str):
            text = value[:MOST_TEXT].replace(f"{self.stage}/submission/", "")
            return printable(ADDRESS.sub("0x…", COPY.sub("", text)), keep="\n")
        if isinstance(value, dict):
            items = list(value.items())[:MOST_ITEMS]
            return {self._clean(str(name), depth): self._clean(each, depth + 1) for name, each in items}
        if isinstance(value, list):
            return [self._clean(each, depth + 1) for each in value[:MOST_ITEMS]]
        return value

    def _ended(self) -> SubmissionError:
        if self.cancelled:
            raise CancelledError
        return SubmissionError(
            "end",
            "ended the process that it runs in (a crash of the interpreter, os._exit, or too much time on the CPU)",
        )

    def close(self) -> None:
        """End the process and all that it started."""
        if self._process is not None:
            stop(self._process, self._token, self._user)
            self._process = None
        self._record.close()


class _Record:
    """The grader's end of what the process in the sandbox notices: a pipe of lines (runner/record.py), and memory that
    both share, in which native convolutions are counted (runner/tripwire.py). Neither can be taken back.
    """

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self.handle = -1
        self._memory: mmap.mmap | None = None
        self._rest, self._kinds, self._read, self._nonce, self._before = b"", [], 0, "", 0
        self._called: list[tuple[str, str]] = []

    def open(self) -> tuple[int, int]:
        """Begin anew; returns the end to write into and the memory, as file descriptors."""
        self.close()
        self.handle, writing = os.pipe()
        os.set_blocking(self.handle, False)
        with tempfile.TemporaryFile() as file:
            file.truncate(mmap.PAGESIZE)
            self._memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
            return writing, os.dup(file.fileno())

    def _count(self) -> int:
        return COUNTER.unpack_from(self._memory, 0)[0] if self._memory is not None else 0

    def begin(self) -> str:
        """A request follows; returns a word that the lines of its answer have to have."""
        self._kinds, self._called, self._read, self._before = [], [], 0, self._count()
        self._nonce = secrets.token_hex(8)
        return self._nonce

    def read(self) -> None:
        """Take what is there."""
        while self.handle >= 0:
            try:
                part = os.read(self.handle, 1 << 16)
            except BlockingIOError:
                return
            if not part:
                self._worker.flag("the record of what the process does was closed")
                os.close(self.handle)
                self.handle = -1
                return
            self._read += len(part)
            if self._read > MAX_NOTES:
                raise SubmissionError("protocol", "disturbed the record of what it does, which then ended it")
            *lines, self._rest = (self._rest + part).split(b"\n")
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            values = json.loads(line)
            kind, text = str(values["kind"]), str(values["text"])
        except (ValueError, KeyError, TypeError, RecursionError):
            self._worker.flag("something else was written into the record of what the process does")
            return
        if kind == "mark":
            self._worker.flag(text)
        elif kind in ("returned", "reply"):
            self._kinds.append(f"{kind} {text}")
        elif kind in ("convolution", "foreign") and f"returned {self._nonce}" not in self._kinds:
            self._called.append((kind, printable(text)[:200]))
        elif kind == "helper":
            self._kinds.append(kind)

    @property
    def helped(self) -> bool:
        """Whether a library has started a program that is known to be harmless."""
        return "helper" in self._kinds

    def end(self, *, graded: bool) -> None:
        """An answer has come: the record must announce it, and the counter show the call that was made behind it."""
        self.read()
        if f"reply {self._nonce}" not in self._kinds:
            self._worker.flag("the record of what the process does was closed or replaced")
        self.settle(graded=graded, answered=True)

    def settle(self, *, graded: bool, answered: bool) -> None:
        """Tell the worker which native convolutions the request has called: those counted, by the names noted."""
        if not graded:
            return
        calls = self._count() - self._before - answered
        names = list(dict.fromkeys(text for _, text in self._called))
        if calls < 0:
            self._worker.flag("the watch for PyTorch's own convolution is no longer the one that was put there")
        if calls > 0 or any(kind == "foreign" for kind, _ in self._called):
            self._worker.convolutions = names or ["PyTorch's"]

    def close(self) -> None:
        """Take what is left and close this end."""
        with suppress(SubmissionError, OSError):
            self.read()
        if self.handle >= 0:
            os.close(self.handle)
        if self._memory is not None:
            self._memory.close()
        self.handle, self._rest, self._memory = -1, b"", None


class _Sent(dict[str, Tensor]):
    """Tensors by name; one that was not sent is the student's process's doing."""

    def __missing__(self, name: str) -> Tensor:
        raise SubmissionError("protocol", f"disturbed the answer to the grader, which lacks {name}")


def _trouble(described: Any) -> SubmissionError:
    """A student's exception, from what came through the pipe, which may be anything."""
    told = described if isinstance(described, dict) else {}
    kind, text = str(told.get("type", "error"))[:60], " ".join(str(told.get("text", "")).split())[:400]
    place = ""
    if told.get("file"):
        place = f"{str(told['file'])[:80]}, line {told.get('line')}"
        if told.get("code"):
            place += f": {str(told['code']).strip()[:120]}"
    if kind == "NotImplementedError":
        return SubmissionError("error", f"is not written yet: {text}" if text else "is not written yet", place, kind)
    return SubmissionError("error", f"raised {kind}: {text}" if text else f"raised {kind}", place, kind)
