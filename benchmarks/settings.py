"""Speed gained by scenelab's process settings: keeping freed memory, and sleeping while waiting."""

import functools
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from scenelab.runtime import keep_freed_memory, sleep_while_waiting
from scenelab.studies.timing import Measurements, interleave, ratio
from scenelab.studies.worker import run_worker


def worker(policy: str, is_memory: bool, data: str, seconds: float) -> Measurements:
    """Train with or without one setting; return images/s, page faults and peak memory in MiB.

    Args:
        policy: `scenelab` to train with the setting; any other name to train without it.
        is_memory: whether the setting is `keep_freed_memory`, else `sleep_while_waiting`. The other one is always on.
        data: a data folder.
        seconds: duration of the measurement.
    """
    if policy == "scenelab" or not is_memory:
        keep_freed_memory()
    if policy == "scenelab" or is_memory:
        sleep_while_waiting()
    from benchmarks import throughput  # loads torch; the settings must come before it

    speed = throughput.worker("ours", data, 0, seconds)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"speed": speed, "page_faults": usage.ru_minflt, "peak_mib": usage.ru_maxrss // 1024}


train = functools.partial(run_worker, "benchmarks.settings", prepared=False)


def bench_memory(*, data: Path, rounds: int = 3, seconds: float = 8.0) -> dict[str, Any]:
    """Compare glibc's allocation policy with scenelab's while training SimpleNet (128 pixels, batch 64).

    `ratio` is the ratio of images/s, scenelab over glibc: higher is better.

    Args:
        data: a data folder.
        rounds: number of measurements per policy, taken in turns.
        seconds: duration of each measurement.
    """
    values = interleave(("glibc", "scenelab"), lambda policy: train(policy, True, data, seconds), rounds)
    return {
        "images_per_second": values["speed"],
        "page_faults": values["page_faults"],
        "peak_mib": values["peak_mib"],
        "ratio": ratio(values["speed"], "scenelab", "glibc"),
    }


def bench_waiting(*, data: Path, rounds: int = 3, seconds: float = 8.0) -> dict[str, Any]:
    """Compare OpenMP's default waiting policy with scenelab's: SimpleNet trains alone and beside a busy process.

    `kept_beside_a_busy_process` is the median ratio of images/s, busy over alone: higher is better.

    Args:
        data: a data folder.
        rounds: number of measurements per policy, taken in turns.
        seconds: duration of each measurement.
    """

    def measure(policy: str) -> Measurements:
        alone = train(policy, False, data, seconds)["speed"]
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            return {"alone": alone, "busy": train(policy, False, data, seconds)["speed"]}
        finally:
            other.kill()
            other.wait()

    policies = ("default", "scenelab")
    values = interleave(policies, measure, rounds)
    speeds = {policy: {name: values[name][policy] for name in ("alone", "busy")} for policy in policies}
    kept = {policy: ratio(each, "busy", "alone")["median"] for policy, each in speeds.items()}
    return {"images_per_second": speeds, "kept_beside_a_busy_process": kept, "rounds": rounds}
