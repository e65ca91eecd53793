"""Study of the handout's program: the plateau of its first steps, compared with curves that course teams published."""

import dataclasses
import math
from pathlib import Path

import torch

from scenelab.data.augment_config import HANDOUT
from scenelab.data.splits import open_dataset, open_split
from scenelab.evaluation.study_results import BaselineRow, BaselineStudy, LayerSignal, ValImages
from scenelab.models.registry import create_model
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig
from scenelab.runs.provenance import environment
from scenelab.runs.run import Run
from scenelab.runtime import available_cores
from scenelab.studies.baseline_figure import draw_baseline
from scenelab.studies.published import largest_distance, plateau_end, published, smooth
from scenelab.studies.runs import is_finished, require_same, train_run, write_study
from scenelab.studies.signal import measure_signal
from scenelab.training.metrics_logger import read_metrics

EPOCH = 391  # steps per epoch of the published runs, which had 100,000 training images
CLASSES = 100  # of the published runs; other losses cannot be compared
SIGNAL_IMAGES = 128


def variants() -> dict[str, tuple[str, int, int, tuple[str, ...]]]:
    """Return (network, steps, steps of warm-up, published teams with these settings) by name of the run."""
    return {
        "warmup": ("simplenet-small", 1400, 5 * EPOCH, ("team-2", "team-3", "team-4")),
        "no-warmup": ("simplenet-small", 800, 0, ("team-1",)),
        "deep": ("simplenet", 1400, 0, ()),
    }


def handout_config(network: str, *, steps: int, warmup: int, steps_per_epoch: int) -> TrainConfig:
    """Return the config of the first `steps` steps of the handout's program.

    Its cosine decay, over 60 to 100 epochs, has lowered the learning rate by at most 0.2 % by then and is left out.
    """
    return TrainConfig(
        recipe="handout",
        model=network,
        epochs=steps / steps_per_epoch,
        batch_size=256,
        optimizer=OptimizerConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=ScheduleConfig(warmup_epochs=warmup / steps_per_epoch, final=1.0),
        augment=HANDOUT,
        clip_norm=1.0,
        log_every=1,
    )


def run_study(
    out: Path, data: Path, *, seed: int, threads: int, steps: int | None, names: list[str]
) -> tuple[BaselineStudy, str]:
    """Train the unfinished runs in `out/VARIANT`, compare them, and write `baseline.{json,md,png,svg}`.

    Args:
        out: folder of the study.
        data: the data folder.
        seed: random seed of the runs.
        threads: number of CPU threads; 0 uses all cores.
        steps: training steps of each run; None for each variant's own number.
        names: the variants to run.

    Returns:
        The content of the JSON and the Markdown file.
    """
    train, val = (open_split(data, split) for split in ("train", "val"))
    per_epoch, classes, rows, config = math.ceil(len(train) / 256), len(train.categories), [], None
    for name in names:
        network, own_steps, warmup, teams = variants()[name]
        config = handout_config(network, steps=steps or own_steps, warmup=warmup, steps_per_epoch=per_epoch)
        config = dataclasses.replace(config, seed=seed, threads=threads or available_cores())
        run = Run(out / name)
        require_same(run.folder, data, config)
        if not is_finished(run):
            train_run(run.folder, data, config)
        rows.append(_row(run, network, warmup, teams if classes == CLASSES else (), math.log(classes)))
    assert config is not None
    study = BaselineStudy(
        config=config,
        environment=environment(),
        data=ValImages(folder=data.resolve().name, train_images=len(train), val_images=len(val)),
        guessing_loss=math.log(classes),
        runs=rows,
        signals=_signals(data, config, classes=classes),
    )
    return study, write_study(out, "baseline", study, draw_baseline)


def _row(run: Run, network: str, warmup: int, teams: tuple[str, ...], guessing: float) -> BaselineRow:
    metrics = read_metrics(run)
    # The published programs count steps from 0.
    loss = [(row["step"] - 1, row["training_loss"]) for row in metrics if "training_loss" in row]
    others = {team: values for team, values in published().items() if team in teams}
    curves = {team: [(step, value) for step, value in values["loss"]] for team, values in others.items()}
    return BaselineRow(
        name=run.folder.name,
        network=network,
        warmup=warmup,
        loss=loss,
        top1=[(row["step"], row["top1"]) for row in metrics if row.get("split") == "val"],
        plateau=plateau_end(loss, guessing),
        published={team: smooth(curve) for team, curve in curves.items()},
        published_top1={team: [(EPOCH * epoch, top1) for epoch, top1 in others[team]["top1"]] for team in teams},
        published_plateau={team: plateau_end(curve) for team, curve in curves.items()},
        distance=largest_distance(loss, list(curves.values())),
    )


def _signals(data: Path, config: TrainConfig, *, classes: int) -> dict[str, list[LayerSignal]]:
    """Return the signal by layer of both SimpleNets with random weights, on the first val images."""
    dataset = open_dataset(data, None, "val", config.stored_size)
    images = dataset.gather(slice(SIGNAL_IMAGES)).float() / 255
    signals = {}
    for name in ("simplenet-small", "simplenet"):
        torch.manual_seed(config.seed)
        signals[name] = measure_signal(create_model(name, num_classes=classes), images, dataset.labels[:SIGNAL_IMAGES])
    return signals
