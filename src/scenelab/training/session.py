"""From a config and a data folder to a finished run folder, and from a broken-off run folder to a finished one."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import torch

from scenelab.data.cache import MemmapDataset
from scenelab.data.holdout import hold_out
from scenelab.data.splits import open_dataset, open_split
from scenelab.errors import LabError
from scenelab.models.flops import model_size
from scenelab.runs.config import RunConfig, TrainConfig, from_plain, to_plain
from scenelab.runs.provenance import Environment, TrainingResult, environment
from scenelab.runs.run import Run
from scenelab.runtime import peak_memory
from scenelab.schema import parse
from scenelab.training.budget import plan
from scenelab.training.distributed import SINGLE_PROCESS, World
from scenelab.training.trainer import Trainer


def open_sides(data: Path, cache: Path | None, config: TrainConfig) -> tuple[MemmapDataset, MemmapDataset]:
    """The images that are trained on, and those that are evaluated after each epoch: val or the held-out ones."""
    train = open_dataset(data, cache, "train", config.stored_size, config.damaged)
    if config.holdout:
        return hold_out(train, config.holdout)
    return train, open_dataset(data, cache, "val", config.stored_size, config.damaged)


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_run(
    folder: Path,
    data: Path,
    config: TrainConfig,
    *,
    cache: Path | None = None,
    world: World = SINGLE_PROCESS,
    **options: Any,
) -> dict[str, Any]:
    """Train from the first step to the last and return the run's accounting.

    Args:
        folder: the run folder; it must not hold a run yet.
        world: the processes of one run; a run that is there already is then continued, as after a restart.
        options: further fields of `Trainer` (display, factory, events).

    Raises:
        LabError: bad data, an unwritable folder, divergence.
        Interrupted: training was asked to stop; `resume_run` continues it.
    """
    run = Run(Path(folder))
    adversarial = config.adversarial
    if world.size > 1 and adversarial and adversarial.method == "handout":
        raise LabError("adversarial is 'handout', which one process alone can train with; choose pgd, fast or free")
    if world.size > 1 and world.broadcast_object(run.config.exists()):
        if world.is_primary:
            print(f"{folder} holds a run, which goes on with its own config", file=sys.stderr)
        return resume_run(folder, world=world, **options)
    listing = open_split(data, "train")
    if world.is_primary:
        run.require_new()
    config = dataclasses.replace(config, threads=config.threads or threads_each(world))
    torch.set_num_threads(config.threads)
    if config.plan:
        images = round(len(listing) * (1 - config.holdout)) // world.size
        planned = to_plain(plan(config, images=images, categories=listing.categories))
        config = from_plain(world.broadcast_object(planned))
    train, val = open_sides(data, cache, config)
    world.require_same([train.digest, val.digest], "images")
    stored = RunConfig(
        data=str(Path(data).resolve()),
        cache=str(cache.resolve()) if cache else None,
        train_digest=train.digest,
        train=config,
    )
    if world.is_primary:
        run.create(stored)
    return _fit(run, config, train, val, {**options, "world": world})


def threads_each(world: World) -> int:
    """The cores that this process may use, shared with the others on its machine."""
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1") if world.size > 1 else 1))


def resume_run(folder: Path, *, world: World = SINGLE_PROCESS, **options: Any) -> dict[str, Any]:
    """Continue a run from its last checkpoint; it ends as if it had never been broken off.

    Raises:
        LabError: the folder holds no run, or the training images are not those that it began with.
        Interrupted: training was asked to stop again.
    """
    run = Run(Path(folder))
    stored = parse(RunConfig, world.broadcast_object(to_plain(run.read_config()) if world.is_primary else None))
    config = stored.train
    if world.size > 1:
        config = dataclasses.replace(config, threads=threads_each(world))
    cache = Path(stored.cache) if stored.cache else None
    train, val = open_sides(Path(stored.data), cache, config)
    world.require_same([train.digest, val.digest], "images")
    if train.digest != stored.train_digest:
        raise LabError(f"the training images in {stored.data} changed since {folder} began; start a new run")
    if world.is_primary:
        _note_resumption(run)
    return _fit(run, config, train, val, {**options, "world": world}, resume=True)


def _fit(
    run: Run,
    config: TrainConfig,
    train: MemmapDataset,
    val: MemmapDataset,
    options: dict[str, Any],
    *,
    resume: bool = False,
) -> dict[str, Any]:
    torch.set_num_threads(config.threads)
    trainer = Trainer(run=run, config=config, dataset=train, val=val, **options)
    world = trainer.world
    if resume and world.broadcast_object(run.checkpoint.exists()):
        trainer.resume(run.checkpoint)
    state = trainer.fit()
    images = state.meters.seen
    network = model_size(state.model.network)
    accounting = {
        "steps": state.step,
        "images_seen": images,
        "epochs": images / len(train),
        "training_flops": state.meters.flops,
        "minutes": round(state.meters.spent / 60, 3),
        "seconds_in_steps": round(state.meters.seconds, 3),
        "images_per_second": round(images / max(1e-9, state.meters.seconds), 2),
        "peak_memory_bytes": peak_memory(),
        "parameters": network.parameters,
        "checkpoint_bytes": run.best.stat().st_size if world.is_primary else 0,
        "threads": config.threads,
        "processes": world.size,
        "device": str(trainer.device),
        **({"stopped": state.stopped} if state.stopped else {}),
        **_skipped(train, val),
    }
    if world.is_primary:
        parse(TrainingResult, accounting).write(run.results / "training.json")
    return accounting


def _skipped(*sides: MemmapDataset) -> dict[str, Any]:
    """Listed images that were left out, by the list that they are of."""
    lists = {"train" if side.split == "holdout" else side.split: side.skipped for side in sides if side.skipped}
    return {"skipped": {split: [list(entry) for entry in entries] for split, entries in lists.items()}} if lists else {}


def _note_resumption(run: Run) -> None:
    """Keep the provenance of each resumption beside that of the start."""
    earlier = Environment.read(run.environment) if run.environment.exists() else environment()
    earlier.model_copy(update={"resumed": (*earlier.resumed, environment())}).write(run.environment)
