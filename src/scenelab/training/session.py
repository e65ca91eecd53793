"""Functions that start a run in a new folder, or resume a run."""

import dataclasses
import shlex
import sys
from contextlib import closing, nullcontext
from pathlib import Path

import torch

from scenelab.data.cache import MemmapDataset
from scenelab.data.holdout import hold_out
from scenelab.data.splits import open_dataset, open_split
from scenelab.errors import LabError
from scenelab.models.flops import model_size
from scenelab.models.simplenet import Factory
from scenelab.progress import TrainProgress, make_progress
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import RunConfig, TrainConfig, from_plain, to_plain
from scenelab.runs.lock import lock_run
from scenelab.runs.provenance import Environment, TrainingResult, environment
from scenelab.runs.run import Run
from scenelab.runtime import available_cores, mapped_memory, peak_memory
from scenelab.schema import parse
from scenelab.terminal import say
from scenelab.training.budget import plan
from scenelab.training.device import adapt, pick_device
from scenelab.training.distributed import SINGLE_PROCESS, World, local_ranks
from scenelab.training.memory import require_memory
from scenelab.training.metrics_logger import MetricsLogger, RunLogger
from scenelab.training.pace import describe
from scenelab.training.state import initialize, make_loader, restore
from scenelab.training.trainer import Trainer


def start_run(
    folder: Path,
    data: Path,
    config: TrainConfig,
    *,
    cache: Path | None = None,
    world: World = SINGLE_PROCESS,
    display: TrainProgress | None = None,
    factory: Factory | None = None,
) -> TrainingResult:
    """Train a new run to its end and return its totals: steps, images, minutes, peak memory, ….

    The returned values are also written to results/training.json.

    Args:
        folder: the run folder, which must not hold a run yet.
        data: the data folder.
        config: config of the run.
        cache: folder of the decoded images; `default_cache(data)` by default.
        world: this process and the other ranks. With several ranks an existing run is resumed, because torchrun
            restarts them after a failure.
        display: shows the progress.
        factory: builds the network, called with `num_classes`; replaces the network that the config names.

    Raises:
        LabError: the data is invalid, the folder cannot be written, or the loss diverged.
        Interrupted: Ctrl-C or SIGTERM was received; `resume_run` continues from the saved checkpoint.
    """
    run = Run(Path(folder))
    device = pick_device(config.device)  # before a folder is created
    if world.size > 1:
        if config.adversarial and config.adversarial.method == "handout":
            raise LabError("adversarial is 'handout', which needs a single process; choose pgd, fast or free")
        if world.broadcast_object(run.config.exists()):
            if world.is_primary:
                say(f"{folder} holds a run, which resumes with its own config", file=sys.stderr)
            return resume_run(folder, world=world, display=display, factory=factory)
    listing = open_split(data, "train")
    if world.is_primary:
        run.require_new()
    config = dataclasses.replace(config, threads=config.threads or threads_per_rank(world))
    torch.set_num_threads(config.threads)
    images, categories = round(len(listing) * (1 - config.holdout)), listing.categories
    require_memory(config, num_classes=len(categories), images=images, device=device, world=world, factory=factory)
    if config.plan:
        if world.is_primary:
            say("measuring the speed of this machine for the plan, before the run begins", file=sys.stderr)
        planned = to_plain(plan(config, images=images // world.size, categories=categories, world=world))
        config = from_plain(world.broadcast_object(planned))
    train, val = open_splits(data, cache, config)
    world.require_same([train.digest, val.digest], "images")
    stored = RunConfig(
        data=str(Path(data).resolve()),
        cache=str(cache.resolve()) if cache else None,
        train_digest=train.digest,
        train=config,
    )
    with lock_run(run.folder) if world.is_primary else nullcontext():
        if world.is_primary:
            run.create(stored)
        return _fit(run, config, train, val, world=world, display=display, factory=factory)


def resume_run(
    folder: Path, *, world: World = SINGLE_PROCESS, display: TrainProgress | None = None, factory: Factory | None = None
) -> TrainingResult:
    """Resume a run from its last checkpoint and train to its end; return the same totals as `start_run`.

    Without a time limit, the weights are the same as without the interruption.

    Raises:
        LabError: the folder holds no run, or the training images have changed.
        Interrupted: Ctrl-C or SIGTERM was received again.
    """
    run = Run(Path(folder))
    stored = parse(RunConfig, world.broadcast_object(to_plain(run.read_config()) if world.is_primary else None))
    config = stored.train
    if world.size > 1:
        config = dataclasses.replace(config, threads=threads_per_rank(world))
    train, val = open_splits(Path(stored.data), Path(stored.cache) if stored.cache else None, config)
    world.require_same([train.digest, val.digest], "images")
    if train.digest != stored.train_digest:
        raise LabError(f"the training images in {stored.data} changed since {folder} began; start a new run")
    with lock_run(run.folder) if world.is_primary else nullcontext():
        if world.is_primary:
            _note_resumption(run)
        return _fit(run, config, train, val, world=world, display=display, factory=factory, resume=True)


def open_splits(data: Path, cache: Path | None, config: TrainConfig) -> tuple[MemmapDataset, MemmapDataset]:
    """Return the data sets for training and evaluation: train and val or, with `config.holdout`, two parts of train."""
    train = open_dataset(data, cache, "train", config.stored_size, config.damaged)
    if config.holdout:
        return hold_out(train, config.holdout, config.fold)
    return train, open_dataset(data, cache, "val", config.stored_size, config.damaged)


def threads_per_rank(world: World) -> int:
    """Return the number of CPU threads per rank: the available cores, divided among the ranks of this machine."""
    return max(1, available_cores() // local_ranks(world))


def _fit(
    run: Run,
    config: TrainConfig,
    train: MemmapDataset,
    val: MemmapDataset,
    *,
    world: World,
    display: TrainProgress | None,
    factory: Factory | None,
    resume: bool = False,
) -> TrainingResult:
    torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    config = adapt(config, device)
    loader = make_loader(train, config, device)
    resume = resume and world.broadcast_object(run.checkpoint.exists())
    state = initialize(config, num_classes=len(train.categories), device=device, factory=factory, resumed=resume)
    if resume:
        values = world.broadcast_object(load_checkpoint(run.checkpoint) if world.is_primary else None)
        restore(state, values, run.checkpoint, arch=config.model, steps_per_epoch=loader.steps_per_epoch)
    logger = RunLogger(run, keep_bytes=state.metrics_bytes) if world.is_primary else MetricsLogger()
    with closing(logger):
        trainer = Trainer(
            run=run,
            config=config,
            state=state,
            loader=loader,
            val=val,
            logger=logger,
            display=display or make_progress(),
            world=world,
        )
        trainer.fit(announcement(run, config, train, device))
    result = _result(trainer, train, val)
    if world.is_primary:
        result.write(run.results / "training.json")
    return result


def announcement(run: Run, config: TrainConfig, train: MemmapDataset, device: torch.device) -> tuple[str, str]:
    """Return two lines of text: the plan of the run, and how to stop and resume it."""
    length = f"{config.minutes:g} minutes" if config.minutes else f"{config.epochs:g} epochs"
    return (
        f"plan: {config.model} on {len(train)} images of {len(train.categories)} classes, {length}, batch size "
        f"{config.batch_size}, {describe(config)}, {device}, {config.threads} threads",
        f"Ctrl-C stops after the current step and saves a checkpoint; then resume with: "
        f"{shlex.join(['scenelab', 'resume', str(run.folder)])}",
    )


def _result(trainer: Trainer, train: MemmapDataset, val: MemmapDataset) -> TrainingResult:
    state, run, world = trainer.state, trainer.run, trainer.world
    optional = {"stopped": state.stopped, "skipped": _skipped(train, val)}
    return TrainingResult(
        steps=state.step,
        images_seen=state.run.seen,
        epochs=state.run.seen / len(train),
        training_flops=state.run.flops,
        minutes=round(state.run.spent / 60, 3),
        seconds_in_steps=round(state.run.seconds, 3),
        images_per_second=round(state.run.seen / max(1e-9, state.run.seconds), 2),
        peak_memory_bytes=peak_memory() - mapped_memory(),
        parameters=model_size(state.model.network).parameters,
        checkpoint_bytes=run.best.stat().st_size if world.is_primary else 0,
        threads=trainer.config.threads,
        processes=world.size,
        device=str(trainer.loader.device),
        **{name: value for name, value in optional.items() if value},
    )


def _skipped(*datasets: MemmapDataset) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return pairs (path, reason) of skipped images by split; omit splits without skipped images."""
    return {
        "train" if data.split == "holdout" else data.split: tuple(data.skipped) for data in datasets if data.skipped
    }


def _note_resumption(run: Run) -> None:
    """Append the current software and hardware to `resumed` in the run's environment file."""
    earlier = Environment.read(run.environment) if run.environment.exists() else environment()
    earlier.model_copy(update={"resumed": (*earlier.resumed, environment())}).write(run.environment)
