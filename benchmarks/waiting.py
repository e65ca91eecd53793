"""The share of its speed that training keeps while another program uses one core."""

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from scenelab.runtime import keep_freed_memory, sleep_while_waiting
from scenelab.studies.worker import run_worker

POLICIES = ("default", "scenelab")


def worker(policy: str, data: str, seconds: float) -> float:
    """Train under one waiting policy of OpenMP in this process and return images/s."""
    keep_freed_memory()
    if policy == "scenelab":
        sleep_while_waiting()
    from benchmarks import throughput  # loads torch, which the settings have to precede

    return throughput.worker("ours", data, 0, seconds)


def measure(policy: str, data: Path, seconds: float, *, busy: bool) -> float:
    """Return images/s of training in a fresh process, alone or beside a busy process."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        return run_worker("benchmarks.waiting", policy, data, seconds, prepared=False)
    finally:
        if other is not None:
            other.kill()
            other.wait()


def bench_waiting(*, data: Path, rounds: int = 3, seconds: float = 8.0) -> dict[str, Any]:
    """Compare OpenMP's default waiting policy with scenelab's, training SimpleNet alone and beside a busy process.

    Args:
        data: a data folder.
        rounds: how often each is timed.
        seconds: time for each.
    """
    speeds: dict[str, dict[str, list[float]]] = {policy: {"alone": [], "busy": []} for policy in POLICIES}
    for _ in range(rounds):
        for policy in POLICIES:
            for name, values in speeds[policy].items():
                values.append(measure(policy, data, seconds, busy=name == "busy"))
    shares = {
        policy: statistics.median(busy / alone for alone, busy in zip(values["alone"], values["busy"], strict=True))
        for policy, values in speeds.items()
    }
    return {"images_per_second": speeds, "kept_beside_a_busy_process": shares, "rounds": rounds}
