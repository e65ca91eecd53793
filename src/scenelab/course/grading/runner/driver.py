"""The process in the sandbox: reads requests, runs the student's code, sends back what came of it.

It is started as `python driver.py LIMITS RECORD COUNTER`, with the pipe as standard input and output and two file
descriptors; the pipe is moved away before the student's file is read, so that printing and reading touch nothing.
"""

import json
import os
import random
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

MOST_TEXT = 2000  # characters of an error
GRADED = ("convolve", "run_module", "train_step")
"""Requests that run the student's convolution: PyTorch's own must not be called meanwhile."""


class Session:
    """The student's module and what it is asked.

    Args:
        record: takes notes for the grader.
        counter: file descriptor of the memory in which native convolutions are counted.
    """

    def __init__(self, record: Any, counter: int) -> None:
        from runner.operations import OPERATIONS, load_student
        from runner.tripwire import probe, put_in_place
        from runner.wire import Message

        # bound here: what the student's code may do to sys.modules changes nothing
        self._operations, self._load, self._message = OPERATIONS, load_student, Message
        self._put_in_place, self._probe = put_in_place, probe
        self._record, self._counter = record, counter
        self.module: ModuleType | None = None

    def answer(self, request: Any) -> Any:
        """What one request gives: the operation's own answer, or its error."""
        operation = request.values.get("operation")
        try:
            _seed(request.values.get("seed", 0))
            if operation == "load":
                self._put_in_place(self._record, self._counter)
                self.module, reply = self._load(request, self._record)
            else:
                reply = self._operations[operation](self.module, request)
        except BaseException as error:  # SystemExit too: the student's code is at work here
            reply = self._message({"error": self._describe(error)})
        if operation in GRADED:
            self._record.note("returned", request.values["nonce"])
            self._probe()
        return reply

    def _describe(self, error: BaseException) -> dict[str, Any]:
        """An error as plain values; of the traceback the lines that stand in what the student handed in."""
        frames = traceback.extract_tb(error.__traceback__)
        root = self._record.root
        own = [frame for frame in frames if frame.filename.startswith(root)] if root else []
        place = own[-1] if own else None
        described = {
            "type": type(error).__name__,
            "text": _text_of(error),
            "file": Path(place.filename).name if place else None,
            "line": place.lineno if place else None,
            "code": (place.line or "")[:200] if place else None,
        }
        if isinstance(error, SyntaxError):
            described |= {
                "file": Path(str(error.filename or "")).name,
                "line": error.lineno if isinstance(error.lineno, int) else None,
                "code": str(error.text or "")[:200],
            }
        return described


def _text_of(error: BaseException) -> str:
    """An exception's text; its `__str__` may be the student's and may fail."""
    try:
        return str(error)[:MOST_TEXT]
    except BaseException as other:
        return f"(its text cannot be had: __str__ raised {type(other).__name__})"


def _seed(seed: int) -> None:
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def _take_pipe() -> tuple[int, int]:
    """The pipe's two ends on numbers of their own; 0, 1 and 2 lead nowhere."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.close(nothing)
    return requests, answers


def _reader(handle: int) -> Any:
    def read(count: int) -> bytes:
        parts = []
        while count:
            part = os.read(handle, min(count, 1 << 20))
            if not part:
                os._exit(0)  # the grader is gone or has closed the pipe
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    return read


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def main() -> None:
    """Answer requests until the pipe closes."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    requests, answers = _take_pipe()
    from runner import limits

    limits.apply(json.loads(sys.argv[1]))
    import torch

    from runner.record import Record
    from runner.wire import Message, WireError, decode, encode

    record = Record(int(sys.argv[2]))
    torch.set_num_threads(1)
    session, read = Session(record, int(sys.argv[3])), _reader(requests)
    sys.argv[:] = ["student_code.py"]
    del sys.path[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == "runner"]:
        del sys.modules[name]
    _write(answers, encode(Message({"ready": torch.__version__})))
    while True:
        request = decode(read)
        reply = session.answer(request)
        reply.values["number"] = request.values["number"]
        try:
            data = encode(reply)
        except (WireError, TypeError, ValueError, RuntimeError) as error:
            described = {"type": type(error).__name__, "text": str(error)[:MOST_TEXT]}
            data = encode(Message({"error": described, "number": request.values["number"]}))
        record.note("reply", request.values["nonce"])
        _write(answers, data)


if __name__ == "__main__":
    main()
