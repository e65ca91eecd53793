"""Design study (the handout's section 3): from a plain network to ours in steps, and an ablation of our recipe.

All runs have the same time budget and seeds, so a larger network sees fewer images. Accuracy is measured on held-out
training images; val is not read.
"""

import dataclasses
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenelab.data.cache import MemmapDataset
from scenelab.evaluation.accuracy_results import EvaluationResult
from scenelab.evaluation.study_results import (
    DesignRun,
    DesignStudy,
    DesignVariant,
    EpochAccuracy,
    FinishedRun,
    HeldOutImages,
)
from scenelab.runs.config import OptimizerConfig, TrainConfig
from scenelab.runs.provenance import TrainingResult, environment
from scenelab.runs.run import Run
from scenelab.studies.design_findings import judge
from scenelab.studies.figures import draw_design
from scenelab.studies.runs import failure_message, finish_run, plan_once, write_study
from scenelab.terminal import say
from scenelab.training.metrics_logger import read_metrics
from scenelab.training.session import open_splits

REFERENCE = "ours"
NEAR = 2.5  # percentage points of top-1; variants that differ by at most this are repeated with more seeds
HANDOUT_SGD = OptimizerConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4)
CLIP = 1.0  # as in the handout; without it, plain networks diverge at this learning rate
Runs = dict[str, dict[int, DesignRun]]
"""Results by variant and seed."""


@dataclass(frozen=True)
class Variant:
    """Variant of the study: name, description, function that changes the base config, and name of the baseline."""

    name: str
    what: str
    change: Callable[[TrainConfig], TrainConfig]
    against: str | None = REFERENCE


def _with(section: str = "", **values: Any) -> Callable[[TrainConfig], TrainConfig]:
    """Return a function that replaces fields of a config or, with `section`, of that section of the config."""

    def change(config: TrainConfig) -> TrainConfig:
        if section:
            return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})
        return dataclasses.replace(config, **values)

    return change


def _network(model: str) -> Callable[[TrainConfig], TrainConfig]:
    return _with(model=model, optimizer=HANDOUT_SGD, clip_norm=CLIP)


def _adamw(config: TrainConfig) -> TrainConfig:
    rate = config.optimizer.adam_lr
    optimizer = OptimizerConfig(name="adamw", lr=rate, weight_decay=0.05, decay_vectors=False)
    return dataclasses.replace(config, optimizer=optimizer)


def _one_size(config: TrainConfig) -> TrainConfig:
    return _with("schedule", sizes=((0.0, config.schedule.sizes[-1][1]),))(config)


LADDER = (
    Variant("plain", "ten convolutions with ReLU", _network("plain"), None),
    Variant("plain-deep", "22 of them", _network("plain-deep"), "plain"),
    Variant("residual-bare", "ten, with residual connections", _network("residual-bare"), "plain-deep"),
    Variant("residual-sgd", "the same with batch normalization: our network", _network("residual"), "residual-bare"),
    Variant(
        "inception", "several filter sizes side by side, batch normalization", _network("inception"), "residual-sgd"
    ),
)
"""Variants of the network, each compared with a simpler one, all with the handout's optimizer."""

SWITCHES = (
    Variant("adamw", "AdamW instead of Muon", _adamw),
    Variant("large", "twice the blocks", _with(model="residual-large")),
    Variant("small", "half the channels", _with(model="residual-small")),
    Variant("batch-64", "batches of 64", _with(batch_size=64)),
    Variant("precision", "float32 instead of bfloat16, or the reverse", lambda c: _with(autocast=not c.autocast)(c)),
    Variant("one-size", "large images from the start", _one_size),
    Variant("no-crops", "whole images instead of crops", _with("augment", area=None)),
    Variant("no-mirror", "no mirror images", _with("augment", flip=False)),
    Variant("no-smoothing", "no label smoothing", _with(label_smoothing=0.0)),
    Variant("no-average", "the last weights instead of their average", _with(ema=0.0)),
    Variant("no-decay", "no weight decay", _with("optimizer", weight_decay=0.0)),
    Variant("color", "with the handout's color jitter", _with("augment", gain=0.15)),
    Variant("mixup", "with mixup, Beta(0.2, 0.2)", _with("augment", mixup=0.2)),
    Variant("cutmix", "with CutMix, Beta(1, 1)", _with("augment", cutmix=1.0)),
)
"""Variants of our recipe, each with one change."""

VARIANTS = (*LADDER, Variant(REFERENCE, "our network and recipe", _with(), None), *SWITCHES)


def run_study(out: Path, data: Path, config: TrainConfig, *, seeds: int) -> tuple[DesignStudy, str]:
    """Train and evaluate each unfinished run in `out/VARIANT/SEED`, and write `design.{json,md,png,svg}`.

    A network in `LADDER` is compared with an earlier one, a variant in `SWITCHES` with the reference. Every variant
    runs with one seed. The reference, and pairs whose accuracies differ by at most `NEAR` points, run with all seeds.
    The files are written after every new run, so that an interrupted study has results.

    Args:
        out: folder of the study.
        data: the data folder.
        config: the reference recipe, with a time limit; its epochs and resolutions are planned once.
        seeds: maximum number of seeds per variant.

    Returns:
        The content of the JSON and the Markdown file.
    """
    base = plan_once(out, data, config)
    holdout = open_splits(data, None, base)[1]
    runs: Runs = {}
    for seed in range(seeds):
        selected = [variant for variant in VARIANTS if not seed or variant.name in _repeated(runs)]
        for number, variant in enumerate(sorted(selected, key=lambda variant: variant.name != REFERENCE), start=1):
            changed = dataclasses.replace(variant.change(base), seed=base.seed + seed)
            run = Run(out / variant.name / str(changed.seed))
            is_new = not (run.results / "holdout.json").exists()
            if is_new:
                place = f"{number} of {len(selected)} with this seed"
                say(f"{variant.name}, seed {changed.seed}: {place}", file=sys.stderr)
            runs.setdefault(variant.name, {})[changed.seed] = _train(run, data, changed, holdout)
            if is_new:
                _write(out, data, base, holdout, runs)
    return _write(out, data, base, holdout, runs)


def _train(run: Run, data: Path, config: TrainConfig, holdout: MemmapDataset) -> DesignRun:
    stored = finish_run(run, data, config, holdout)
    rows = read_metrics(run)
    values: dict[str, Any] = {
        "seed": config.seed,
        "curve": [(row["step"], row["training_loss"]) for row in rows if "training_loss" in row],
        "accuracy": {
            split: [EpochAccuracy.model_validate(row) for row in rows if row.get("split") == split]
            for split in ("train", "holdout")
        },
    }
    if stored is None:
        return DesignRun(**values, message=failure_message(run))
    training = TrainingResult.read(run.results / "training.json")
    evaluation = EvaluationResult.read(run.results / "holdout.json")
    return FinishedRun.model_validate({**dict(training), **dict(evaluation.mirror), **values})


def _repeated(runs: Runs) -> set[str]:
    """Return the variants that need more seeds: the reference, and pairs that differ by at most `NEAR` points."""
    first = {name: next(iter(seeds.values())) for name, seeds in runs.items()}
    repeated = {REFERENCE}
    for variant in VARIANTS:
        run, other = first.get(variant.name), first.get(variant.against or "")
        if isinstance(run, FinishedRun) and isinstance(other, FinishedRun) and abs(run.top1 - other.top1) <= NEAR:
            repeated |= {variant.name, str(variant.against)}
    return repeated


def _write(out: Path, data: Path, base: TrainConfig, holdout: MemmapDataset, runs: Runs) -> tuple[DesignStudy, str]:
    variants = [
        DesignVariant(
            name=variant.name,
            what=variant.what,
            ladder=variant in LADDER,
            against=variant.against,
            runs=[*runs[variant.name].values()],
        )
        for variant in VARIANTS
        if variant.name in runs
    ]
    study = DesignStudy(
        data=HeldOutImages(folder=data.resolve().name, held_out=len(holdout)),
        config=base,
        reference=REFERENCE,
        guessing_loss=math.log(len(holdout.categories)),
        variants=judge(variants, classes=len(holdout.categories), images=len(holdout)),
        environment=environment(),
    )
    return study, write_study(out, "design", study, draw_design)
