"""How much of its speed does training keep while another program uses one core? python benchmarks/waiting.py DATA

Trains SimpleNet (128 pixels, batch 64) in processes of their own, in turns: with the default OpenMP waiting policy and
with scenelab's, alone and beside one busy process. Prints images/s a round and the share that is kept, as JSON.
"""

import json
import os
import statistics
import subprocess
import sys

ROUNDS, SECONDS = 3, 8.0
CODE = (
    "import sys; from scenelab.runtime import keep_freed_memory, sleep_while_waiting; keep_freed_memory(); {policy}"
    "from scenelab.bench.measure import worker; worker(sys.argv[1:])"
)
POLICIES = {"default": "", "scenelab": "sleep_while_waiting(); "}


def measure(policy: str, data: str, *, busy: bool) -> float:
    """Images/s of our training step in a fresh process."""
    command = [sys.executable, "-c", CODE.format(policy=POLICIES[policy]), "ours", data, "64", "0", str(SECONDS)]
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    finally:
        if other is not None:
            other.kill()
            other.wait()
    return float(done.stdout.strip().splitlines()[-1])


def main(data: str) -> None:
    speeds: dict[str, dict[str, list[float]]] = {policy: {"alone": [], "busy": []} for policy in POLICIES}
    for _ in range(ROUNDS):
        for policy in POLICIES:
            speeds[policy]["alone"].append(measure(policy, data, busy=False))
            speeds[policy]["busy"].append(measure(policy, data, busy=True))
    kept = {
        policy: statistics.median(busy / alone for alone, busy in zip(values["alone"], values["busy"], strict=True))
        for policy, values in speeds.items()
    }
    print(json.dumps({"images_per_second": speeds, "kept_beside_a_busy_process": kept, "rounds": ROUNDS}, indent=2))


if __name__ == "__main__":
    main(sys.argv[1])
