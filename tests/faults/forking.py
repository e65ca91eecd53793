"""A process that has loaded torch and scenelab and forks each command off, so that a kill costs no start of torch.

Run as a program it is the server; `Server` is the tests' side of it. A forked command is the real one: it has the
arguments of the command line, its own session, standard output and error in files, and ends as Python ends.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = "faults.acts:command"
PR_SET_PTRACER, ANYBODY = 0x59616D61, -1
KILLED = -signal.SIGKILL
COMMAND_MODULES = """cli.main training.session training.recipes data.fetch.install course.grading.batch
course.grading.outputs course.grading.challenge report.write report.card report.collect evaluation.explain
evaluation.challenge evaluation.robustness runs.loading runs.export"""  # which the commands load when first used


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: exit status or minus the signal, seconds, and what it printed."""

    status: int
    seconds: float
    out: str
    err: str
    trace: str

    @property
    def killed(self) -> bool:
        return self.status == KILLED


class Server:
    """Starts commands in forks of one prepared process.

    Args:
        scratch: a folder for what they print.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_PROXY": "*", "no_proxy": "*"}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
        command = [sys.executable, "-W", "ignore", __file__]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=environment, **pipes)
        assert self._process.stdout.readline() == "ready\n"

    def run(
        self, *arguments: str, call: str = COMMAND, kill_after: float | None = None, trace: tuple[str, ...] = ()
    ) -> Ended:
        """Run a command to its end, or to its death.

        Args:
            arguments: of the command line, or of what `call` names.
            call: `module:function`, called with the list of arguments.
            kill_after: seconds to SIGKILL.
            trace: options of strace, which is attached before the first instruction.
        """
        request = {"call": call, "arguments": arguments, "kill_after": kill_after, "trace": trace}
        request["scratch"] = str(self.scratch)
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the server has died"
        return Ended(**json.loads(answer))

    def close(self) -> None:
        self._process.stdin.close()
        status = self._process.wait(30)
        self._process.stdout.close()
        assert status == 0


def serve() -> None:
    """Read what to run, a line each, and tell how it ended."""
    from scenelab.runtime import prepare

    prepare()
    import torch

    for name in COMMAND_MODULES.split():
        importlib.import_module(f"scenelab.{name}")
    importlib.import_module("faults.acts")
    torch.set_num_threads(1)
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        scratch = Path(tempfile.mkdtemp(dir=request["scratch"]))
        pid = os.fork()
        if not pid:
            _become(request, scratch)
        print(json.dumps(_watch(pid, request, scratch)), flush=True)


def _become(request: dict[str, Any], scratch: Path) -> None:
    """The forked side: the command in a session of its own; does not return."""
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(scratch / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, number)
        os.close(handle)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if request["trace"]:
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(ANYBODY), 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
    random.seed()  # not the server's, or all forks would draw the same names
    tempfile._name_sequence = None
    module, _, function = request["call"].partition(":")
    status = 1
    try:
        status = getattr(importlib.import_module(module), function)(list(request["arguments"])) or 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    # as Python ends, but for taking each object apart, which would first copy the server's memory
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _watch(pid: int, request: dict[str, Any], scratch: Path) -> dict[str, Any]:
    tracer = None
    if request["trace"]:
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        tracer = _attach(pid, request["trace"], scratch)
        os.kill(pid, signal.SIGCONT)
    begun = time.monotonic()
    handle = os.pidfd_open(pid)
    try:
        after = request["kill_after"]
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        if not waiting.poll(None if after is None else 1000 * after):
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(handle)
    _, status = os.waitpid(pid, 0)
    seconds = time.monotonic() - begun
    if tracer is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            tracer.wait(10)
        tracer.kill()
        tracer.wait()
    answer = {name: _read(scratch / name) for name in ("out", "err", "trace")}
    return {"status": os.waitstatus_to_exitcode(status), "seconds": seconds, **answer}


def _attach(pid: int, options: list[str], scratch: Path) -> "subprocess.Popen[bytes]":
    command = ["strace", "-f", "-o", str(scratch / "trace"), *options, "-p", str(pid)]
    tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    message = tracer.stderr.readline()
    assert b"attached" in message, message
    return tracer


def _read(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""


if __name__ == "__main__":
    serve()
