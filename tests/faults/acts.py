"""What the fault harness runs in forks besides the plain command line."""

import shutil
import sys
from functools import partial
from pathlib import Path

import torch

from runs_compared import tiny as small_config
from scenelab.cli import entry_point
from scenelab.data.augment_config import Augment
from scenelab.data.fetch import install
from scenelab.io import write_json
from scenelab.runs.checkpoint import save_checkpoint
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig
from scenelab.training import trainer
from scenelab.training.recipes import RECIPES

CHECKPOINT = {"old": 0, "new": 1}


def tiny() -> TrainConfig:
    """All that a run carries, in a second: Muon, an average, growing images, random crops, a checkpoint a step."""
    return small_config(
        recipe="tiny",
        epochs=3,
        batch_size=24,
        threads=1,
        ema=0.9,
        keep="best",
        checkpoint_seconds=0,
        schedule=ScheduleConfig(warmup_epochs=1, sizes=((0.0, 16), (0.5, 32))),
        optimizer=OptimizerConfig(name="muon", lr=0.02),
        augment=Augment(flip=True, area=(0.5, 1.0), gain=0.1),
    )


def command(arguments: list[str]) -> None:
    """The command line, with the recipe `tiny`; ends as a program does, with SystemExit."""
    RECIPES["tiny"] = tiny
    sys.argv = ["scenelab", *arguments]
    entry_point()


def fetch_data(arguments: list[str]) -> None:
    """`scenelab data download FOLDER` from other addresses: of the archive and of the lists."""
    folder, archive, lists = arguments
    install.download = partial(install.download, archive_addresses=[archive], list_addresses=[lists])
    command(["data", "download", folder])


def checkpoint(version: str) -> dict[str, object]:
    """A small one; tensors of 100 kB are written past the file's buffer and small ones through it."""
    generator = torch.Generator().manual_seed(CHECKPOINT[version])
    weights = {f"layer{n}.weight": torch.rand(size, generator=generator) for n, size in enumerate((3, 25_000, 300))}
    return {"state_dict": weights, "step": CHECKPOINT[version]}


def save(arguments: list[str]) -> None:
    """Save the new checkpoint."""
    save_checkpoint(Path(arguments[0]), checkpoint("new"))


def write_value(arguments: list[str]) -> None:
    """Write a JSON file of more than one buffer."""
    write_json(Path(arguments[0]), {"value": ["new"] * 3000})


def lose(arguments: list[str]) -> None:
    """The command line; after the third checkpoint somebody removes a folder, the first argument."""
    folder, *arguments = arguments
    saved, save_as_ever = [], trainer.save_checkpoint

    def save_and_lose(path: Path, values: dict[str, object]) -> None:
        save_as_ever(path, values)
        saved.append(path)
        if len(saved) == 3:
            shutil.rmtree(folder)

    trainer.save_checkpoint = save_and_lose
    command(arguments)
