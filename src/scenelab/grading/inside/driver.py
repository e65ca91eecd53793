"""The process in the sandbox: reads requests, runs the student's code, sends back what came of it.

It is started as `python driver.py LIMITS`, with the pipe as standard input and output; both are moved away before the
student's file is read, so that printing and reading touch nothing.
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
MOST_LINES = 12  # of a traceback


class Session:
    """The student's module and what it is asked."""

    def __init__(self) -> None:
        self.module: ModuleType | None = None
        self.folder = ""

    def answer(self, request: Any) -> Any:
        """What one request gives: the operation's own answer, or its error."""
        from inside.operations import OPERATIONS, load_student
        from inside.wire import Message

        operation = request.values.get("operation")
        try:
            _seed(request.values.get("seed", 0))
            if operation == "load":
                self.folder = request.values["folder"]
                self.module, reply = load_student(request)
            else:
                reply = OPERATIONS[operation](self.module, request)
        except BaseException as error:  # SystemExit too: the student's code is at work here
            return Message({"error": self._describe(error)})
        return reply

    def _describe(self, error: BaseException) -> dict[str, Any]:
        """An error as plain values; of the traceback the lines that stand in what the student handed in."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename.startswith(self.folder)] if self.folder else []
        place = own[-1] if own else None
        described = {
            "type": type(error).__name__,
            "text": str(error)[:MOST_TEXT],
            "file": Path(place.filename).name if place else None,
            "line": place.lineno if place else None,
            "code": (place.line or "")[:200] if place else None,
        }
        if isinstance(error, SyntaxError):
            described |= {
                "file": Path(error.filename or "").name,
                "line": error.lineno,
                "code": (error.text or "")[:200],
            }
        return described


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
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    requests, answers = _take_pipe()
    from inside import limits

    limits.apply(json.loads(sys.argv[1]))
    import torch

    from inside.wire import Message, WireError, decode, encode

    torch.set_num_threads(1)
    _write(answers, encode(Message({"ready": torch.__version__})))
    session, read = Session(), _reader(requests)
    while True:
        request = decode(read)
        reply = session.answer(request)
        reply.values["number"] = request.values["number"]
        try:
            data = encode(reply)
        except (WireError, TypeError, ValueError, RuntimeError) as error:
            described = {"type": type(error).__name__, "text": str(error)[:MOST_TEXT]}
            data = encode(Message({"error": described, "number": request.values["number"]}))
        _write(answers, data)


if __name__ == "__main__":
    main()
