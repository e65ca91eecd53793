"""Speeds side by side: each contestant in a process of its own, in turns, so that noise hits all alike."""

import json
import statistics
import time
from pathlib import Path
from typing import Any

from scenelab.bench.child import in_child
from scenelab.bench.contestants import RIVALS, iterate
from scenelab.runs.provenance import environment


def worker(arguments: list[str]) -> None:
    """Time one contestant in this process and print images/s as JSON; `compare` starts it."""
    name, data, batch_size, limit, seconds = arguments
    steps = iterate(name, Path(data), batch_size=int(batch_size), limit=int(limit))
    for _ in range(3):
        next(steps)
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < float(seconds):
        images += next(steps)
    print(json.dumps(images / (time.perf_counter() - began)))


def compare(
    names: list[str], data: Path, *, batch_size: int, limit: int, seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Images/s of each contestant, one figure a round.

    Raises:
        LabError: a contestant failed.
    """
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            speeds[name].append(_time_in_process(name, data, batch_size, limit, seconds))
    return speeds


def _time_in_process(name: str, data: Path, batch_size: int, limit: int, seconds: float) -> float:
    # The rival runs as its reader would run it: without our process settings.
    arguments = [name, data, batch_size, limit, seconds]
    return float(in_child("scenelab.bench.measure", arguments, prepared=name not in RIVALS))


def ratio(speeds: dict[str, list[float]], ours: str, rival: str) -> dict[str, Any]:
    """Ours over the rival round by round: median and range, n rounds."""
    ratios = [mine / other for mine, other in zip(speeds[ours], speeds[rival], strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "n": len(ratios)}


def bench_train(data: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    """SimpleNet at 128 pixels, batch 64: our training step against a plain starter-style loop."""
    speeds = compare(["ours", "starter"], data, batch_size=64, limit=0, seconds=seconds, rounds=rounds)
    return {
        "train_vs_starter": ratio(speeds, "ours", "starter"),
        "images_per_second": speeds,
        "what": "SimpleNet (spring 2019), 128 pixels, batch 64, handout's augmentation, SGD",
        "environment": environment(),
    }


def bench_data(data: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Packed batches against torchvision's ImageFolder in a DataLoader, plain and with the handout's augmentation."""
    names = ["packed", "imagefolder", "packed-augment", "imagefolder-augment"]
    speeds = compare(names, data, batch_size=64, limit=4096, seconds=seconds, rounds=rounds)
    return {
        "packed_vs_imagefolder": ratio(speeds, "packed", "imagefolder"),
        "packed_vs_imagefolder_augmented": ratio(speeds, "packed-augment", "imagefolder-augment"),
        "images_per_second": speeds,
        "what": "128-pixel float32 batches of 64 images; ImageFolder with 2 worker processes",
        "environment": environment(),
    }
