"""The gain of keeping freed memory: training with glibc's default allocation policy and with scenelab's."""

import json
import resource
from pathlib import Path
from typing import Any

from scenelab.runtime import keep_freed_memory, sleep_while_waiting
from scenelab.studies.timing import Measurements, interleave, ratio, run_worker

POLICIES = ("glibc", "scenelab")


def worker(arguments: list[str]) -> None:
    """Train under one policy in this process and print images/s, page faults and peak memory as JSON."""
    policy, data, seconds = arguments
    sleep_while_waiting()
    if policy == "scenelab":
        keep_freed_memory()
    from benchmarks.throughput import images_per_second  # loads torch, which the settings have to precede

    speed = images_per_second("ours", Path(data), limit=0, seconds=float(seconds))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"speed": speed, "page_faults": usage.ru_minflt, "peak_mib": usage.ru_maxrss // 1024}))


def bench_memory(*, data: Path, rounds: int = 3, seconds: float = 8.0) -> dict[str, Any]:
    """Compare training SimpleNet (128 pixels, batch 64) under both policies, in separate processes and in turns.

    Args:
        data: a data folder.
        rounds: how often each policy is timed.
        seconds: time for each.
    """

    def measure(policy: str) -> Measurements:
        return run_worker("benchmarks.memory", [policy, data, seconds], prepared=False)

    values = interleave({policy: lambda policy=policy: measure(policy) for policy in POLICIES}, rounds)
    return {
        "images_per_second": values["speed"],
        "page_faults": values["page_faults"],
        "peak_mib": values["peak_mib"],
        "ratio": ratio(values["speed"], "scenelab", "glibc"),
    }
