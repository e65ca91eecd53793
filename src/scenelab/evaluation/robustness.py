"""Robustness of a run: attacks of growing strength at several ε, their worst case, and signs of gradient masking."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from scenelab.attacks import APGD, FGSM, PGD, Attack, Linf, Square, TargetedAPGD
from scenelab.classifier import Model
from scenelab.data.cache import MemmapDataset
from scenelab.errors import LabError
from scenelab.evaluation.adversarial import BATCH_SIZE, make_samples, name_epsilon, round_to_levels, through_png
from scenelab.evaluation.gradient_masking import (
    MaskingSign,
    check_black_box,
    check_gradients,
    check_large,
    check_monotone,
    check_outputs,
    check_steps,
)
from scenelab.evaluation.intervals import wilson
from scenelab.evaluation.robustness_plots import LEFTOVER, draw_robustness, draw_samples
from scenelab.evaluation.saliency_tests import load_images, spread_rows
from scenelab.io import read_json, write_json
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.progress import progress
from scenelab.runs.network import Stored
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run

MAX_CHECKED = 100  # images that are checked for gradient masking
SHEET_IMAGES = 6


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Strength of the attacks.

    Attributes:
        steps: of PGD and of APGD-CE.
        targeted_steps: of APGD-T per class.
        classes: number of classes that APGD-T tries.
        queries: of Square.
    """

    steps: int = 20
    targeted_steps: int = 20
    classes: int = 9
    queries: int = 500


THOROUGH = Effort(steps=100, targeted_steps=100, classes=9, queries=5000)
"""The budget of AutoAttack (Croce & Hein 2020), without FAB."""


@dataclass(frozen=True)
class Method:
    """An attack and its description for the report."""

    attack: Attack
    description: str
    quantize: bool = False


def methods(effort: Effort) -> dict[str, Method]:
    """Return the attacks in the order in which they run."""
    steps, targeted_steps = effort.steps, effort.targeted_steps
    return {
        "fgsm": Method(FGSM(), "one step of ε"),
        "pgd": Method(PGD(steps=steps, random_start=True), f"PGD, {steps} steps from a random start"),
        "apgd-ce": Method(APGD(steps=steps), f"Auto-PGD on cross-entropy, {steps} steps"),
        "pgd-8bit": Method(
            PGD(steps=steps), f"PGD, {steps} steps, each image on whole levels of 8 bits", quantize=True
        ),
        "apgd-t": Method(
            TargetedAPGD(steps=targeted_steps, classes=effort.classes),
            f"Auto-PGD on the targeted DLR loss, {effort.classes} classes, {targeted_steps} steps each",
        ),
        "square": Method(Square(queries=effort.queries), f"Square, {effort.queries} queries and no gradient"),
    }


@dataclass(frozen=True)
class Subject:
    """The model under attack, images on 8-bit levels, and which of them it classifies correctly."""

    model: Classifier
    images: Float[Tensor, "n 3 h w"]
    labels: Int64[Tensor, " n"]
    correct: Bool[Tensor, " n"]
    seed: int


def measure_robustness(
    run: Run,
    stored: Stored,
    dataset: MemmapDataset,
    *,
    epsilons: list[float],
    effort: Effort,
    count: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Attack images spread over a split and write RUN/results/robustness.json after each attack.

    The first attacks get all correctly classified images, the last two only those that resist the first. The remaining
    accuracy is an upper bound: a stronger attack may fool more. The same call resumes an interrupted measurement.

    Args:
        epsilons: in pixel units; 0 gives the clean accuracy.
        count: number of images.

    Returns:
        The content of `results/robustness.json`.
    """
    if not epsilons:
        raise LabError("--epsilons is empty; expected some, such as 4/255")
    rows = spread_rows(len(dataset), count)
    subject = _make_subject(stored, dataset, rows, seed)
    path, folder = run.results / "robustness.json", run.results / "robustness"
    result = _resume(path, _header(run, stored, dataset, effort=effort, count=len(rows), seed=seed))
    result["clean"] = _share(int(subject.correct.sum()), len(rows))
    partial: dict[str, Any] = result.pop("begun", {})
    for epsilon in sorted(set(epsilons)):
        name = name_epsilon(epsilon)
        if any(entry["name"] == name for entry in result["epsilons"]):
            continue
        entry = partial if partial.get("name") == name else {"epsilon": epsilon, "name": name, "attacks": {}}
        for _ in _attack_all(subject, methods(effort), entry):
            write_json(path, {**result, "begun": entry})
        result["epsilons"].append(entry)
    result["epsilons"].sort(key=lambda entry: entry["epsilon"])
    _add_worst_case(result["epsilons"], subject.correct)
    checked = subject.correct.nonzero()[:MAX_CHECKED, 0]
    images, labels = subject.images[checked], subject.labels[checked]
    result["checked"] = len(checked)
    result["warnings"] = [asdict(sign) for sign in find_signs(subject.model, images, labels, result["epsilons"])]
    write_json(path, result)
    if len(checked):
        images, labels, threat = images[:SHEET_IMAGES], labels[:SHEET_IMAGES], Linf(max(epsilons), quantize=True)
        adversarial = PGD()(subject.model, images, labels, threat=threat).images
        samples = make_samples(subject.model, images, adversarial, threat.epsilon)
        draw_samples(samples, stored.categories, folder / "samples.png")
    draw_robustness(result, folder / "robustness.png")
    return result


def _make_subject(stored: Stored, dataset: MemmapDataset, rows: list[int], seed: int) -> Subject:
    images, labels = round_to_levels(load_images(dataset, rows, stored.size)), dataset.labels[torch.tensor(rows)]
    model = prepare_for_inference(stored.model)
    with torch.no_grad():
        correct = torch.cat([model(part) for part in images.split(BATCH_SIZE)]).argmax(dim=1) == labels
    return Subject(model, images, labels, correct, seed)


def _header(
    run: Run, stored: Stored, dataset: MemmapDataset, *, effort: Effort, count: int, seed: int
) -> dict[str, Any]:
    return {
        **stamp(run.best),
        "version": version("scenelab"),
        "model": stored.arch,
        "split": dataset.split,
        "digest": dataset.digest,
        "images": count,
        "size": stored.size,
        "norm": Linf.name,
        "effort": asdict(effort),
        "seed": seed,
        "methods": {name: method.description for name, method in methods(effort).items()},
        "epsilons": [],
    }


def _resume(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Take over earlier attacks with the same weights, images and effort."""
    earlier = read_json(path) if path.exists() else {}
    same = ("weights", "split", "digest", "images", "size", "effort", "seed", "methods", "version")
    if all(earlier.get(name) == result[name] for name in same):
        result |= {name: earlier[name] for name in ("epsilons", "begun") if name in earlier}
    return result


def _attack_all(subject: Subject, methods: dict[str, Method], entry: dict[str, Any]) -> Iterator[None]:
    """Run the missing attacks of one ε, yield after each, and add the accuracy under all of them."""
    robust, attacks = subject.correct.clone(), entry["attacks"]
    for name, method in methods.items() if entry["epsilon"] else ():
        if name not in attacks:
            rows = torch.nonzero(robust if name in LEFTOVER else subject.correct)[:, 0]
            attacks[name] = _attack(subject, rows, name, method, entry["epsilon"])
            yield
        robust[attacks[name]["fooled"]] = False
    entry["alone"] = _share(int(robust.sum()), len(robust))


def _attack(subject: Subject, rows: Tensor, name: str, method: Method, epsilon: float) -> dict[str, Any]:
    """Attack some of the images; report which are fooled, and how many still are once saved as PNG."""
    start = time.perf_counter()
    with progress(f"{name}, ε = {name_epsilon(epsilon)}", len(rows)) as advance:
        result = method.attack(
            subject.model,
            subject.images[rows],
            subject.labels[rows],
            threat=Linf(epsilon, quantize=method.quantize),
            seed=subject.seed,
            batch_size=BATCH_SIZE,
            on_progress=advance,
        )
    fooled = rows[result.success].tolist()
    return {
        "given": len(rows),
        "fooled": fooled,
        "left": _share(len(rows) - len(fooled), len(subject.images)),
        "png": _fooled_from_png(subject.model, result.images[result.success], subject.labels[fooled]),
        "largest": result.norms.max().item() if len(rows) else 0.0,
        "seconds": time.perf_counter() - start,
    }


def _fooled_from_png(model: Classifier, images: Float[Tensor, "n 3 h w"], labels: Int64[Tensor, " n"]) -> int:
    """Count the images that fool the model after they are saved as PNG and read again."""
    fooled = 0
    for part, expected in zip(images.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True):
        if len(part):
            with torch.no_grad():
                predictions = model(torch.stack([through_png(image) for image in part])).argmax(dim=1)
            fooled += int((predictions != expected).sum())
    return fooled


def _add_worst_case(entries: list[dict[str, Any]], correct: Bool[Tensor, " n"]) -> None:
    """Add the worst case per ε; an image fooled within a smaller ball is fooled within a larger one."""
    robust = correct.clone()
    for entry in entries:
        for attack in entry["attacks"].values():
            robust[attack["fooled"]] = False
        entry["worst"] = _share(int(robust.sum()), len(correct))


def _share(part: int, whole: int) -> dict[str, Any]:
    return {"images": part, "of": whole, "accuracy": 100 * part / whole, "interval": list(wilson(part, whole))}


def find_signs(
    model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], entries: list[dict[str, Any]]
) -> list[MaskingSign]:
    """Return all signs of gradient masking.

    Args:
        images: correctly classified ones; without any only the entries are checked.
        entries: of the result, in ascending order of ε.
    """
    attacked = [entry for entry in entries if entry["attacks"]]
    signs: list[MaskingSign] = []
    if len(images):
        signs += check_outputs(model, images) + check_gradients(model, images, labels)
        signs += check_large(model, images, labels)
        if attacked:
            signs += check_steps(model, images, labels, epsilon=attacked[len(attacked) // 2]["epsilon"])
    epsilons, accuracies = (
        [entry["epsilon"] for entry in attacked],
        [entry["alone"]["accuracy"] for entry in attacked],
    )
    signs += check_monotone(epsilons, accuracies)
    for entry in attacked:
        fooled = len(entry["attacks"]["square"]["fooled"])
        signs += check_black_box(entry["name"], fooled=fooled, images=entry["alone"]["of"])
    return signs
