"""Several processes as one training run against one process with as many threads, on one machine."""

import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from scenelab.bench.child import in_child
from scenelab.bench.efficiency import CLASSES, PRECISIONS
from scenelab.bench.measure import ratio
from scenelab.progress import Silent
from scenelab.runs.provenance import environment
from scenelab.runs.run import Run
from scenelab.training.budget import STORED, noise, scaled
from scenelab.training.distributed import join
from scenelab.training.metrics_logger import NoLogbook
from scenelab.training.recipes import laptop
from scenelab.training.trainer import Trainer

WARM_UP = 3  # steps


def bench_scale(*, processes: int, rounds: int, seconds: float, side: int = 64) -> dict[str, Any]:
    """The recipe `laptop` on pictures of noise: N processes of one thread against one of N threads, in turns.

    Both learn from the same batches of 128 images. `efficiency` is that of the precision in which the one process is
    faster, which the recipe takes.

    Raises:
        LabError: a run failed.
    """
    speeds: dict[str, list[float]] = {}
    for number in range(rounds):
        for precision in PRECISIONS:
            sides = [("processes", processes, 1), ("threads", 1, processes)]
            for name, parts, threads in sides if number % 2 == 0 else sides[::-1]:
                arguments = [name, precision, threads, side, seconds]
                rate = in_child("scenelab.bench.scale", arguments, prepared=True, processes=parts)
                speeds.setdefault(f"{name} {precision}", []).append(float(rate))
    ratios = {name: ratio(speeds, f"processes {name}", f"threads {name}") for name in PRECISIONS}
    taken = max(PRECISIONS, key=lambda name: sum(speeds[f"threads {name}"]))
    config = laptop()
    return {
        "efficiency": ratios[taken],
        "precision": taken,
        "by_precision": ratios,
        "images_per_second": speeds,
        "what": f"{config.model}, batch {config.batch_size}, {side} pixels; {processes} processes of 1 thread against "
        f"1 process of {processes} threads",
        "environment": environment(),
    }


def worker(arguments: list[str]) -> None:
    """Train for some seconds as one of the processes that torchrun started, or alone; the first prints images/s."""
    _, precision, threads, side, seconds = arguments
    torch.set_num_threads(int(threads))
    config = dataclasses.replace(laptop(), plan=False, minutes=0.0, autocast=precision == "bfloat16")
    sizes = dataclasses.replace(config.schedule, sizes=((0.0, int(side)),))
    config = dataclasses.replace(config, schedule=sizes, device="cpu")
    packed = noise(16 * config.batch_size, scaled(int(side), STORED), tuple(map(str, range(CLASSES))))
    with join() as world, tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(run=Run(Path(folder)), config=config, packed=packed, val=None, display=Silent(), world=world)
        trainer.logbook = NoLogbook()
        for _ in range(WARM_UP):
            trainer.step()
        began, images, passed = time.perf_counter(), 0, 0.0
        while passed < float(seconds):
            images += trainer.step()
            passed = world.agree(time.perf_counter() - began)[0]
        if world.main:
            print(json.dumps(images / passed))
