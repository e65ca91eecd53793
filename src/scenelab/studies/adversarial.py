"""Study of adversarial training: standard, Fast, Free and PGD training with our recipe and an equal time budget.

Clean accuracy and worst-case accuracy under attack per ε are measured on held-out training images.
"""

import dataclasses
from pathlib import Path
from typing import Any

from scenelab.data.cache import MemmapDataset
from scenelab.evaluation.robustness import Effort, measure_robustness
from scenelab.io import read_object
from scenelab.runs.config import AdversarialConfig, TrainConfig, to_plain
from scenelab.runs.provenance import environment
from scenelab.runs.run import Run
from scenelab.studies.figures import draw_adversarial
from scenelab.studies.runs import Study, finish_run, plan_once, write_study
from scenelab.training.session import open_sides

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
) -> tuple[Study, str]:
    """Train and attack each unfinished variant in `out/VARIANT`, and write `adversarial.json`, `.md` and `.png`.

    Args:
        out: folder of the study.
        data: the data folder.
        config: the recipe, with `minutes`; resolutions are planned once, for standard training.
        epsilon: ε of adversarial training, for pixel values in [0, 1].
        epsilons: values of ε for the attacks.
        images: maximum number of held-out images to attack.

    Returns:
        The content of the JSON and the Markdown file.
    """
    base = plan_once(out, data, config)
    holdout = open_sides(data, None, base)[1]
    rows: list[dict[str, Any]] = []
    study, text = {}, ""
    for name, (what, adversarial) in variants(epsilon).items():
        changed = dataclasses.replace(base, adversarial=adversarial, ema=_rescaled(base.ema, adversarial))
        rows.append({"name": name, "what": what, **_row(Run(out / name), data, changed, holdout, epsilons, images)})
        study = {
            "epsilon": epsilon,
            "images": min(images, len(holdout)),
            "held_out": len(holdout),
            "data": data.resolve().name,
            "config": to_plain(base),
            "variants": rows,
            "environment": environment().to_json(),
        }
        names = [part["name"] for row in rows for part in row.get("worst", []) if part["epsilon"]]
        text = write_study(out, "adversarial", study, draw_adversarial, columns=list(dict.fromkeys(names)))
    return study, text


def _rescaled(decay: float, adversarial: AdversarialConfig | None) -> float:
    """Return the EMA decay that averages over the same fraction of the run; with attacks, a run has fewer steps."""
    if adversarial is None or adversarial.method == "free":
        return decay
    return max(0.0, 1 - (1 - decay) * adversarial.passes)


def _row(
    run: Run, data: Path, config: TrainConfig, holdout: MemmapDataset, epsilons: list[float], images: int
) -> dict[str, Any]:
    stored = finish_run(run, data, config, holdout)
    if stored is None:
        return read_object(run.results / "diverged.json")
    measured = measure_robustness(run, stored, holdout, epsilons=epsilons, effort=Effort(), count=images)
    robustness = measured.to_json()
    accounting, clean = read_object(run.results / "training.json"), read_object(run.results / "holdout.json")["plain"]
    attacked = [part for part in robustness["epsilons"] if part["epsilon"] in epsilons]
    return {
        **{name: accounting[name] for name in ("minutes", "epochs", "images_seen", "training_flops")},
        "stopped": accounting.get("stopped", ""),
        "top1": clean["top1"],
        "top1_interval": clean["top1_interval"],
        "clean": robustness["clean"],
        "worst": [{"epsilon": part["epsilon"], "name": part["name"], **part["worst"]} for part in attacked],
        "warnings": robustness["warnings"],
    }
