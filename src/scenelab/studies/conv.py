"""Study of native and custom convolution: memory, speed and convergence in training."""

import dataclasses
import statistics
from pathlib import Path
from typing import Any

from scenelab.data.splits import open_split
from scenelab.errors import LabError
from scenelab.evaluation.intervals import wilson
from scenelab.io import read_object
from scenelab.models.registry import CONVOLUTIONS
from scenelab.runs.config import TrainConfig, to_plain
from scenelab.runs.provenance import environment
from scenelab.runs.run import Run
from scenelab.runtime import available_cores
from scenelab.studies.figures import draw_conv
from scenelab.studies.runs import Study, is_finished, require_same, train_run, write_study
from scenelab.training.metrics_logger import read_metrics


def run_study(out: Path, data: Path, config: TrainConfig, *, steps: int | None) -> tuple[Study, str]:
    """Train the unfinished runs in `out/native` and `out/custom`, compare them, and write `study.json`, `.md`, `.png`.

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
    study = {
        "what": "SimpleNet (spring 2019), native against custom convolution, one run each from one seed",
        "data": {"folder": data.resolve().name, "train_images": len(train), "val_images": len(val)},
        "config": to_plain(config),
        **compare({run.folder.name: _read_side(run) for run in configs}, val_images=len(val)),
        "environment": environment().to_json(),
    }
    return study, write_study(out, "study", study, draw_conv)


def complete(config: TrainConfig, *, images: int, steps: int | None) -> TrainConfig:
    """Return `config` with SimpleNet, `steps` steps (None keeps its epochs), fixed threads, and a logged loss per step.

    `images` is the number of training images.
    """
    if steps is not None and steps < 1:
        raise LabError(f"--steps is {steps}; expected 1 or more")
    epochs = config.epochs if steps is None else steps / -(-images // config.batch_size)
    threads = config.threads or available_cores()
    return dataclasses.replace(config, model="simplenet", epochs=epochs, threads=threads, log_every=1)


def _read_side(run: Run) -> dict[str, Any]:
    accounting, rows = read_object(run.results / "training.json"), read_metrics(run)
    return {
        **{name: accounting[name] for name in ("peak_memory_bytes", "images_per_second")},
        "accounting": accounting,
        "loss": [[row["step"], row["training_loss"]] for row in rows if "training_loss" in row],
        "accuracy": {split: [row for row in rows if row.get("split") == split] for split in ("train", "val")},
    }


def compare(sides: dict[str, dict[str, Any]], *, val_images: int) -> dict[str, Any]:
    """Return speed and memory ratios (custom / native), differences of the loss curves, and final accuracies.

    Args:
        sides: results of the runs `native` and `custom`, with the loss of every step.
        val_images: number of val images.
    """
    native, custom = sides["native"], sides["custom"]
    losses = zip(native["loss"], custom["loss"], strict=True)
    curve = [[step, abs(value - other)] for (step, value), (_, other) in losses]
    largest_at_step, largest = max(curve, key=lambda point: point[1])
    accuracies = zip(native["accuracy"]["val"], custom["accuracy"]["val"], strict=True)
    return {
        "sides": sides,
        "speed_vs_native": custom["images_per_second"] / native["images_per_second"],
        "memory_vs_native": custom["peak_memory_bytes"] / native["peak_memory_bytes"],
        "loss_difference": {
            "first": curve[0][1],
            "median": statistics.median(value for _, value in curve),
            "largest": largest,
            "largest_at_step": largest_at_step,
            "curve": curve,
        },
        "final": {side: _final(values["accuracy"], val_images) for side, values in sides.items()},
        "largest_top1_difference": max(abs(row["top1"] - other["top1"]) for row, other in accuracies),
    }


def _final(accuracy: dict[str, list[dict[str, Any]]], val_images: int) -> dict[str, Any]:
    keys = (("train", "loss"), ("train", "top1"), ("val", "loss"), ("val", "top1"), ("val", "top5"))
    final = {f"{split}_{name}": accuracy[split][-1][name] for split, name in keys}
    return {**final, "val_top1_interval": wilson(round(final["val_top1"] / 100 * val_images), val_images)}
