"""The handout's Section 3: from a plain network to ours, a step at a time, and each choice of ours on and off.

All runs have the same minutes, seeds, pictures and augmentation, so a network that computes more sees fewer images.
They are judged on images held out of train; val is not opened.
"""

import dataclasses
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scenelab.data.cache import MemmapDataset
from scenelab.data.splits import open_split
from scenelab.errors import Diverged
from scenelab.evaluation.evaluate import evaluate
from scenelab.io import atomic_write, read_json, write_json
from scenelab.runs.config import OptimizerConfig, TrainConfig, from_plain, to_plain
from scenelab.runs.network import read_classifier
from scenelab.runs.provenance import environment
from scenelab.runs.run import Run
from scenelab.studies.apart import finished, refuse_difference, require_same, train_apart
from scenelab.studies.design_figure import draw_design
from scenelab.studies.design_findings import judge, to_markdown
from scenelab.training.budget import plan
from scenelab.training.metrics_logger import read_metrics
from scenelab.training.session import available_cores, open_sides

HOLDOUT = 0.1
REFERENCE = "ours"
NEAR = 2.5  # points of top-1: what lies no further from what it is compared with is repeated with more seeds
HANDOUT_SGD = OptimizerConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4)
CLIP = 1.0  # the handout's, without which plain networks end at NaN at this rate


@dataclass(frozen=True)
class Variant:
    """One row of the study: what it is called, what it shows, and how it differs from the reference."""

    name: str
    what: str
    change: Callable[[TrainConfig], TrainConfig]


def _network(model: str) -> Callable[[TrainConfig], TrainConfig]:
    """A network trained with the handout's optimiser."""
    return lambda config: dataclasses.replace(config, model=model, optimizer=HANDOUT_SGD, clip_norm=CLIP)


def _with(**values: Any) -> Callable[[TrainConfig], TrainConfig]:
    return lambda config: dataclasses.replace(config, **values)


def _augmented(**values: Any) -> Callable[[TrainConfig], TrainConfig]:
    return lambda config: dataclasses.replace(config, augment=dataclasses.replace(config.augment, **values))


def _adamw(config: TrainConfig) -> TrainConfig:
    rate = config.optimizer.adam_lr
    return dataclasses.replace(
        config, optimizer=OptimizerConfig(name="adamw", lr=rate, weight_decay=0.05, decay_vectors=False)
    )


def _other_precision(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(config, autocast=not config.autocast)


def _last_size_only(config: TrainConfig) -> TrainConfig:
    sizes = ((0.0, config.schedule.sizes[-1][1]),)
    return dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, sizes=sizes))


def _undecayed(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, weight_decay=0.0))


LADDER = (
    Variant("plain", "ten convolutions with ReLU", _network("plain")),
    Variant("plain-deep", "22 of them", _network("plain-deep")),
    Variant("residual-bare", "ten, with residual connections", _network("residual-bare")),
    Variant("residual-sgd", "the same with batch normalisation: our network", _network("residual")),
    Variant("inception", "several filter sizes side by side, batch normalisation", _network("inception")),
)
"""From the handout's plain network to ours and past it, all with its optimiser."""

SWITCHES = (
    Variant("adamw", "AdamW in place of Muon", _adamw),
    Variant("large", "twice the blocks", _with(model="residual-large")),
    Variant("small", "half the channels", _with(model="residual-small")),
    Variant("batch-64", "batches of 64", _with(batch_size=64)),
    Variant("precision", "float32 where bfloat16 was taken, or the reverse", _other_precision),
    Variant("one-size", "large pictures from the start", _last_size_only),
    Variant("no-crops", "whole pictures in place of crops", _augmented(area=None)),
    Variant("no-mirror", "no mirror images", _augmented(flip=False)),
    Variant("no-smoothing", "labels as they are", _with(label_smoothing=0.0)),
    Variant("no-average", "the last weights in place of their average", _with(ema=0.0)),
    Variant("no-decay", "no weight decay", _undecayed),
    Variant("colour", "with the handout's colour jitter", _augmented(gain=0.15)),
    Variant("mixup", "with mixup, Beta(0.2, 0.2)", _augmented(mixup=0.2)),
    Variant("cutmix", "with CutMix, Beta(1, 1)", _augmented(cutmix=1.0)),
)
"""Our recipe with one choice undone, or one more made."""

VARIANTS = (*LADDER, Variant(REFERENCE, "our network and recipe", lambda config: config), *SWITCHES)


def run_study(out: Path, data: Path, config: TrainConfig, *, seeds: int) -> tuple[dict[str, Any], str]:
    """Train what is not trained yet, judge it, and write design.json, design.md and design.png.

    A rung of the ladder is compared with the one below it, a switch with the reference. Each variant is trained with
    one seed; the reference, and pairs that lie within `NEAR` points of each other, with all of them. What is there is
    written after every new run, so that a study that was stopped has its results so far.

    Args:
        out: folder of the study; the runs are `out/VARIANT/SEED`.
        config: the recipe of the reference, with `minutes`; sizes are planned once and kept in `out/plan.json`.
        seeds: how many runs the reference and its neighbours have.

    Returns:
        What design.json and design.md hold.

    Raises:
        LabError: bad data or settings, or the folder holds a study with others.
        Interrupted: Ctrl-C; the same call goes on where it stopped.
    """
    base = settle(out, data, config)
    holdout = open_sides(data, None, base)[1]
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for seed in range(seeds):
        chosen = [variant for variant in VARIANTS if not seed or variant.name in _repeated(rows)]
        for number, variant in enumerate(sorted(chosen, key=lambda variant: variant.name != REFERENCE), start=1):
            made = dataclasses.replace(variant.change(base), seed=base.seed + seed)
            folder = out / variant.name / str(made.seed)
            new = not (Run(folder).results / "holdout.json").exists()
            if new:
                print(f"{variant.name}, seed {made.seed}: {number} of {len(chosen)} with this seed", file=sys.stderr)
            rows.setdefault(variant.name, {})[made.seed] = _train(folder, data, made, holdout)
            if new:
                _write(out, data, base, holdout, rows)
    return _write(out, data, base, holdout, rows)


def settle(out: Path, data: Path, config: TrainConfig) -> TrainConfig:
    """The reference's config with its sizes planned: by the first call, and from then on as that one left it."""
    path = out / "plan.json"
    listing = open_split(data, "train")
    config = dataclasses.replace(config, holdout=HOLDOUT, threads=config.threads or available_cores(), evaluate_every=2)
    if path.exists():
        stored = read_json(path)
        refuse_difference(out, to_plain(config), to_plain(from_plain(stored["asked"])))
        return from_plain(stored["planned"])
    torch.set_num_threads(config.threads)
    planned = plan(config, images=round(len(listing) * (1 - HOLDOUT)), categories=listing.categories)
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, {"asked": to_plain(config), "planned": to_plain(planned)})
    return planned


def _train(folder: Path, data: Path, config: TrainConfig, holdout: MemmapDataset) -> dict[str, Any]:
    """Train and evaluate one run unless that is done, and return its row."""
    run = Run(folder)
    failure, result = run.results / "diverged.json", run.results / "holdout.json"
    require_same(folder, data, config)
    if not finished(folder) and not failure.exists():
        try:
            train_apart(folder, data, config)
        except Diverged as error:
            write_json(failure, {"message": str(error)})
    if failure.exists():
        return {**read_json(failure), **read_curves(run)}
    if not result.exists():
        torch.set_num_threads(config.threads)
        stored = read_classifier(run.best)
        stored.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        evaluate(run, stored, holdout, source=str(data))
    accounting = read_json(run.results / "training.json")
    kept = ("images_seen", "epochs", "minutes", "images_per_second", "parameters", "training_flops", "steps")
    mirror = read_json(result)["mirror"]
    return {
        **{name: accounting[name] for name in kept},
        **{name: mirror[name] for name in ("top1", "top5", "loss")},
        **read_curves(run),
    }


def read_curves(run: Run) -> dict[str, Any]:
    """Loss by step, and accuracy by epoch on training and held-out images."""
    rows = read_metrics(run)
    return {
        "curve": [[row["step"], row["training_loss"]] for row in rows if "training_loss" in row],
        "accuracy": {
            split: [
                {name: row[name] for name in ("epoch", "step", "top1")} for row in rows if row.get("split") == split
            ]
            for split in ("train", "holdout")
        },
    }


def against() -> dict[str, str | None]:
    """What each variant is compared with: a rung with the one below it, a switch with the reference."""
    below = dict(zip([variant.name for variant in LADDER[1:]], [variant.name for variant in LADDER], strict=False))
    others = {variant.name: REFERENCE for variant in SWITCHES}
    return {variant.name: (below | others).get(variant.name) for variant in VARIANTS}


def _repeated(rows: dict[str, dict[int, dict[str, Any]]]) -> set[str]:
    """The reference, and all pairs whose first seeds lie so near that one run cannot tell."""
    first = {name: next(iter(runs.values())) for name, runs in rows.items()}
    repeated = {REFERENCE}
    for name, other in against().items():
        pair = [first.get(part or "", {}) for part in (name, other)]
        if all("top1" in run for run in pair) and abs(pair[0]["top1"] - pair[1]["top1"]) <= NEAR:
            repeated |= {name, str(other)}
    return repeated


def _write(
    out: Path, data: Path, base: TrainConfig, holdout: MemmapDataset, rows: dict[str, dict[int, dict[str, Any]]]
) -> tuple[dict[str, Any], str]:
    variants = [
        {
            "name": variant.name, "what": variant.what, "ladder": variant in LADDER,
            "against": against()[variant.name],
            "runs": [{"seed": seed, **values} for seed, values in rows[variant.name].items()],
        }
        for variant in VARIANTS if variant.name in rows
    ]  # fmt: skip
    study = {
        "data": {"folder": data.resolve().name, "held_out": len(holdout)},
        "config": to_plain(base),
        "reference": REFERENCE,
        "guessing_loss": math.log(len(holdout.categories)),
        "variants": judge(variants, classes=len(holdout.categories), images=len(holdout)),
        "environment": environment().plain(),
    }
    text = to_markdown(study)
    write_json(out / "design.json", study)
    with atomic_write(out / "design.md", "w") as file:
        file.write(text)
    draw_design(study, out / "design.png")
    return study, text
