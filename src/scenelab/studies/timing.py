"""Time subjects in turns, each in its own process where memory or settings matter."""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scenelab.errors import LabError
from scenelab.runtime import NEUTRAL, python_command

PREPARE = "from scenelab.runtime import prepare; prepare(); "
SPINS = "GOMP_SPINCOUNT"  # `prepare` may have set it for this process; a child would inherit it

Measurements = dict[str, float]
Rounds = dict[str, dict[str, list[float]]]
"""By quantity, then by subject: one value per round."""


def interleave(trials: dict[str, Callable[[], Measurements]], rounds: int) -> Rounds:
    """Run the trials A B C, C B A, A B C, … so that a slow phase of the machine affects all alike."""
    values: Rounds = {}
    for number in range(rounds):
        for name in trials if number % 2 == 0 else reversed(trials):
            for quantity, value in trials[name]().items():
                values.setdefault(quantity, {key: [] for key in trials})[name].append(value)
    return values


def timed(work: Callable[[], object]) -> Callable[[], Measurements]:
    """Return a trial that measures the `seconds` of one call."""

    def trial() -> Measurements:
        began = time.perf_counter()
        work()
        return {"seconds": time.perf_counter() - began}

    return trial


def ratio(values: dict[str, list[float]], ours: str, baseline: str) -> dict[str, Any]:
    """Return median, minimum and maximum of ours over the baseline, round by round, and their number `n`."""
    ratios = [mine / other for mine, other in zip(values[ours], values[baseline], strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "n": len(ratios)}


def run_worker(module: str, arguments: list[Any], *, prepared: bool, processes: int = 1) -> Any:
    """Run `worker(arguments)` of a module in a fresh Python process and return the JSON that it prints last.

    Args:
        module: name of the module.
        arguments: passed as strings; paths are made absolute.
        prepared: whether the process takes Scenelab's settings (`scenelab.runtime.prepare`).
        processes: number of processes that torchrun starts as one run; the first one prints.

    Raises:
        LabError: The process failed.
    """
    code = f"import sys; {PREPARE if prepared else ''}from {module} import worker; worker(sys.argv[1:])"
    inherited = {name: value for name, value in os.environ.items() if name != SPINS}
    absolute = [str(each.resolve() if isinstance(each, Path) else each) for each in arguments]
    command = python_command(["-c", code, *absolute])
    if processes > 1:
        launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--no-python"]
        command = python_command(["-m", *launch, *command])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=inherited, cwd=NEUTRAL)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise LabError(f"the measurement of {arguments[0]!r} failed: {reason}; with less memory try a smaller --batch")
    return json.loads(done.stdout.strip().splitlines()[-1])
