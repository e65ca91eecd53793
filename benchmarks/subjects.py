"""What the benchmarks time, each as an iterator that yields the number of images of its last step."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks import baselines
from scenelab.data.augment import Augment
from scenelab.data.cache import pack
from scenelab.data.miniplaces import Listing
from scenelab.data.splits import open_split
from scenelab.progress import LogProgress
from scenelab.runs.run import Run
from scenelab.training.batches import TrainingBatches
from scenelab.training.metrics_logger import MetricsLogger
from scenelab.training.recipes import starter
from scenelab.training.state import initialize
from scenelab.training.trainer import Trainer

BASELINES = ("starter", "imagefolder", "imagefolder-augment")


def iterate(name: str, data: Path, *, batch_size: int, limit: int) -> Iterator[int]:
    """Start one subject on `limit` training images, or on all of them if `limit` is 0."""
    listing = _head(open_split(data, "train"), limit)
    if name == "ours":
        yield from our_steps(listing, data, batch_size)
    elif name == "starter":
        yield from baselines.starter_steps(listing, batch_size)
    elif name.startswith("packed"):
        yield from our_batches(listing, data, batch_size, augment=name.endswith("augment"))
    else:
        with tempfile.TemporaryDirectory() as folder:
            augment = name.endswith("augment")
            yield from baselines.image_folder_batches(listing, Path(folder), batch_size, augment=augment)


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


def our_steps(listing: Listing, data: Path, batch_size: int) -> Iterator[int]:
    """Take training steps of the recipe `starter`."""
    dataset = pack(listing, data / "packed")
    config = dataclasses.replace(starter(), batch_size=batch_size, epochs=1e6, log_every=10**9)
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, lr=0.01))
    with tempfile.TemporaryDirectory() as folder:
        device = torch.device("cpu")
        trainer = Trainer(
            run=Run(Path(folder)),
            config=config,
            state=initialize(config, num_classes=len(dataset.categories), device=device),
            batches=TrainingBatches(dataset, config, device),
            val=None,
            logger=MetricsLogger(),
            display=LogProgress(every_steps=10**9),
        )
        while True:
            yield trainer.step()


def our_batches(listing: Listing, data: Path, batch_size: int, *, augment: bool) -> Iterator[int]:
    """Make training batches, with or without the handout's augmentation."""
    dataset = pack(listing, data / "packed")
    config = dataclasses.replace(starter(), batch_size=batch_size, epochs=1e6)
    if not augment:
        config = dataclasses.replace(config, augment=Augment())
    batches = TrainingBatches(dataset, config, torch.device("cpu"))
    step = 0
    while True:
        images, _ = batches.batch(step, 128)
        step += 1
        yield len(images)
