"""Training batches from shards against the packed cache, in turns, and the memory that an epoch from shards takes.

python benchmarks/streaming.py DATA: the shards are written to a temporary folder first. Both sides are read as training
reads them, epoch after epoch, in random order, with the augmentation of `laptop`; `raw` is without it.
"""

from scenelab.runtime import prepare

prepare()

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from scenelab.data.augment import Augment
from scenelab.data.cache import Packed, pack
from scenelab.data.shards import write_shards
from scenelab.data.splits import open_split
from scenelab.data.streamed import open_shards
from scenelab.runtime import peak_memory
from scenelab.training.batches import TrainingBatches
from scenelab.training.recipes import laptop

SIZE, SIDE, ROUNDS = 96, 80, 5


def read(packed: Packed, *, augment: bool, epoch: int) -> float:
    """Images/s of one epoch."""
    config = dataclasses.replace(laptop(), plan=False, minutes=0.0, epochs=100.0, device="cpu")
    if not augment:
        config = dataclasses.replace(config, augment=Augment())
    batches = TrainingBatches(packed, config, torch.device("cpu"))
    began, images = time.perf_counter(), 0
    for step in range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch):
        images += len(batches.batch(step, SIDE if augment else SIZE)[0])
    return images / (time.perf_counter() - began)


def resident() -> float:
    """MiB of this process that are in memory and are its own: mapped files do not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) / 1024


def main(data: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        write_shards(data, Path(folder) / "shards", size=SIZE)
        written = time.perf_counter() - began
        sides = {"packed": pack(open_split(data, "train"), data / "packed", size=SIZE)}
        sides["shards"] = open_shards(Path(folder) / "shards", "train")
        result = {"images": len(sides["packed"]), "images_per_second_written": len(sides["packed"]) / written}
        for augment in (True, False):
            speeds: dict[str, list[float]] = {name: [] for name in sides}
            memory = []
            for epoch in range(ROUNDS + 1):
                for name in sides if epoch % 2 else reversed(sides):
                    speed = read(sides[name], augment=augment, epoch=epoch)
                    if epoch:
                        speeds[name].append(speed)
                memory.append(round(resident()))
            ratios = [ours / theirs for ours, theirs in zip(speeds["shards"], speeds["packed"], strict=True)]
            result["augmented" if augment else "raw"] = {
                "images_per_second": {name: [round(value) for value in values] for name, values in speeds.items()},
                "shards_over_packed": statistics.median(ratios), "range": [min(ratios), max(ratios)], "n": ROUNDS,
                "own_memory_mib_by_epoch": memory,
            }  # fmt: skip
        print(json.dumps(result | {"peak_memory_mib": peak_memory() / 2**20}, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
