"""Several processes as one training run against one process with as many threads, on one machine."""

import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.efficiency import CLASSES, PRECISIONS
from scenelab.errors import LabError
from scenelab.progress import TrainProgress
from scenelab.runs.provenance import environment
from scenelab.runs.run import Run
from scenelab.studies.timing import ratio, run_worker
from scenelab.training.batches import TrainingBatches
from scenelab.training.budget import STORED, noise, scaled
from scenelab.training.distributed import init_distributed
from scenelab.training.metrics_logger import MetricsLogger
from scenelab.training.recipes import laptop
from scenelab.training.state import initialize
from scenelab.training.trainer import Trainer

WARM_UP = 3  # steps


def bench_scale(*, processes: int = 2, rounds: int = 5, seconds: float = 8.0, side: int = 64) -> dict[str, Any]:
    """Compare training by N processes of one thread with one process of N threads, in turns and in both precisions.

    Both train the recipe `laptop` on images of noise, with the same batches of 128 images. `efficiency` is that of the
    precision in which the single process is faster, which the recipe takes.

    Args:
        processes: processes of torchrun, and threads of the single process; at most the number of cores.
        rounds: how often each is timed, in turns.
        seconds: time for each.
        side: side of the images in pixels, 16 or more.

    Raises:
        LabError: A run failed, or a value is out of range.
    """
    if seconds <= 0:
        raise LabError(f"--seconds is {seconds}; expected more than 0")
    for name, value, least in (("processes", processes, 2), ("rounds", rounds, 1), ("side", side, 16)):
        if value < least:
            raise LabError(f"--{name} is {value}; expected {least} or more")
    speeds: dict[str, list[float]] = {}
    for number in range(rounds):
        for precision in PRECISIONS:
            sides = [("processes", processes, 1), ("threads", 1, processes)]
            for name, parts, threads in sides if number % 2 == 0 else sides[::-1]:
                arguments = [name, precision, threads, side, seconds]
                rate = run_worker("benchmarks.scale", arguments, prepared=True, processes=parts)
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
    """Train for some seconds, alone or as one process of torchrun; the first process prints images/s."""
    _, precision, threads, side, seconds = arguments
    torch.set_num_threads(int(threads))
    config = dataclasses.replace(laptop(), plan=False, minutes=0.0, autocast=precision == "bfloat16")
    sizes = dataclasses.replace(config.schedule, sizes=((0.0, int(side)),))
    config = dataclasses.replace(config, schedule=sizes, device="cpu")
    dataset = noise(16 * config.batch_size, scaled(int(side), STORED), tuple(map(str, range(CLASSES))))
    with init_distributed() as world, tempfile.TemporaryDirectory() as folder:
        device = torch.device("cpu")
        trainer = Trainer(
            run=Run(Path(folder)),
            config=config,
            state=initialize(config, num_classes=CLASSES, device=device),
            batches=TrainingBatches(dataset, config, device),
            val=None,
            logger=MetricsLogger(),
            display=TrainProgress(),
            world=world,
        )
        for _ in range(WARM_UP):
            trainer.step()
        began, images, passed = time.perf_counter(), 0, 0.0
        while passed < float(seconds):
            images += trainer.step()
            passed = world.broadcast(time.perf_counter() - began)[0]
        if world.is_primary:
            print(json.dumps(images / passed))
