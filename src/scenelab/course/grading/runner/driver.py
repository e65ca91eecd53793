"""The process in the sandbox: read requests, run the student's code, send replies.

Started as `python driver.py LIMITS RECORD COUNTER`, with the pipe as standard input and output and two file
descriptors. The pipe is moved before the student's file is imported, so that printing and reading do not touch it.
"""

import json
import os
import random
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

MAX_TEXT = 2000  # characters of an error
GRADED = ("convolve", "run_module", "train_step")
"""Requests that run the student's convolution: PyTorch's own must not be called meanwhile."""


class Session:
    """The student's module and its requests.

    Args:
        record: takes notes for the grader.
        counter: file descriptor of the memory in which native convolutions are counted.
    """

    def __init__(self, record: Any, counter: int) -> None:
        from runner.loading import load_student
        from runner.operations import OPERATIONS
        from runner.tripwire import probe, replace_kernels
        from runner.wire import Message

        # bound here: what the student's code does to sys.modules changes nothing
        self._operations, self._load, self._message = OPERATIONS, load_student, Message
        self._replace_kernels, self._probe = replace_kernels, probe
        self._record, self._counter = record, counter
        self.module: ModuleType | None = None

    def answer(self, request: Any) -> Any:
        """Return the operation's reply, or its error."""
        operation = request.values.get("operation")
        try:
            _seed(request.values.get("seed", 0))
            if operation == "load":
                self._replace_kernels(self._record, self._counter)
                self.module, reply = self._load(request, self._record)
            else:
                reply = self._operations[operation](self.module, request)
        except BaseException as error:  # SystemExit too: this is the student's code
            reply = self._message({"error": self._describe(error)})
        if operation in GRADED:
            self._record.note("returned", request.values["nonce"])
            self._probe()
        return reply

    def _describe(self, error: BaseException) -> dict[str, Any]:
        """Return an error as plain values, with the innermost line of the submission."""
        root = self._record.root
        frames = [each for each in traceback.extract_tb(error.__traceback__) if root and each.filename.startswith(root)]
        file, line, code = None, None, None
        if isinstance(error, SyntaxError):
            line = error.lineno if isinstance(error.lineno, int) else None
            file, code = Path(str(error.filename or "")).name, str(error.text or "")[:200]
        elif frames:
            file, line, code = Path(frames[-1].filename).name, frames[-1].lineno, (frames[-1].line or "")[:200]
        return {"type": type(error).__name__, "text": _text_of(error), "file": file, "line": line, "code": code}


def _text_of(error: BaseException) -> str:
    """Return an exception's text; its `__str__` may be the student's and may fail."""
    try:
        return str(error)[:MAX_TEXT]
    except BaseException as other:
        return f"(its text cannot be had: __str__ raised {type(other).__name__})"


def _seed(seed: int) -> None:
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def _take_pipe() -> tuple[int, int]:
    """Move the pipe's two ends to new descriptors; point 0, 1 and 2 to /dev/null."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    return requests, replies


def _reader(handle: int) -> Callable[[int], bytes]:
    def read(count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = os.read(handle, min(count - len(data), 1 << 20))
            if not part:
                os._exit(0)  # the grader has closed the pipe
            data += part
        return bytes(data)

    return read


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def main() -> None:
    """Answer requests until the pipe closes."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    requests, replies = _take_pipe()
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
    _write(replies, encode(Message({"ready": torch.__version__})))
    while True:
        request = decode(read)
        reply = session.answer(request)
        reply.values["number"] = request.values["number"]
        try:
            data = encode(reply)
        except (WireError, TypeError, ValueError, RuntimeError) as error:
            described = {"type": type(error).__name__, "text": str(error)[:MAX_TEXT]}
            data = encode(Message({"error": described, "number": request.values["number"]}))
        record.note("reply", request.values["nonce"])
        _write(replies, data)


if __name__ == "__main__":
    main()
