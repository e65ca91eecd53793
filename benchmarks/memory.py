"""The gain of keeping freed memory: training with glibc's default allocation policy and with scenelab's."""

import functools
import resource
from pathlib import Path
from typing import Any

from scenelab.runtime import keep_freed_memory, sleep_while_waiting
from scenelab.studies.timing import Measurements, interleave, ratio
from scenelab.studies.worker import run_worker

POLICIES = ("glibc", "scenelab")


def worker(policy: str, data: str, seconds: float) -> Measurements:
    """Train under one policy in this process and return images/s, page faults and peak memory."""
    sleep_while_waiting()
    if policy == "scenelab":
        keep_freed_memory()
    from benchmarks import throughput  # loads torch, which the settings have to precede

    speed = throughput.worker("ours", data, 0, seconds)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"speed": speed, "page_faults": usage.ru_minflt, "peak_mib": usage.ru_maxrss // 1024}


def bench_memory(*, data: Path, rounds: int = 3, seconds: float = 8.0) -> dict[str, Any]:
    """Compare training SimpleNet (128 pixels, batch 64) under both policies, in separate processes and in turns.

    Args:
        data: a data folder.
        rounds: how often each policy is timed.
        seconds: time for each.
    """
    worker = functools.partial(run_worker, "benchmarks.memory", prepared=False)
    values = interleave(POLICIES, lambda policy: worker(policy, data, seconds), rounds)
    return {
        "images_per_second": values["speed"],
        "page_faults": values["page_faults"],
        "peak_mib": values["peak_mib"],
        "ratio": ratio(values["speed"], "scenelab", "glibc"),
    }
