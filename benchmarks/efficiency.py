"""Hardware efficiency of training: FLOP/s of a training step over FLOP/s of a large matrix product."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import torch

from scenelab.models.flops import count_flops
from scenelab.runs.config import TrainConfig
from scenelab.studies.timing import interleave, ratio
from scenelab.training.budget import STORED, noise, scaled
from scenelab.training.recipes import laptop
from scenelab.training.state import initialize, make_loader
from scenelab.training.step import train_step

MATRICES = (1024, 2048, 4096)
CLASSES = 100
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def bench_efficiency(*, rounds: int, seconds: float, side: int = 80) -> dict[str, Any]:
    """Compare the FLOP/s of training steps with the fastest of three square matrix products, alternately.

    Each subject runs for at least `seconds` per round. The steps train the recipe `laptop` on random images. Their
    FLOPs include the matrix products and convolutions of both passes; their time covers the complete step. Ratios are
    step over product in the same precision. `step_vs_product` is the ratio in the precision with the faster step.
    """
    config = laptop()
    operations = config.batch_size * count_flops(config.model, num_classes=CLASSES, side=side, training=True)
    trials: dict[str, tuple[Callable[[], object], int]] = {}
    for name, dtype in PRECISIONS.items():
        trials[f"step {name}"] = (_steps(dataclasses.replace(config, autocast=name == "bfloat16"), side), operations)
        trials[f"product {name}"] = fastest_product(dtype, seconds / 4)
    for work, _ in trials.values():
        work()  # warms up
    rates = interleave(trials, lambda name: {"flops": _rate(*trials[name], seconds)}, rounds)["flops"]
    ratios = {name: ratio(rates, f"step {name}", f"product {name}") for name in PRECISIONS}
    taken = max(PRECISIONS, key=lambda name: sum(rates[f"step {name}"]))
    return {
        "step_vs_product": ratios[taken],
        "precision": taken,
        "by_precision": ratios,
        "flops_per_second": rates,
        "product_side": {name: round((trials[f"product {name}"][1] / 2) ** (1 / 3)) for name in PRECISIONS},
        "training_flops_per_image": operations // config.batch_size,
        "what": f"{config.model}, batch {config.batch_size}, {side} pixels; {torch.get_num_threads()} threads",
    }


def fastest_product(dtype: torch.dtype, seconds: float) -> tuple[Callable[[], object], int]:
    """Return a function that computes the fastest of three square matrix products (by FLOP/s), and its FLOPs."""
    best: tuple[float, Callable[[], object], int] = (0.0, lambda: None, 0)
    for side in MATRICES:
        left, right = torch.randn(2, side, side).to(dtype)

        def work(left: torch.Tensor = left, right: torch.Tensor = right) -> object:
            return torch.mm(left, right)

        work()
        rate = _rate(work, 2 * side**3, seconds)
        best = max(best, (rate, work, 2 * side**3), key=lambda trial: trial[0])
    return best[1], best[2]


def _steps(config: TrainConfig, side: int) -> Callable[[], None]:
    """Return a function that runs one training step, including the data loader, on random images."""
    dataset = noise(8 * config.batch_size, scaled(side, STORED), tuple(map(str, range(CLASSES))))
    loader = make_loader(dataset, config, torch.device("cpu"))
    state = initialize(config, num_classes=CLASSES, device=torch.device("cpu"))

    def step() -> None:
        images, targets = loader.batch(state.step, side)
        train_step(state, state.model, config, images, targets)
        state.step += 1

    return step


def _rate(work: Callable[[], object], operations: int, seconds: float) -> float:
    began, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - began < seconds:
        work()
        count += 1
    return count * operations / (time.perf_counter() - began)
