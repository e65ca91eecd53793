"""The handout's question: how do native and custom convolution differ in memory, speed and convergence?"""

import dataclasses
from pathlib import Path
from typing import Any

from scenelab.data.splits import open_split
from scenelab.errors import LabError
from scenelab.io import atomic_write, read_json, write_json
from scenelab.models.registry import CONVOLUTIONS
from scenelab.runs.config import TrainConfig, to_plain
from scenelab.runs.provenance import environment
from scenelab.runs.run import Run
from scenelab.studies.apart import finished, require_same, train_apart
from scenelab.studies.conv_figure import draw_study
from scenelab.studies.conv_findings import compare, to_markdown
from scenelab.training.metrics_logger import read_metrics
from scenelab.training.session import available_cores

SIDES = tuple(CONVOLUTIONS)


def run_study(out: Path, data: Path, config: TrainConfig, *, steps: int | None) -> tuple[dict[str, Any], str]:
    """Train what is not trained yet, then compare and write study.json, study.md and study.png.

    Args:
        out: folder of the study; the runs are `out/native` and `out/custom`.
        config: how both sides are trained; its network is replaced by SimpleNet.
        steps: how many training steps, in place of the config's epochs.

    Returns:
        What study.json and study.md hold.

    Raises:
        LabError: bad data or settings, or the folder holds a study with others.
        Interrupted: Ctrl-C; the same call goes on where it stopped.
    """
    train, val = (open_split(data, split) for split in ("train", "val"))
    config = settle(config, images=len(train), steps=steps)
    folders = {side: out / side for side in SIDES}
    configs = {side: dataclasses.replace(config, conv=side) for side in SIDES}
    for side, folder in folders.items():
        require_same(folder, data, configs[side])
    for side, folder in folders.items():
        if not finished(folder):
            train_apart(folder, data, configs[side])
    study = {
        "what": "SimpleNet (spring 2019), native against custom convolution, one run each from one seed",
        "data": {"folder": data.resolve().name, "train_images": len(train), "val_images": len(val)},
        "config": to_plain(config),
        **compare({side: read_side(folder) for side, folder in folders.items()}, val_images=len(val)),
        "environment": environment().plain(),
    }
    text = to_markdown(study)
    write_json(out / "study.json", study)
    with atomic_write(out / "study.md", "w") as file:
        file.write(text)
    draw_study(study, out / "study.png")
    return study, text


def settle(config: TrainConfig, *, images: int, steps: int | None) -> TrainConfig:
    """Fix what the study decides itself: the network, its length, threads, and a loss for every step."""
    epochs = config.epochs
    if steps is not None:
        if steps < 1:
            raise LabError(f"--steps is {steps}; expected 1 or more")
        epochs = steps / -(-images // config.batch_size)
    threads = config.threads or available_cores()
    return dataclasses.replace(config, model="simplenet", epochs=epochs, threads=threads, log_every=1)


def read_side(folder: Path) -> dict[str, Any]:
    """Accounting and curves of one side, as study.json has them."""
    run = Run(folder)
    accounting, rows = read_json(run.results / "training.json"), read_metrics(run)
    return {
        "peak_memory_bytes": accounting["peak_memory_bytes"],
        "images_per_second": accounting["images_per_second"],
        "accounting": accounting,
        "loss": [[row["step"], row["training_loss"]] for row in rows if "training_loss" in row],
        "accuracy": {split: [row for row in rows if row.get("split") == split] for split in ("train", "val")},
    }
