"""Study of adversarial training: standard, Fast, Free and PGD training with our recipe and an equal time budget.

Clean accuracy and worst-case accuracy under attack per ε are measured on held-out training images.
"""

import dataclasses
from pathlib import Path

from scenelab.evaluation.accuracy_results import EvaluationResult
from scenelab.evaluation.robustness import measure_robustness
from scenelab.evaluation.robustness_results import Effort, RobustnessResult
from scenelab.evaluation.study_results import AdversarialRow, AdversarialStudy, DivergedVariant, WorstCase
from scenelab.runs.config import AdversarialConfig, TrainConfig
from scenelab.runs.provenance import TrainingResult, environment
from scenelab.runs.run import Run
from scenelab.studies.figures import draw_adversarial
from scenelab.studies.runs import failure_message, finish_run, plan_once, require_same, write_study
from scenelab.training.session import open_splits

FREE_REPLAYS, PGD_STEPS = 4, 3


def variants(epsilon: float) -> dict[str, tuple[str, AdversarialConfig | None]]:
    """Return (description, adversarial config) per variant name; the config of standard training is None."""
    free = AdversarialConfig(method="free", epsilon=epsilon, steps=FREE_REPLAYS)
    return {
        "normal": ("our recipe", None),
        "fast": ("one step from a random start", AdversarialConfig(method="fast", epsilon=epsilon)),
        "free": (f"each batch {FREE_REPLAYS} times while its images move", free),
        "pgd": (f"{PGD_STEPS} steps of PGD", AdversarialConfig(method="pgd", epsilon=epsilon, steps=PGD_STEPS)),
    }


def run_study(
    out: Path, data: Path, config: TrainConfig, *, epsilon: float, epsilons: list[float], images: int
) -> tuple[AdversarialStudy, str]:
    """Train and attack each unfinished variant in `out/VARIANT`, and write `adversarial.{json,md,png,svg}`.

    Args:
        out: folder of the study.
        data: the data folder.
        config: the recipe, with a time limit; its resolutions are planned once, for standard training.
        epsilon: ε of adversarial training, for pixel values in [0, 1].
        epsilons: values of ε for the attacks.
        images: maximum number of held-out images to attack.

    Returns:
        The content of the JSON and the Markdown file.
    """
    base = plan_once(out, data, config)
    holdout = open_splits(data, None, base)[1]
    study = AdversarialStudy(
        epsilon=epsilon,
        images=min(images, len(holdout)),
        held_out=len(holdout),
        data=data.resolve().name,
        config=base,
        variants=[],
        environment=environment(),
    )
    text, kinds = "", variants(epsilon)
    configs = {
        name: dataclasses.replace(base, adversarial=adversarial, ema=_rescaled(base.ema, adversarial))
        for name, (_, adversarial) in kinds.items()
    }
    for name, changed in configs.items():
        require_same(out / name, data, changed)
    for name, (what, _) in kinds.items():
        run = Run(out / name)
        stored = finish_run(run, data, configs[name], holdout)
        if stored is None:
            row = DivergedVariant(name=name, what=what, message=failure_message(run))
        else:
            measured = measure_robustness(run, stored, holdout, epsilons=epsilons, effort=Effort(), count=images)
            row = _row(run, name, what, measured, epsilons)
        study = study.model_copy(update={"variants": [*study.variants, row]})
        text = write_study(out, "adversarial", study, draw_adversarial, columns=study.columns)
    return study, text


def _rescaled(decay: float, adversarial: AdversarialConfig | None) -> float:
    """Return the EMA decay that averages the same fraction of a run in the fewer steps of adversarial training."""
    if adversarial is None or adversarial.method == "free":
        return decay
    return max(0.0, 1 - (1 - decay) * adversarial.relative_flops)


def _row(run: Run, name: str, what: str, measured: RobustnessResult, epsilons: list[float]) -> AdversarialRow:
    training = TrainingResult.read(run.results / "training.json")
    clean = EvaluationResult.read(run.results / "holdout.json").plain
    return AdversarialRow(
        name=name,
        what=what,
        minutes=training.minutes,
        epochs=training.epochs,
        images_seen=training.images_seen,
        training_flops=training.training_flops,
        stopped=training.stopped,
        top1=clean.top1,
        top1_interval=clean.top1_interval,
        clean=measured.clean,
        worst=[
            WorstCase(epsilon=entry.epsilon, name=entry.name, **dict(entry.worst))
            for entry in measured.epsilons
            if entry.epsilon in epsilons
        ],
        warnings=list(measured.warnings),
    )
