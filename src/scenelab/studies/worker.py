"""Run a worker function in a fresh Python process; every study and benchmark starts its processes here."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from scenelab.errors import Diverged, Interrupted, LabError
from scenelab.runtime import NEUTRAL, prepare, python_command

CODE = "from scenelab.studies.worker import main; main()"
SPINS = "GOMP_SPINCOUNT"  # `prepare` may have set it for this process; a plain worker must not inherit it
ERRORS = {kind.__name__: kind for kind in (LabError, Diverged, Interrupted)}


def run_worker(
    module: str, *arguments: Any, prepared: bool, processes: int = 1, what: str = "", show_log: bool = False
) -> Any:
    """Return what `worker(*arguments)` of a module returns in a fresh process.

    The process has its own session, so Ctrl-C does not reach it. Its standard input is a pipe that closes when this
    process stops or dies; then it gets SIGTERM, on which training saves a checkpoint.

    Args:
        module: name of the module.
        arguments: plain values, and paths, which are made absolute.
        prepared: whether the process takes Scenelab's settings (`scenelab.runtime.prepare`).
        processes: number of processes that torchrun starts as one run; all but the first return None.
        what: the work, as an error message names it; by default the measurement of the first argument.
        show_log: whether the worker's output appears on standard error.

    Raises:
        LabError: the worker raised it, or the process failed.
        Interrupted: the worker stopped on Ctrl-C.
    """
    task = json.dumps([prepared, module, arguments], default=lambda path: str(Path(path).resolve()))
    command = python_command(["-c", CODE, task])
    if processes > 1:
        launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--no-python"]
        command = python_command(["-m", *launch, *command])
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": None if show_log else subprocess.PIPE}
    options["env"] = {name: value for name, value in os.environ.items() if name != SPINS}
    read_end, write_end = os.pipe()
    process = subprocess.Popen(command, stdin=read_end, start_new_session=True, cwd=NEUTRAL, **options)
    os.close(read_end)
    try:
        output, log = process.communicate()
        os.close(write_end)
    except KeyboardInterrupt:
        os.close(write_end)
        report = _last_line(process.communicate()[0])
        if report and json.loads(report).get("error") == "Interrupted":
            raise Interrupted(json.loads(report)["message"]) from None
        raise
    if not (report := _last_line(output)):
        reason = _last_line(log or b"") or f"the process ended with {process.returncode}"
        what = what or f"the measurement of {arguments[0]!r}"
        raise LabError(f"{what} failed: {reason}; if memory ran out, try smaller settings")
    result = json.loads(report)
    if "error" in result:
        raise ERRORS[result["error"]](result["message"])
    return result["result"]


def _last_line(output: bytes) -> str:
    return (output.decode(errors="replace").strip().splitlines() or [""])[-1]


def main() -> None:
    """Run the worker that the command line names and print its result as JSON for `run_worker`."""
    prepared, module, arguments = json.loads(sys.argv[1])
    if prepared:
        prepare()  # before torch loads
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        with redirect_stdout(sys.stderr):
            report = {"result": importlib.import_module(module).worker(*arguments)}
    except (LabError, Interrupted) as error:
        report = {"error": type(error).__name__, "message": str(error)}
    if report.get("result", report) is not None:
        print(json.dumps(report), flush=True)


def _stop_with_parent() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
