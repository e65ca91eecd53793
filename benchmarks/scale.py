"""Benchmark of distributed against single-process training, with the same number of threads on one machine."""

import dataclasses
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
from scenelab.studies.timing import Measurements, interleave, ratio
from scenelab.studies.worker import run_worker
from scenelab.training.budget import STORED, noise, scaled
from scenelab.training.distributed import init_distributed
from scenelab.training.metrics_logger import MetricsLogger
from scenelab.training.recipes import laptop
from scenelab.training.state import initialize, make_loader
from scenelab.training.trainer import Trainer

WARM_UP = 3  # steps


def bench_scale(*, processes: int = 2, rounds: int = 5, seconds: float = 8.0, side: int = 64) -> dict[str, Any]:
    """Compare training in N processes of one thread with one process of N threads, alternately, in both precisions.

    Both train the recipe `laptop` on the same random images. `efficiency` is the ratio of images/s, processes over
    threads (higher is better), in the precision in which the single process is faster.

    Args:
        processes: processes of torchrun, and threads of the single process; at most the number of cores.
        rounds: number of measurements per subject, taken in turns.
        seconds: duration of each measurement.
        side: side of the images in pixels, 16 or more.
    """
    if seconds <= 0:
        raise LabError(f"--seconds is {seconds}; expected more than 0")
    for name, value, least in (("processes", processes, 2), ("rounds", rounds, 1), ("side", side, 16)):
        if value < least:
            raise LabError(f"--{name} is {value}; expected {least} or more")

    def measure(name: str) -> Measurements:
        kind, precision = name.split()
        parts, threads = (processes, 1) if kind == "processes" else (1, processes)
        task = (precision, threads, side, seconds)
        return {"speed": run_worker("benchmarks.scale", *task, prepared=True, processes=parts)}

    names = [f"{kind} {precision}" for precision in PRECISIONS for kind in ("processes", "threads")]
    speeds = interleave(names, measure, rounds)["speed"]
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
        "environment": environment().to_json(),
    }


def worker(precision: str, threads: int, side: int, seconds: float) -> float | None:
    """Train for `seconds`, alone or as a process of torchrun; return images/s of all processes on rank 0, else None."""
    torch.set_num_threads(threads)
    config = dataclasses.replace(laptop(), plan=False, minutes=0.0, autocast=precision == "bfloat16")
    sizes = dataclasses.replace(config.schedule, sizes=((0.0, side),))
    config = dataclasses.replace(config, schedule=sizes, device="cpu")
    dataset = noise(16 * config.batch_size, scaled(side, STORED), tuple(map(str, range(CLASSES))))
    with init_distributed() as world, tempfile.TemporaryDirectory() as folder:
        device = torch.device("cpu")
        trainer = Trainer(
            run=Run(Path(folder)),
            config=config,
            state=initialize(config, num_classes=CLASSES, device=device),
            loader=make_loader(dataset, config, device),
            val=None,
            logger=MetricsLogger(),
            display=TrainProgress(),
            world=world,
        )
        for _ in range(WARM_UP):
            trainer.step()
        began, images, passed = time.perf_counter(), 0, 0.0
        while passed < seconds:
            images += trainer.step()
            passed = world.broadcast(time.perf_counter() - began)[0]
        return images / passed if world.is_primary else None
