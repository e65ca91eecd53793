"""Load the trained network of a run and the images of one of its splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from scenelab.data.cache import MemmapDataset
from scenelab.data.holdout import hold_out
from scenelab.data.splits import open_dataset
from scenelab.errors import LabError
from scenelab.runs.network import Stored, read_classifier
from scenelab.runs.run import Run

SplitName = Literal["val", "train", "holdout"]


@dataclass(frozen=True)
class Opened:
    """A run, its trained network, the images of a split, and `source`, the data folder of the images."""

    run: Run
    stored: Stored
    dataset: MemmapDataset
    source: Path


def open_network(folder: Path) -> tuple[Run, Stored]:
    """Return a run and its trained network in channels-last layout; set torch's number of threads as configured."""
    run = Run(folder)
    torch.set_num_threads(run.read_config().train.threads)
    stored = read_classifier(run.best)
    stored.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return run, stored


def open_images(
    run: Run, stored: Stored, *, data: Path | None = None, split: SplitName = "val"
) -> tuple[MemmapDataset, Path]:
    """Return the images of one split and their data folder.

    `data` defaults to the data folder in the run's config. The images and the network must have the same categories.
    """
    settings = run.read_config()
    config, source = settings.train, data or Path(settings.data)
    cache = Path(settings.cache) if settings.cache and data is None else None
    dataset = open_dataset(source, cache, "train" if split == "holdout" else split, config.stored_size, config.damaged)
    if split == "holdout":
        dataset = hold_out(dataset, config.holdout)[1]
    if dataset.categories != stored.categories:
        raise LabError(f"{source} has other categories than {run.folder} was trained on; use its own data")
    return dataset, source


def open_run(folder: Path, *, data: Path | None = None, split: SplitName = "val") -> Opened:
    """Return a run with its network and the images of a split; see `open_network` and `open_images`."""
    run, stored = open_network(folder)
    return Opened(run, stored, *open_images(run, stored, data=data, split=split))
