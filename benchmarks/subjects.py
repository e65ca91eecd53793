"""What the benchmarks time, each as an iterator that yields the number of images of its last step."""

import dataclasses
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks import baselines
from scenelab.data.augment import Augment
from scenelab.data.cache import MemmapDataset, pack
from scenelab.data.miniplaces import Listing
from scenelab.data.splits import open_split
from scenelab.progress import LogProgress
from scenelab.runs.config import TrainConfig
from scenelab.runs.run import Run
from scenelab.training.batches import TrainingBatches
from scenelab.training.recipes import starter
from scenelab.training.trainer import Trainer

BASELINES = ("starter", "imagefolder", "imagefolder-augment")


def iterate(name: str, data: Path, *, batch_size: int, limit: int) -> Iterator[int]:
    """Start one subject on `limit` training images, or on all of them if `limit` is 0."""
    listing, augment = _head(open_split(data, "train"), limit), name.endswith("augment")
    if name == "starter":
        yield from baselines.starter_steps(listing, batch_size)
    elif name.startswith("imagefolder"):
        yield from baselines.image_folder_batches(listing, batch_size, augment=augment)
    else:
        dataset = pack(listing, data / "packed")
        config = dataclasses.replace(starter(), batch_size=batch_size, epochs=1e6, log_every=10**9)
        yield from our_steps(dataset, config) if name == "ours" else our_batches(dataset, config, augment=augment)


def _head(listing: Listing, limit: int) -> Listing:
    """Take `limit` images spread evenly over the list, so that all classes are there."""
    if not limit or limit >= len(listing):
        return listing
    indices = [round(index * len(listing) / limit) for index in range(limit)]
    return dataclasses.replace(
        listing,
        split=f"{listing.split}-bench{limit}",
        paths=tuple(listing.paths[index] for index in indices),
        labels=tuple(listing.labels[index] for index in indices),
    )


def our_steps(dataset: MemmapDataset, config: TrainConfig) -> Iterator[int]:
    """Take training steps of the recipe `starter`."""
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, lr=0.01))
    with tempfile.TemporaryDirectory() as folder:
        run, display = Run(Path(folder)), LogProgress(every_steps=10**9)
        trainer = Trainer(run=run, config=config, dataset=dataset, val=None, display=display)
        while True:
            yield trainer.step()


def our_batches(dataset: MemmapDataset, config: TrainConfig, *, augment: bool) -> Iterator[int]:
    """Make training batches, with or without the handout's augmentation."""
    if not augment:
        config = dataclasses.replace(config, augment=Augment())
    batches = TrainingBatches(dataset, config, torch.device("cpu"))
    for step in itertools.count():
        yield len(batches.batch(step, 128)[0])
