"""The grader's side of the process that runs a student's code: requests with a deadline, and what became of them."""

import json
import os
import re
import secrets
import select
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scenelab.grading.inside.wire import Message, WireError, decode, encode
from scenelab.grading.sandbox import Limits, Sandbox, stop, usage

START_SECONDS = 60  # for torch to load
TICK = 0.05
MOST_TEXT, MOST_ITEMS = 4000, 5000  # of texts and lists that a student's process sends
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
GPU = re.compile(r"cuda|nvidia|\bgpu\b", re.IGNORECASE)


@dataclass
class Trouble(Exception):  # noqa: N818 - what befell the student's code, not a fault of the grader's
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


class CancelledError(BaseException):
    """The batch has been stopped: what this submission would have got is not known."""


class Child:
    """One submission's process, started when it is first asked and again after each end.

    Args:
        sandbox: where it runs.
        stage: of `sandbox.make_stage`; `stage / "submission"` holds what was handed in.
        code: the student's file.
        limits: what it may take.
    """

    def __init__(self, sandbox: Sandbox, stage: Path, code: Path, limits: Limits) -> None:
        self.sandbox, self.stage, self.code, self.limits = sandbox, stage, code, limits
        self.pretend_gpu = False
        self.gpu_places: list[str] = []
        self.missing: list[str] = []
        self.spent = 0.0
        self.cancelled = False
        self._process: Any = None
        self._user = sandbox.pick_user()
        self._token = ""
        self._number = 0
        self._deadline = self._looked = 0.0

    def ask(self, operation: str, tensors: dict[str, Tensor] | None = None, *, seed: int = 0, **values: Any) -> Message:
        """One request and its answer; where the code wants a GPU it is asked again with the CPU in its place.

        Raises:
            Trouble: there is no answer.
        """
        try:
            return self._ask(operation, tensors or {}, seed, values)
        except Trouble as trouble:
            if self.pretend_gpu or trouble.kind != "error" or not GPU.search(trouble.text):
                raise
            self._pretend()
            try:
                reply = self._ask(operation, tensors or {}, seed, values)
            except Trouble as again:
                if GPU.search(again.text):
                    self._pretend(false_alarm=True)
                    raise trouble from None
                self.gpu_places.append(trouble.place or trouble.text)
                raise
            self.gpu_places.append(trouble.place or trouble.text)
            return reply

    def _pretend(self, *, false_alarm: bool = False) -> None:
        """Start anew with the CPU in a GPU's place, or back, where that did not help."""
        self.close()
        self.pretend_gpu = not false_alarm

    def begin(self) -> None:
        """Start the process and import the student's file, with the CPU in a GPU's place where it needs that.

        Raises:
            Trouble: the file cannot be imported.
            RuntimeError: the process does not start, which is no fault of the student's.
        """
        try:
            self._start()
        except Trouble as trouble:
            if trouble.kind != "error" or not GPU.search(trouble.text):
                raise
            self._pretend()
            self._start()
            self.gpu_places.append(trouble.place or trouble.text)

    def _ask(self, operation: str, tensors: dict[str, Tensor], seed: int, values: dict[str, Any]) -> Message:
        begun = time.monotonic()
        if self.cancelled:
            raise CancelledError
        if self.spent > self.limits.budget_seconds:
            raise Trouble("budget", f"was not run: all checks together may take {self.limits.budget_seconds:g} seconds")
        try:
            if self._process is None:
                self._start()
            return self._request(operation, tensors, {**values, "seed": seed}, self.limits.seconds)
        finally:
            self.spent += time.monotonic() - begun

    def _start(self) -> None:
        self._token = secrets.token_hex(16)
        limits = {
            "memory": self.limits.memory, "file": self.limits.file, "seconds": self.limits.cpu_seconds,
            "processes": self.limits.processes, "user": self._user,
        }  # fmt: skip
        driver = self.stage / "inside" / "driver.py"
        self._process = self.sandbox.start([str(driver), json.dumps(limits)], self.stage, token=self._token)
        os.set_blocking(self._process.stdin.fileno(), False)
        self._deadline = time.monotonic() + START_SECONDS
        try:
            ready = decode(self._read)
        except (WireError, Trouble) as error:
            self.close()
            if self.cancelled:
                raise CancelledError from error
            raise RuntimeError(f"the grader's own process did not start in {self.sandbox}: {error}") from error
        if "ready" not in ready.values:
            raise RuntimeError("the grader's own process did not start as it should")
        folder = self.stage / "submission"
        reply = self._request(
            "load", {}, {"path": str(self.code), "folder": str(folder), "pretend_gpu": self.pretend_gpu},
            self.limits.seconds,
        )  # fmt: skip
        missing = reply.values.get("missing", [])
        self.missing = [str(name)[:80] for name in missing] if isinstance(missing, list) else []

    def _request(self, operation: str, tensors: dict[str, Tensor], values: dict[str, Any], seconds: float) -> Message:
        self._number += 1
        number = self._number
        self._deadline = time.monotonic() + seconds
        try:
            self._write(encode(Message({**values, "operation": operation, "number": number}, tensors)))
            reply = decode(self._read)
            reply.values = self._clean(reply.values)
            if reply.values.get("number") != number:
                raise WireError("the answer is to another question")
        except WireError as error:
            self.close()
            raise Trouble("protocol", "disturbed the pipe to the grader, which then ended it") from error
        except BaseException:
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
            readable, writable, _ = select.select(
                [] if reading is None else [reading], [] if writing is None else [writing], [], TICK
            )
            now = time.monotonic()
            if now > self._deadline:
                raise Trouble("time", f"did not end within {self.limits.seconds:g} seconds")
            if now - self._looked < TICK and (readable or writable):
                return
            self._looked = now
            held, count = usage(self._process.pid)
            if held > self.limits.memory:
                raise Trouble("memory", f"took more than {self.limits.memory >> 20:,} MiB of memory")
            if count > self.limits.processes:
                raise Trouble("processes", f"started more than {self.limits.processes} processes")
            if readable or writable:
                return

    def _clean(self, value: Any) -> Any:
        """Values of the student's process with texts that can be printed and stored, short, and the same each time."""
        if isinstance(value, str):
            text = value[:MOST_TEXT].replace(f"{self.stage}/submission/", "").encode("utf-8", "replace").decode()
            text = ADDRESS.sub("0x…", text)
            return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
        if isinstance(value, dict):
            return {self._clean(str(name)): self._clean(each) for name, each in list(value.items())[:MOST_ITEMS]}
        if isinstance(value, list):
            return [self._clean(each) for each in value[:MOST_ITEMS]]
        return value

    def _ended(self) -> Trouble:
        if self.cancelled:
            raise CancelledError
        return Trouble(
            "end",
            "ended the process that it runs in (a crash of the interpreter, os._exit, or too much time on the CPU)",
        )

    def close(self) -> None:
        """End the process and all that it started."""
        if self._process is not None:
            stop(self._process, self._token, self._user)
            self._process = None


class _Sent(dict[str, Tensor]):
    """Tensors by name; one that was not sent is the student's process's doing."""

    def __missing__(self, name: str) -> Tensor:
        raise Trouble("protocol", f"disturbed the answer to the grader, which lacks {name}")


def _trouble(described: Any) -> Trouble:
    """A student's exception, from what came through the pipe, which may be anything."""
    told = described if isinstance(described, dict) else {}
    kind, text = str(told.get("type", "error"))[:60], " ".join(str(told.get("text", "")).split())[:400]
    place = ""
    if told.get("file"):
        place = f"{str(told['file'])[:80]}, line {told.get('line')}"
        if told.get("code"):
            place += f": {str(told['code']).strip()[:120]}"
    if kind == "NotImplementedError":
        return Trouble("error", f"is not written yet: {text}" if text else "is not written yet", place, kind)
    return Trouble("error", f"raised {kind}: {text}" if text else f"raised {kind}", place, kind)
