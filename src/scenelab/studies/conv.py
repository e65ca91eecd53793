"""Study of native and custom convolution: memory, speed and convergence in training."""

import dataclasses
import statistics
from pathlib import Path

from scenelab.data.splits import open_split
from scenelab.errors import LabError
from scenelab.evaluation.intervals import wilson
from scenelab.evaluation.study_results import (
    ConvComparison,
    ConvRun,
    ConvStudy,
    EpochMetrics,
    FinalMetrics,
    LossDifference,
    ValImages,
)
from scenelab.models.registry import CONVOLUTIONS
from scenelab.runs.config import TrainConfig
from scenelab.runs.provenance import TrainingResult, environment
from scenelab.runs.run import Run
from scenelab.runtime import available_cores
from scenelab.studies.figures import draw_conv
from scenelab.studies.runs import is_finished, require_same, train_run, write_study
from scenelab.training.metrics_logger import read_metrics


def run_study(out: Path, data: Path, config: TrainConfig, *, steps: int | None) -> tuple[ConvStudy, str]:
    """Train the unfinished runs in `out/native` and `out/custom`, compare them, and write `study.{json,md,png,svg}`.

    Args:
        out: folder of the study.
        data: the data folder.
        config: config of both runs; the network is replaced by SimpleNet.
        steps: number of training steps; None uses the config's epochs.

    Returns:
        The content of the JSON and the Markdown file.
    """
    train, val = (open_split(data, split) for split in ("train", "val"))
    config = complete(config, images=len(train), steps=steps)
    configs = {Run(out / side): dataclasses.replace(config, conv=side) for side in CONVOLUTIONS}
    for run, values in configs.items():
        require_same(run.folder, data, values)
    for run, values in configs.items():
        if not is_finished(run):
            train_run(run.folder, data, values)
    comparison = compare({run.folder.name: _read_side(run) for run in configs}, val_images=len(val))
    study = ConvStudy(
        **dict(comparison),
        what="SimpleNet (spring 2019), native against custom convolution, one run each from one seed",
        data=ValImages(folder=data.resolve().name, train_images=len(train), val_images=len(val)),
        config=config,
        environment=environment(),
    )
    return study, write_study(out, "study", study, draw_conv)


def complete(config: TrainConfig, *, images: int, steps: int | None) -> TrainConfig:
    """Return a copy of `config` for the study: SimpleNet, `steps` training steps, and the loss logged at every step.

    Both sides take equally many steps, so a time limit and its plan are left out. If `steps` is None, keep the epochs.
    If `config.threads` is 0, use all cores. `images` is the number of training images.
    """
    if steps is not None and steps < 1:
        raise LabError(f"--steps is {steps}; expected 1 or more")
    epochs = config.epochs if steps is None else steps / -(-images // config.batch_size)
    threads = config.threads or available_cores()
    timeless = dataclasses.replace(config, plan=False, minutes=0.0, speeds=())
    return dataclasses.replace(timeless, model="simplenet", epochs=epochs, threads=threads, log_every=1)


def _read_side(run: Run) -> ConvRun:
    accounting, rows = TrainingResult.read(run.results / "training.json"), read_metrics(run)
    accuracy = {split: [row for row in rows if row.get("split") == split] for split in ("train", "val")}
    return ConvRun(
        peak_memory_bytes=accounting.peak_memory_bytes,
        images_per_second=accounting.images_per_second,
        accounting=accounting,
        loss=[(row["step"], row["training_loss"]) for row in rows if "training_loss" in row],
        accuracy={split: [EpochMetrics(**row) for row in rows] for split, rows in accuracy.items()},
    )


def compare(runs: dict[str, ConvRun], *, val_images: int) -> ConvComparison:
    """Compare two runs: speed and memory ratios (custom / native), loss differences, and final accuracies.

    Args:
        runs: results of the runs named `native` and `custom`, with the loss of every step.
        val_images: number of val images.
    """
    native, custom = runs["native"], runs["custom"]
    losses = zip(native.loss, custom.loss, strict=True)
    curve = [(step, abs(value - other)) for (step, value), (_, other) in losses]
    largest_at_step, largest = max(curve, key=lambda point: point[1])
    accuracies = zip(native.accuracy["val"], custom.accuracy["val"], strict=True)
    return ConvComparison(
        sides=runs,
        speed_vs_native=custom.images_per_second / native.images_per_second,
        memory_vs_native=custom.peak_memory_bytes / native.peak_memory_bytes,
        loss_difference=LossDifference(
            first=curve[0][1],
            median=statistics.median(value for _, value in curve),
            largest=largest,
            largest_at_step=largest_at_step,
            curve=curve,
        ),
        final={name: _final(run.accuracy, val_images) for name, run in runs.items()},
        largest_top1_difference=max(abs(row.top1 - other.top1) for row, other in accuracies),
    )


def _final(accuracy: dict[str, list[EpochMetrics]], val_images: int) -> FinalMetrics:
    train, val = accuracy["train"][-1], accuracy["val"][-1]
    return FinalMetrics(
        train_loss=train.loss,
        train_top1=train.top1,
        val_loss=val.loss,
        val_top1=val.top1,
        val_top5=val.top5,
        val_top1_interval=wilson(round(val.top1 / 100 * val_images), val_images),
    )
