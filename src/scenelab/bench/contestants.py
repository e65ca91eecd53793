"""Our side of the benchmarks, each as an iterator that yields how many images it has just dealt with."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from scenelab.bench import rivals
from scenelab.data.augment import Augment
from scenelab.data.cache import pack
from scenelab.data.miniplaces import Listing
from scenelab.data.splits import open_split
from scenelab.progress import LogProgress
from scenelab.runs.run import Run
from scenelab.training.batches import TrainingBatches
from scenelab.training.recipes import starter
from scenelab.training.trainer import Trainer

RIVALS = ("starter", "imagefolder", "imagefolder-augment")


def iterate(name: str, data: Path, *, batch_size: int, limit: int) -> Iterator[int]:
    """Start one contestant on the first `limit` training images (all of them where `limit` is 0)."""
    listing = _head(open_split(data, "train"), limit)
    if name == "ours":
        yield from our_steps(listing, data, batch_size)
    elif name == "starter":
        yield from rivals.starter_steps(listing, batch_size)
    elif name.startswith("packed"):
        yield from our_batches(listing, data, batch_size, augment=name.endswith("augment"))
    else:
        with tempfile.TemporaryDirectory() as folder:
            augment = name.endswith("augment")
            yield from rivals.image_folder_batches(listing, Path(folder), batch_size, augment=augment)


def _head(listing: Listing, limit: int) -> Listing:
    """Spread `limit` images evenly over the list, so that all classes are there."""
    if not limit or limit >= len(listing):
        return listing
    chosen = [round(index * len(listing) / limit) for index in range(limit)]
    return dataclasses.replace(
        listing,
        split=f"{listing.split}-bench{limit}",
        paths=tuple(listing.paths[index] for index in chosen),
        labels=tuple(listing.labels[index] for index in chosen),
    )


def our_steps(listing: Listing, data: Path, batch_size: int) -> Iterator[int]:
    """The training loop's own step on the `starter` recipe."""
    packed = pack(listing, data / "packed")
    config = dataclasses.replace(starter(), batch_size=batch_size, epochs=1e6, log_every=10**9)
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, lr=0.01))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            run=Run(Path(folder)), config=config, packed=packed, val=None, display=LogProgress(every_steps=10**9)
        )
        while True:
            yield trainer.step()


def our_batches(listing: Listing, data: Path, batch_size: int, *, augment: bool) -> Iterator[int]:
    """The training loop's own batches, with or without the handout's augmentation."""
    packed = pack(listing, data / "packed")
    config = dataclasses.replace(starter(), batch_size=batch_size, epochs=1e6)
    if not augment:
        config = dataclasses.replace(config, augment=Augment())
    batches = TrainingBatches(packed, config, torch.device("cpu"))
    step = 0
    while True:
        images, _ = batches.batch(step, 128)
        step += 1
        yield len(images)
