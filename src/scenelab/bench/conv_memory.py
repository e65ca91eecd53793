"""Peak memory of the training step with one contestant's convolution, in a fresh process.

Two figures: the peak itself, which holds Python and the libraries as well, and the increase over the resident size
just before contestant and batch are made. By then a tiny step with native convolution has loaded whatever is loaded
late, so that the increase is the training step's own and nothing waters down what a convolution costs.
"""

import json
import subprocess
import sys

import torch

from scenelab.bench.conv_step import StepTrial
from scenelab.errors import LabError
from scenelab.memory import peak_memory, resident_memory

STEPS = 3
CODE = (
    "import sys; from scenelab.process import prepare; prepare(); "
    "from scenelab.bench.conv_memory import worker; worker(sys.argv[1:])"
)


def worker(arguments: list[str]) -> None:
    """Measure one contestant in this process and print both figures as JSON; `measure_memory` starts it."""
    contestant, batch, size, threads = arguments
    torch.set_num_threads(int(threads))
    StepTrial("native").on_batch(1, 16)()
    before = resident_memory()
    step = StepTrial(contestant).on_batch(int(batch), int(size))
    for _ in range(STEPS):
        step()
    peak = peak_memory()
    print(json.dumps({"peak": peak, "increase": peak - before}))


def measure_memory(contestant: str, *, batch: int, size: int, threads: int) -> dict[str, int]:
    """`peak` and `increase` in bytes over a few steps of one contestant in a process of its own.

    Raises:
        LabError: the process failed.
    """
    command = [sys.executable, "-c", CODE, contestant, str(batch), str(size), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise LabError(f"the memory measurement of {contestant!r} failed: {reason}; try a smaller --batch")
    return json.loads(done.stdout.strip().splitlines()[-1])
