"""Run worker functions of studies and benchmarks in new Python processes."""

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
SPINS = "GOMP_SPINCOUNT"  # `prepare` sets it in this process; workers must not inherit it
ERRORS = {kind.__name__: kind for kind in (LabError, Diverged, Interrupted)}


def run_worker(
    module: str, *arguments: Any, prepared: bool, processes: int = 1, what: str = "", show_log: bool = False
) -> Any:
    """Call the function `worker(*arguments)` of a module in a new process and return its result.

    The process has its own session, so Ctrl-C does not reach it. When this process stops or dies, a pipe to the worker
    closes, and the worker sends itself SIGTERM, on which training saves a checkpoint.

    Args:
        module: name of the module.
        arguments: JSON-compatible values, and paths, which are made absolute.
        prepared: call `scenelab.runtime.prepare` in the new process.
        processes: number of processes of a distributed run, started by torchrun; only rank 0 returns a result.
        what: name of the work in error messages; by default it contains the first argument.
        show_log: show the worker's output on standard error.

    Raises:
        LabError: the process ended without a result, or the worker raised a LabError.
        Interrupted: the worker was stopped and saved its state.
    """
    task = json.dumps([prepared, module, arguments], default=lambda path: str(Path(path).resolve()))
    command = python_command(["-c", CODE, task])
    if processes > 1:
        launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--no-python"]
        command = python_command(["-m", *launch, *command])
    output, log, status = _run(command, None if show_log else subprocess.PIPE)
    if not output:
        what = what or f"the measurement of {arguments[0]!r}"
        raise LabError(f"{what} failed: {log or f'exit status {status}'}; if memory ran out, try smaller settings")
    return _result(output)


def _run(command: list[str], stderr: int | None) -> tuple[str, str, int]:
    """Run a command; return the last lines of standard output and standard error, and the exit status."""
    environment = {name: value for name, value in os.environ.items() if name != SPINS}
    options: dict[str, Any] = {"start_new_session": True, "cwd": NEUTRAL, "env": environment}
    read_end, write_end = os.pipe()
    options |= {"stdin": read_end, "stdout": subprocess.PIPE, "stderr": stderr}
    process = subprocess.Popen(command, encoding="utf-8", errors="replace", **options)
    os.close(read_end)
    try:
        output, log = process.communicate()
        os.close(write_end)
    except KeyboardInterrupt:
        os.close(write_end)
        if output := _last_line(process.communicate()[0]):
            _result(output)  # raises Interrupted if the worker saved its state
        raise
    return _last_line(output), _last_line(log or ""), process.returncode


def _result(output: str) -> Any:
    report = json.loads(output)
    if "error" in report:
        raise ERRORS[report["error"]](report["message"])
    return report["result"]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def main() -> None:
    """Run the worker given on the command line and print its result as JSON for `run_worker`."""
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
