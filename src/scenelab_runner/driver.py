"""Main program of the process in the sandbox: apply limits, read requests, run the student's code, send replies.

Usage: `python driver.py LIMITS RECORD COUNTER`, with a pipe as standard input and output. LIMITS is JSON; RECORD and
COUNTER are file descriptors. The pipe is first moved to other file descriptors, so that the student's code can print
and read without disturbing it.
"""

import ctypes
import json
import os
import random
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38  # linux/prctl.h
SECCOMP_MODE_FILTER, SIGKILL = 2, 9
INSTRUCTION = 8  # bytes of a struct sock_filter


def apply_limits(limits: dict[str, Any]) -> None:
    """Restrict this process: limit resources, die with the parent process, drop privileges, filter system calls.

    Args:
        limits: fields of `sandbox.Limits`, `data` (bytes), `user` (ID or None), and `filter` (file descriptor of a
            seccomp filter).
    """
    import resource  # POSIX only; the grader imports this module on every system

    libc, user = ctypes.CDLL(None, use_errno=True), limits["user"]
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    values = {
        resource.RLIMIT_DATA: limits["data"],
        resource.RLIMIT_FSIZE: limits["file"],
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in values.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    if user is not None and os.getuid() == 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)  # cleared by the change of user
    if os.getuid() != 0:  # the kernel exempts root from this limit
        resource.setrlimit(resource.RLIMIT_NPROC, (limits["processes"], limits["processes"]))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if limits["filter"] is not None:
        with os.fdopen(limits["filter"], "rb") as file:
            code = file.read()
        buffer = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("HP", len(code) // INSTRUCTION, ctypes.addressof(buffer))  # struct sock_fprog
        if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the filter of system calls was refused")


class Session:
    """Handler of requests to the student's module; `counter` is the file descriptor of the convolution counter."""

    def __init__(self, record: Any, counter: int) -> None:
        import numpy
        import torch

        from scenelab_runner import loading, message, operations, tripwire

        # bound here, so that changes to sys.modules by the student's code have no effect
        self._operations, self._graded, self._load = operations.OPERATIONS, operations.GRADED, loading.load_student
        self._message, self._describe = message.Message, message.describe
        self._tripwire, self._seeds = tripwire, (random.seed, numpy.random.seed, torch.manual_seed)
        self._record, self._counter, self._enable_gradients = record, counter, torch.set_grad_enabled
        self.module: ModuleType | None = None

    def answer(self, request: Any) -> Any:
        """Run the requested operation and return its reply; after an exception, return a reply with `error`."""
        operation = request.values.get("operation")
        try:
            self._enable_gradients(True)  # an earlier request may have disabled them
            for seed in self._seeds:
                seed(request.values.get("seed", 0))
            if operation == "load":
                self._tripwire.replace_kernels(self._record, self._counter)
                self.module, reply = self._load(request, self._record)
            else:
                reply = self._operations[operation](self.module, request)
        except BaseException as error:  # SystemExit too: this is the student's code
            reply = self._message({"error": self._describe(error, self._record.root)})
        if operation in self._graded:
            self._record.note("returned", request.values["nonce"])
            self._tripwire.probe()
        return reply


def find_runner() -> None:
    """Let Python find `scenelab_runner` beside the folder of this file, and not its modules as top-level modules."""
    folder = Path(__file__).resolve().parent
    sys.path[:] = [str(folder.parent), *(path for path in sys.path if path != str(folder))]


def main() -> None:
    """Answer requests until the grader closes the pipe."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    apply_limits(json.loads(sys.argv[1]))
    find_runner()
    import torch

    from scenelab_runner.message import MAX_TEXT, Message
    from scenelab_runner.record import Record
    from scenelab_runner.wire import WireError, decode, encode

    def read(count: int) -> bytes:
        data = requests.read(count)
        if len(data) < count:
            os._exit(0)  # the grader has closed the pipe
        return data

    def send(data: bytes) -> None:
        replies.write(data)
        replies.flush()

    record = Record(int(sys.argv[2]))
    torch.set_num_threads(1)
    session = Session(record, int(sys.argv[3]))
    sys.argv[:] = ["student_code.py"]
    del sys.path[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == "scenelab_runner"]:
        del sys.modules[name]
    send(encode(Message({"ready": torch.__version__})))
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
        send(data)


if __name__ == "__main__":
    main()
