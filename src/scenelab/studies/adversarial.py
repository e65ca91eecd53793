"""Adversarial training under one budget: our recipe as it is, and with Fast, Free and PGD, each for the same minutes.

Judged on images held out of train: clean accuracy, and what the worst of all attacks leaves at each ε.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from scenelab.data.cache import MemmapDataset
from scenelab.errors import Diverged
from scenelab.evaluation.evaluate import evaluate
from scenelab.evaluation.robustness import Effort, measure_robustness
from scenelab.io import atomic_write, read_json, write_json
from scenelab.runs.config import AdversarialConfig, TrainConfig, to_plain
from scenelab.runs.network import read_classifier
from scenelab.runs.provenance import environment
from scenelab.runs.run import Run
from scenelab.studies.adversarial_figure import draw_adversarial
from scenelab.studies.apart import finished, require_same, train_apart
from scenelab.studies.design import settle
from scenelab.training.session import open_sides

FREE_REPLAYS, PGD_STEPS = 4, 3


def variants(epsilon: float) -> dict[str, tuple[str, AdversarialConfig | None]]:
    """What each row is called, what it is, and its config."""
    return {
        "normal": ("our recipe", None),
        "fast": ("one step from a random start", AdversarialConfig(method="fast", epsilon=epsilon)),
        "free": (
            f"each batch {FREE_REPLAYS} times while its images move",
            AdversarialConfig(method="free", epsilon=epsilon, steps=FREE_REPLAYS),
        ),
        "pgd": (
            f"{PGD_STEPS} steps of PGD", AdversarialConfig(method="pgd", epsilon=epsilon, steps=PGD_STEPS),
        ),
    }  # fmt: skip


def run_study(
    out: Path, data: Path, config: TrainConfig, *, epsilon: float, epsilons: list[float], images: int
) -> tuple[dict[str, Any], str]:
    """Train what is not trained yet, attack it, and write adversarial.json, adversarial.md and adversarial.png.

    Args:
        out: folder of the study; the runs are `out/VARIANT`.
        config: the recipe, with `minutes`; sizes are planned once, for the normal network.
        epsilon: trained against.
        epsilons: attacked with.
        images: held-out images that are attacked.

    Raises:
        LabError: bad data or settings, or the folder holds a study with others.
        Interrupted: Ctrl-C; the same call goes on where it stopped.
    """
    base = settle(out, data, config)
    holdout = open_sides(data, None, base)[1]
    rows: list[dict[str, Any]] = []
    study, text = {}, ""
    for name, (what, adversarial) in variants(epsilon).items():
        made = dataclasses.replace(base, adversarial=adversarial, ema=_rescaled(base.ema, adversarial))
        rows.append({"name": name, "what": what, **_row(out / name, data, made, holdout, epsilons, images)})
        study = {
            "epsilon": epsilon, "images": min(images, len(holdout)), "held_out": len(holdout),
            "data": data.resolve().name, "config": to_plain(base), "variants": rows,
            "environment": environment().plain(),
        }  # fmt: skip
        text = to_markdown(study)
        write_json(out / "adversarial.json", study)
        with atomic_write(out / "adversarial.md", "w") as file:
            file.write(text)
        draw_adversarial(study, out / "adversarial.png")
    return study, text


def _rescaled(decay: float, adversarial: AdversarialConfig | None) -> float:
    """The average looks back over the same share of the run: with an attack in each step there are fewer steps."""
    if adversarial is None or adversarial.method == "free":
        return decay
    return max(0.0, 1 - (1 - decay) * adversarial.passes)


def _row(
    folder: Path, data: Path, config: TrainConfig, holdout: MemmapDataset, epsilons: list[float], images: int
) -> dict[str, Any]:
    """Train, evaluate and attack one run unless that is done."""
    run = Run(folder)
    failure = run.results / "diverged.json"
    require_same(folder, data, config)
    if not finished(folder) and not failure.exists():
        try:
            train_apart(folder, data, config)
        except Diverged as error:
            write_json(failure, {"message": str(error)})
    if failure.exists():
        return read_json(failure)
    torch.set_num_threads(config.threads)
    stored = read_classifier(run.best)
    stored.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if not (run.results / "holdout.json").exists():
        evaluate(run, stored, holdout, source=str(data))
    robustness = measure_robustness(run, stored, holdout, epsilons=epsilons, effort=Effort(), count=images)
    accounting, clean = read_json(run.results / "training.json"), read_json(run.results / "holdout.json")["plain"]
    return {
        **{name: accounting[name] for name in ("minutes", "epochs", "images_seen", "training_flops")},
        "stopped": accounting.get("stopped", ""),
        "top1": clean["top1"], "top1_interval": clean["top1_interval"],
        "clean": robustness["clean"],
        "worst": [
            {"epsilon": part["epsilon"], "name": part["name"], **part["worst"]}
            for part in robustness["epsilons"] if part["epsilon"] in epsilons
        ],
        "warnings": robustness["warnings"],
    }  # fmt: skip


def to_markdown(study: dict[str, Any]) -> str:
    """Settings, the table, what it says and the figure."""
    config, place = study["config"], study["environment"]
    names = [part["name"] for row in study["variants"] if "worst" in row for part in row["worst"]]
    columns = list(dict.fromkeys(name for name in names if name != "0/255"))
    lines = [
        "# Adversarial training under one budget",
        "",
        f"Each run has {config['minutes']:g} minutes on {config['threads']} threads ({place['processor']}) and, but "
        f"for the first, is trained against L∞ perturbations of {255 * study['epsilon']:g}/255. Clean accuracy is that "
        f"of {study['held_out']} images held out of train (`{study['data']}`), robust accuracy what the worst of FGSM, "
        f"PGD, Auto-PGD on two losses and Square leaves of {study['images']} of them (20 steps, 500 queries: an upper "
        "bound), with 95 % intervals over the images; one run each. "
        f"`{place['command']}`",
        "",
        f"| training | what | minutes | epochs | clean top-1 % | {' | '.join(f'ε = {name}' for name in columns)} |",
        f"|---|---|---:|---:|---:|{'---:|' * len(columns)}",
    ]
    for row in study["variants"]:
        if "worst" not in row:
            failure = row["message"].partition(";")[0]
            lines.append(f"| {row['name']} | {row['what']} | | | {failure} |{' |' * len(columns)}")
            continue
        worst = {part["name"]: part for part in row["worst"]}
        cells = [
            f"{worst[name]['accuracy']:.1f} ({worst[name]['interval'][0]:.1f}–{worst[name]['interval'][1]:.1f})"
            for name in columns
        ]
        lines.append(
            f"| {row['name']} | {row['what']} | {row['minutes']:.1f} | {row['epochs']:.1f} | {row['top1']:.1f} | "
            f"{' | '.join(cells)} |"
        )
    said = [f"- {row['name']} stopped early: {row['stopped']}." for row in study["variants"] if row.get("stopped")]
    said += [
        f"- {row['name']}, {sign['sign']}: {sign['text']}."
        for row in study["variants"]
        for sign in row.get("warnings", [])
    ]
    return "\n".join([*lines, "", *said, *([""] if said else []), "![Accuracy against ε](adversarial.png)", ""])
