"""Robustness of a run: several attacks per ε, accuracy in the worst case, and signs of gradient masking."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from scenelab.attacks import APGD, FGSM, PGD, Attack, Linf, Square, TargetedAPGD
from scenelab.classifier import Model
from scenelab.data.cache import MemmapDataset
from scenelab.errors import LabError
from scenelab.evaluation.adversarial import draw_samples, name_epsilon, predict_both, round_to_levels, through_file
from scenelab.evaluation.figures import LINE_STYLES, new_figure
from scenelab.evaluation.gradient_masking import check_black_box, check_model, check_monotone
from scenelab.evaluation.predict import BATCH_SIZE, load_images, spread_rows, top1
from scenelab.evaluation.results import share_of, stamp_result
from scenelab.evaluation.robustness_results import (
    LEFTOVER,
    Effort,
    EpsilonResult,
    MaskingSign,
    Outcome,
    RobustnessResult,
)
from scenelab.io import read_object
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.progress import progress
from scenelab.runs.network import Stored
from scenelab.runs.run import Run
from scenelab.schema import parse

MAX_CHECKED = 100  # maximum number of images in the check for gradient masking
SHEET_IMAGES = 6


THOROUGH = Effort(steps=100, targeted_steps=100, classes=9, queries=5000)
"""Compute budget of AutoAttack (Croce & Hein 2020), without FAB."""


class Method(NamedTuple):
    """An attack, its description, and whether its adversarial examples are rounded to multiples of 1/255."""

    attack: Attack
    description: str
    quantize: bool = False


def methods(effort: Effort) -> dict[str, Method]:
    """Return the attacks with the given compute budget by name, in the order in which they run."""
    steps, targeted_steps, classes = effort.steps, effort.targeted_steps, effort.classes
    targeted = f"Auto-PGD on the targeted DLR loss, {classes} classes, {targeted_steps} steps each"
    return {
        "fgsm": Method(FGSM(), "one step of ε"),
        "pgd": Method(PGD(steps=steps, random_start=True), f"PGD, {steps} steps from a random start"),
        "apgd-ce": Method(APGD(steps=steps), f"Auto-PGD on cross-entropy, {steps} steps"),
        "pgd-8bit": Method(PGD(steps=steps), f"PGD, {steps} steps, each image on whole levels of 8 bits", True),
        "apgd-t": Method(TargetedAPGD(steps=targeted_steps, classes=classes), targeted),
        "square": Method(Square(queries=effort.queries), f"Square, {effort.queries} queries and no gradient"),
    }


@dataclass(frozen=True)
class Subject:
    """Model under attack, images with pixel values k/255 in [0, 1], labels, and a mask of the correct predictions."""

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
) -> RobustnessResult:
    """Attack `count` evenly spaced images of a split at each ε; write results and figures to RUN/results.

    APGD-T and Square run only on images that resisted the earlier attacks, the others on all correctly classified ones.
    Accuracy under attack is an upper bound: stronger attacks may fool more images. To resume, repeat the call.
    Raise LabError if `epsilons` is empty.
    """
    if not epsilons:
        raise LabError("--epsilons is empty; expected some, such as 4/255")
    rows = spread_rows(len(dataset), count)
    images, labels = round_to_levels(load_images(dataset, rows, stored.size)), dataset.labels[torch.tensor(rows)]
    model, suite = prepare_for_inference(stored.model), methods(effort)
    confidences, predictions = top1(model, images)
    subject = Subject(model, images, labels, (predictions == labels) & ~confidences.isnan(), seed)
    path, folder = run.results / "robustness.json", run.results / "robustness"
    header = _header(run, stored, dataset, subject, effort)
    header = header.model_copy(update={"undefined": number} if (number := int(confidences.isnan().sum())) else {})
    attacks = _earlier_attacks(path, header)
    for epsilon in sorted(set(epsilons)):
        known = next((other for other in attacks if name_epsilon(other) == name_epsilon(epsilon)), epsilon)
        for _ in _attack_missing(subject, suite, known, attacks.setdefault(known, {})):
            _assemble(header, attacks, begun=known).write(path)
    result = _assemble(header, attacks)
    checked = subject.correct.nonzero()[:MAX_CHECKED, 0]
    images, labels = images[checked], labels[checked]
    signs = tuple(find_signs(model, images, labels, result.epsilons))
    result = result.model_copy(update={"checked": len(checked), "warnings": signs})
    result.write(path)
    if len(checked):
        images, labels, threat = images[:SHEET_IMAGES], labels[:SHEET_IMAGES], Linf(max(epsilons), quantize=True)
        adversarial = PGD()(model, images, labels, threat=threat).images
        changes = predict_both(model, images, adversarial, stored.categories)
        draw_samples(images, adversarial, changes, threat.epsilon, folder / "samples.png")
    draw_robustness(result, folder / "robustness.png")
    return result


def _header(run: Run, stored: Stored, dataset: MemmapDataset, subject: Subject, effort: Effort) -> RobustnessResult:
    return RobustnessResult(
        **stamp_result(run, stored.arch, stored.size),
        version=version("scenelab"),
        split=dataset.split,
        digest=dataset.digest,
        images=len(subject.images),
        norm=Linf.name,
        effort=effort,
        seed=subject.seed,
        methods={name: method.description for name, method in methods(effort).items()},
        epsilons=[],
        clean=share_of(int(subject.correct.sum()), len(subject.images)),
    )


def _earlier_attacks(path: Path, header: RobustnessResult) -> dict[float, dict[str, Outcome]]:
    """Return the outcomes in the file at `path` by ε and attack, or {} if version, model, images or settings differ."""
    earlier, new = read_object(path) if path.exists() else {}, header.to_json()
    same = "weights split digest images size effort seed methods version".split()
    if any(earlier.get(name) != new[name] for name in same):
        return {}
    stored = parse(RobustnessResult, earlier, f"{path}: ")
    return {entry.epsilon: dict(entry.attacks) for entry in (*stored.epsilons, stored.begun) if entry}


def _attack_missing(
    subject: Subject, suite: dict[str, Method], epsilon: float, outcomes: dict[str, Outcome]
) -> Iterator[None]:
    """Run the attacks of one ε that are missing in `outcomes`, add their outcomes, and yield after each attack."""
    robust = subject.correct.clone()
    for name, method in suite.items() if epsilon else ():
        if name not in outcomes:
            rows = torch.nonzero(robust if name in LEFTOVER else subject.correct)[:, 0]
            outcomes[name] = _attack(subject, rows, name, method, epsilon)
            yield
        robust[outcomes[name].fooled] = False


def _attack(subject: Subject, rows: Tensor, name: str, method: Method, epsilon: float) -> Outcome:
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
    saved = [through_file(image) for image in result.images[result.success]]
    return Outcome(
        given=len(rows),
        fooled=fooled,
        left=share_of(len(rows) - len(fooled), len(subject.images)),
        png=int((top1(subject.model, torch.stack(saved))[1] != subject.labels[fooled]).sum()) if fooled else 0,
        largest=result.norms.max().item() if len(rows) else 0.0,
        seconds=time.perf_counter() - start,
    )


def _assemble(
    header: RobustnessResult, attacks: dict[float, dict[str, Outcome]], begun: float | None = None
) -> RobustnessResult:
    """Return `header` with a result for each complete ε, and the incomplete ε `begun` in a separate field.

    An image that is fooled at one ε counts as fooled at every larger ε.
    """
    clean, entries, fooled = header.clean, [], set()
    update: dict[str, Any] = {"epsilons": entries}
    for epsilon, outcomes in sorted(attacks.items()):
        is_complete = not epsilon or len(outcomes) == len(header.methods)
        if is_complete or epsilon == begun:
            rows = {row for outcome in outcomes.values() for row in outcome.fooled}
            fooled = fooled | rows
            alone, worst = (share_of(clean.images - len(part), clean.of) for part in (rows, fooled))
            name = name_epsilon(epsilon)
            entry = EpsilonResult(epsilon=epsilon, name=name, attacks=outcomes, alone=alone, worst=worst)
            if is_complete:
                entries.append(entry)
            else:
                update["begun"] = entry
    return header.model_copy(update=update)


def find_signs(
    model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], entries: list[EpsilonResult]
) -> Iterator[MaskingSign]:
    """Yield signs of gradient masking in attack results (`entries`) and on correctly classified `images`."""
    attacked = [entry for entry in entries if entry.attacks]
    if len(images):
        middle = attacked[len(attacked) // 2].epsilon if attacked else None
        yield from check_model(model, images, labels, epsilon=middle)
    yield from check_monotone([(entry.epsilon, entry.alone.accuracy) for entry in attacked])
    for entry in attacked:
        last = entry.attacks["square"]
        yield from check_black_box(entry.name, fooled=len(last.fooled), given=last.given, images=entry.alone.of)


def draw_robustness(result: RobustnessResult, path: Path) -> None:
    """Draw accuracy against ε per attack (except APGD-T and Square) and in the worst case, as PNG and SVG."""
    entries = [entry for entry in result.epsilons if entry.attacks]
    levels = [0.0, *(255 * entry.epsilon for entry in entries)]
    worst = [result.clean, *(entry.worst for entry in entries)]
    names = [name for name in result.methods if name not in LEFTOVER]
    with new_figure(path, size=(7, 4.3)) as (_, axis):
        for name, style in zip(names, LINE_STYLES[1:], strict=False):
            heights = [result.clean.accuracy, *(entry.attacks[name].left.accuracy for entry in entries)]
            axis.plot(levels, heights, **{**style, "ms": 4, "lw": 1.2}, label=name)
        low, high = zip(*(share.interval for share in worst), strict=True)
        axis.fill_between(levels, low, high, color="0.6", alpha=0.35, lw=0, label="95 % of the worst case")
        heights = [share.accuracy for share in worst]
        axis.plot(levels, heights, "o-", color="black", ms=5, lw=1.8, label="worst case of all attacks")
        axis.set(xlabel="ε, levels of 255 (L∞)", ylim=(0, None), xlim=(0, None), xticks=levels)
        axis.set_ylabel(f"accuracy, % of {result.images} images ({result.split})")
        axis.legend(fontsize=8)
