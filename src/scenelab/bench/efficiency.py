"""How much of the machine a training step uses: its operations a second beside those of a large matrix product."""

import time
from typing import Any

import torch

from scenelab.bench.measure import ratio
from scenelab.models.registry import count_flops
from scenelab.recipes import laptop
from scenelab.training.batches import TrainingBatches
from scenelab.training.config import TrainConfig
from scenelab.training.loop import learn
from scenelab.training.plan import STORED, noise, scaled
from scenelab.training.state import start

MATRIX = 2048
CLASSES = 100


def bench_efficiency(*, rounds: int, seconds: float, side: int = 64) -> dict[str, Any]:
    """The recipe `laptop` on pictures of noise against float32 products of 2048×2048 matrices, in turns.

    Counted are the products and convolutions of forward and backward pass; the time is that of the whole step,
    augmentation and optimiser included.
    """
    config = laptop()
    step = _steps(config, side)
    operations = config.batch_size * count_flops(config.model, num_classes=CLASSES, side=side, training=True)
    left, right = torch.randn(2, MATRIX, MATRIX)
    rates: dict[str, list[float]] = {"step": [], "product": []}
    trials = {"step": (step, operations), "product": (lambda: torch.mm(left, right), 2 * MATRIX**3)}
    for number in range(rounds + 1):
        for name in trials if number % 2 == 0 else reversed(trials):
            work, count = trials[name]
            rate = _rate(work, count, seconds if number else 0.0)
            if number:  # the first round warms up
                rates[name].append(rate)
    return {
        "step_vs_product": ratio(rates, "step", "product"),
        "flops_per_second": rates,
        "training_flops_per_image": operations // config.batch_size,
        "what": f"{config.model}, batch {config.batch_size}, {side} pixels; {torch.get_num_threads()} threads",
    }


def _steps(config: TrainConfig, side: int) -> Any:
    """Whole training steps on noise, one a call."""
    packed = noise(8 * config.batch_size, scaled(side, STORED), tuple(map(str, range(CLASSES))))
    batches = TrainingBatches(packed, config, torch.device("cpu"))
    state = start(config, classes=CLASSES, device=torch.device("cpu"))

    def step() -> None:
        images, targets = batches.batch(state.step, side)
        learn(state, state.model, config, images, targets)
        state.step += 1

    return step


def _rate(work: Any, operations: int, seconds: float) -> float:
    began, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - began < seconds:
        work()
        count += 1
    return count * operations / (time.perf_counter() - began)
