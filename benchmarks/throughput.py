"""Benchmarks of training and loading speed against simple baselines, alternately and each in its own process."""

import time
from pathlib import Path
from typing import Any

from benchmarks.efficiency import bench_efficiency
from benchmarks.subjects import BASELINES, iterate
from scenelab.runs.provenance import environment
from scenelab.studies.timing import Measurements, interleave, ratio
from scenelab.studies.worker import run_worker


def worker(name: str, data: str, limit: int, seconds: float) -> float:
    """Run a subject for `seconds` in batches of 64, after three warm-up steps; return images/s."""
    steps = iterate(name, Path(data), batch_size=64, limit=limit)
    for _ in range(3):
        next(steps)
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        images += next(steps)
    return images / (time.perf_counter() - began)


def compare(names: list[str], data: Path, *, limit: int, seconds: float, rounds: int) -> dict[str, list[float]]:
    """Return the images/s of each subject, one value per round, measured in fresh processes."""

    def measure(name: str) -> Measurements:
        prepared = name not in BASELINES  # baselines run as usual, without our process settings
        return {"speed": run_worker("benchmarks.throughput", name, data, limit, seconds, prepared=prepared)}

    return interleave(names, measure, rounds)["speed"]


def bench_train(*, data: Path, rounds: int = 5, seconds: float = 10.0) -> dict[str, Any]:
    """Compare our images/s in training with a plain training loop, and our FLOP/s with matrix products.

    Ratios are ours over the other: higher is better.

    Args:
        data: a data folder.
        rounds: number of measurements per subject, taken in turns.
        seconds: duration of each measurement.
    """
    speeds = compare(["ours", "starter"], data, limit=0, seconds=seconds, rounds=rounds)
    efficiency = bench_efficiency(rounds=rounds, seconds=seconds / 4)
    return {
        "train_vs_starter": ratio(speeds, "ours", "starter"),
        "images_per_second": speeds,
        "what": "SimpleNet (spring 2019), 128 pixels, batch 64, handout's augmentation, SGD",
        "environment": environment().to_json(),
        "step_vs_product": efficiency["step_vs_product"],
        "efficiency": efficiency,
    }


def bench_data(*, data: Path, rounds: int = 5, seconds: float = 4.0) -> dict[str, Any]:
    """Compare images/s loaded from the cache and from torchvision's ImageFolder, with and without augmentation.

    Ratios are cache over ImageFolder: higher is better.

    Args:
        data: a data folder.
        rounds: number of measurements per subject, taken in turns.
        seconds: duration of each measurement.
    """
    names = ["packed", "imagefolder", "packed-augment", "imagefolder-augment"]
    speeds = compare(names, data, limit=4096, seconds=seconds, rounds=rounds)
    return {
        "packed_vs_imagefolder": ratio(speeds, "packed", "imagefolder"),
        "packed_vs_imagefolder_augmented": ratio(speeds, "packed-augment", "imagefolder-augment"),
        "images_per_second": speeds,
        "what": "128-pixel float32 batches of 64 images; ImageFolder with 2 worker processes",
        "environment": environment().to_json(),
    }
