"""What does keeping freed memory gain? python benchmarks/memory_policy.py DATA

Trains SimpleNet (128 pixels, batch 64) in processes of their own, in turns: with glibc's default allocation policy and
with scenelab's. Prints images/s a round, the ratio and the page faults, as JSON.
"""

import json
import statistics
import subprocess
import sys

ROUNDS, SECONDS = 3, 8.0
CODE = (
    "import resource, sys; from scenelab.runtime import keep_freed_memory, sleep_while_waiting; sleep_while_waiting(); "
    "{policy}from scenelab.bench.measure import worker; worker(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)
POLICIES = {"glibc": "", "scenelab": "keep_freed_memory(); "}


def main(data: str) -> None:
    speeds: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    faults: dict[str, list[int]] = {policy: [] for policy in POLICIES}
    peaks: dict[str, list[int]] = {policy: [] for policy in POLICIES}
    for _ in range(ROUNDS):
        for policy, setting in POLICIES.items():
            command = [sys.executable, "-c", CODE.format(policy=setting), "ours", data, "64", "0", str(SECONDS)]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()
            speeds[policy].append(float(lines[-2]))
            fault, peak = map(int, lines[-1].split())
            faults[policy].append(fault)
            peaks[policy].append(peak // 1024)
    ratios = [ours / theirs for ours, theirs in zip(speeds["scenelab"], speeds["glibc"], strict=True)]
    result = {
        "images_per_second": speeds,
        "page_faults": faults,
        "peak_mib": peaks,
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "n": ROUNDS},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(sys.argv[1])
