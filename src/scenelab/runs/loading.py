"""A run opened for whatever comes after training: its network, and the images of a split."""

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
    """A run folder, its best weights, and images with the folder that they come from."""

    run: Run
    stored: Stored
    dataset: MemmapDataset
    source: Path


def open_network(folder: Path) -> tuple[Run, Stored]:
    """A run's best weights in channels-last layout; torch takes the threads that the run was trained with.

    Raises:
        LabError: the folder holds no run, or its weights cannot be read.
    """
    run = Run(folder)
    torch.set_num_threads(run.read_config().train.threads)
    stored = read_classifier(run.best)
    stored.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return run, stored


def open_images(
    run: Run, stored: Stored, *, data: Path | None = None, split: SplitName = "val"
) -> tuple[MemmapDataset, Path]:
    """The images of one of a run's splits, and the folder that they come from.

    Args:
        data: another data folder than the one that it was trained on.
        split: `holdout` is what training held out of train.

    Raises:
        LabError: the data has other categories than the run was trained on.
    """
    stored_config = run.read_config()
    config = stored_config.train
    source = data or Path(stored_config.data)
    cache = Path(stored_config.cache) if stored_config.cache and data is None else None
    dataset = open_dataset(source, cache, "train" if split == "holdout" else split, config.stored_size, config.damaged)
    if split == "holdout":
        dataset = hold_out(dataset, config.holdout)[1]
    if dataset.categories != stored.categories:
        raise LabError(f"{source} has other categories than {run.folder} was trained on; use its own data")
    return dataset, source


def open_run(folder: Path, *, data: Path | None = None, split: SplitName = "val") -> Opened:
    """`open_network` and `open_images` in one."""
    run, stored = open_network(folder)
    return Opened(run, stored, *open_images(run, stored, data=data, split=split))
