"""How robust is a run? Attacks of growing strength at several ε, the worst of them image by image, and whether the
model only hides its gradients; everything below RUN/results.
"""

import hashlib
import io
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from scenelab.attacks import Attacked, Linf, apgd, apgd_targeted, fgsm, pgd, square
from scenelab.data.packed import Packed
from scenelab.evaluation.accuracy import wilson
from scenelab.evaluation.evidence import show_images
from scenelab.evaluation.masking import (
    Warned,
    check_answers,
    check_black_box,
    check_gradients,
    check_large,
    check_monotone,
    check_steps,
)
from scenelab.evaluation.robustness_figures import Sample, draw_robustness, draw_samples
from scenelab.files import read_json, write_json
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.models.stored import Stored
from scenelab.progress import progress
from scenelab.runs import Run

LEVELS = 255
BATCH = 50
CHECKED = 100  # images on which signs of hidden gradients are looked for
SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard the attacks try.

    Attributes:
        steps: of PGD and of APGD-CE.
        targeted_steps: of APGD-T for each class.
        classes: that APGD-T tries.
        queries: of Square.
    """

    steps: int = 20
    targeted_steps: int = 20
    classes: int = 9
    queries: int = 500


THOROUGH = Effort(steps=100, targeted_steps=100, classes=9, queries=5000)
"""What AutoAttack has (Croce & Hein 2020), but for FAB."""


@dataclass(frozen=True)
class Method:
    """An attack, whether it follows gradients, and whether it is given only what the ones before have left."""

    what: str
    run: Callable[..., Attacked]
    gradients: bool = True
    leftover: bool = False


def methods(effort: Effort) -> dict[str, Method]:
    """The attacks in their order."""
    return {
        "fgsm": Method("one step of ε", lambda *args, **options: fgsm(*args, **options)),
        "pgd": Method(
            f"PGD, {effort.steps} steps from a random start",
            lambda *args, **options: pgd(*args, steps=effort.steps, random_start=True, **options),
        ),
        "apgd-ce": Method(
            f"Auto-PGD on cross-entropy, {effort.steps} steps",
            lambda *args, **options: apgd(*args, steps=effort.steps, **options),
        ),
        "apgd-t": Method(
            f"Auto-PGD on the targeted DLR loss, {effort.classes} classes, {effort.targeted_steps} steps each",
            lambda *args, **options: apgd_targeted(
                *args, steps=effort.targeted_steps, classes=effort.classes, **options
            ),
            leftover=True,
        ),
        "square": Method(
            f"Square, {effort.queries} queries and no gradient",
            lambda *args, **options: square(*args, queries=effort.queries, **options),
            gradients=False, leftover=True,
        ),
    }  # fmt: skip


def measure_robustness(
    run: Run, stored: Stored, packed: Packed, *, epsilons: list[float], effort: Effort, count: int, seed: int = 0
) -> dict[str, Any]:
    """Attack images of a split, spread over it, as 8-bit pictures at the model's size.

    The first three attacks have all images that the model says right, the others what still stands. What is done is
    written after each attack, and the same call goes on from there.

    Args:
        epsilons: in pixel units, rising; 0 gives the clean accuracy.
        count: images.

    Returns:
        The content of `results/robustness.json`.
    """
    rows = torch.linspace(0, len(packed) - 1, min(len(packed), count)).long().tolist()
    images, labels = as_levels(show_images(packed, rows, stored.size)), packed.labels[torch.tensor(rows)]
    model = prepare_for_inference(stored.model)
    with torch.no_grad():
        guesses = torch.cat([model(part) for part in images.split(BATCH)]).argmax(dim=1)
    right = guesses == labels
    path, folder = run.results / "robustness.json", run.results / "robustness"
    result = _continue(path, _begin(run, stored, packed, effort=effort, count=len(rows), seed=seed))
    result["clean"] = _share(int(right.sum()), len(rows))
    asked = [_entry(result, epsilon) for epsilon in sorted(set(epsilons))]
    for entry in asked:
        standing = right.clone()
        for name, method in methods(effort).items() if entry["epsilon"] else ():
            if name not in entry["attacks"]:
                chosen = torch.nonzero(standing if method.leftover else right)[:, 0]
                entry["attacks"][name] = _attack(model, images, labels, chosen, method, entry, name=name, seed=seed)
                write_json(path, result)
            standing[entry["attacks"][name]["fooled"]] = False
        entry["worst"] = _share(int(standing.sum()), len(rows))
    result["epsilons"].sort(key=lambda entry: entry["epsilon"])
    if right.any():
        result["warnings"] = [asdict(sign) for sign in _signs(model, images[right], labels[right], result)]
        samples = _samples(model, images[right][:SHOWN], labels[right][:SHOWN], asked[-1]["epsilon"])
        draw_samples(samples, stored.categories, folder / "samples.png")
    write_json(path, result)
    draw_robustness(result, folder / "robustness.png")
    return result


def as_levels(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Rounded to the levels of 8 bits: what a file of these images would hold."""
    return images.mul(LEVELS).round_().div_(LEVELS)


def name_epsilon(epsilon: float) -> str:
    """4/255 where it is that, else the number."""
    levels = epsilon * LEVELS
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{epsilon:g}"


def _begin(run: Run, stored: Stored, packed: Packed, *, effort: Effort, count: int, seed: int) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": stored.arch,
        "weights": hashlib.sha256(run.best.read_bytes()).hexdigest(),
        "split": packed.split,
        "digest": packed.digest,
        "images": count,
        "size": stored.size,
        "norm": "L∞",
        "effort": asdict(effort),
        "seed": seed,
        "methods": {name: method.what for name, method in methods(effort).items()},
        "epsilons": [],
    }


def _continue(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """What an earlier call attacked with the same weights, images and effort is taken over."""
    earlier = read_json(path) if path.exists() else {}
    same = ("weights", "split", "digest", "images", "size", "effort", "seed")
    if all(earlier.get(name) == result[name] for name in same):
        result["epsilons"] = earlier["epsilons"]
    return result


def _entry(result: dict[str, Any], epsilon: float) -> dict[str, Any]:
    """The part of the result for an ε, a new one where there is none."""
    for entry in result["epsilons"]:
        if abs(entry["epsilon"] - epsilon) < 1e-9:
            return entry
    result["epsilons"].append({"epsilon": epsilon, "name": name_epsilon(epsilon), "attacks": {}})
    return result["epsilons"][-1]


def _attack(
    model: Classifier, images: Tensor, labels: Tensor, chosen: Tensor, method: Method, entry: dict[str, Any], *,
    name: str, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Attack some of the images and say which of them are fooled, also by the pictures in a PNG file."""
    began = time.perf_counter()
    with progress(f"{name}, ε = {entry['name']}", len(chosen)) as advance:
        found = method.run(
            model, images[chosen], labels[chosen], ball=Linf(entry["epsilon"]), eight_bit=True, seed=seed,
            batch_size=BATCH, advance=advance,
        )  # fmt: skip
    fooled = chosen[found.success].tolist()
    return {
        "given": len(chosen),
        "fooled": fooled,
        "left": _share(len(chosen) - len(fooled), len(images)),
        "png": _fooled_from_files(model, found.images[found.success], labels[fooled]),
        "largest": found.norms.max().item() if len(chosen) else 0.0,
        "seconds": time.perf_counter() - began,
    }


def _fooled_from_files(model: Classifier, images: Float[Tensor, "n 3 h w"], labels: Int64[Tensor, " n"]) -> int:
    """How many fool the model once they have been through a PNG file."""
    fooled = 0
    for part, shown in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        if len(part):
            with torch.no_grad():
                guesses = model(torch.stack([through_png(image) for image in part])).argmax(dim=1)
            fooled += int((guesses != shown).sum())
    return fooled


def through_png(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """The image after it was written to a PNG file and read again."""
    buffer = io.BytesIO()
    levels = image.mul(LEVELS).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(levels).save(buffer, "PNG")
    with Image.open(buffer) as file:
        return torch.from_numpy(np.array(file)).permute(2, 0, 1).float().div_(LEVELS)


def _share(part: int, whole: int) -> dict[str, Any]:
    low, high = wilson(part, whole)
    return {"images": part, "accuracy": 100 * part / whole, "interval": [low, high]}


def _signs(model: Classifier, images: Tensor, labels: Tensor, result: dict[str, Any]) -> list[Warned]:
    """All signs of hidden gradients, on the images that the model says right."""
    few, named = images[:CHECKED], labels[:CHECKED]
    attacked = [entry for entry in result["epsilons"] if entry["attacks"]]
    found = [*check_answers(model, few), *check_gradients(model, few, named), *check_large(model, few, named)]
    if attacked:
        middle = attacked[len(attacked) // 2]["epsilon"]
        found += check_steps(model, few, named, epsilon=middle)
        found += check_monotone(
            [entry["epsilon"] for entry in attacked], [entry["worst"]["accuracy"] for entry in attacked]
        )
    for entry in attacked:
        square = entry["attacks"]["square"]
        found += check_black_box(square["given"], len(square["fooled"]))
    return found


def _samples(model: Classifier, images: Tensor, labels: Tensor, epsilon: float) -> list[Sample]:
    """A few images, right when clean, with what PGD makes of them."""
    found = pgd(model, images, labels, ball=Linf(epsilon), eight_bit=True)
    with torch.no_grad():
        before, after = (model(given).softmax(dim=1).max(dim=1) for given in (images, found.images))
    return [
        Sample(
            image=images[row], adversarial=found.images[row], epsilon=name_epsilon(epsilon),
            guess=int(before.indices[row]), confidence=before.values[row].item(),
            fooled=int(after.indices[row]), certainty=after.values[row].item(),
        )
        for row in range(len(images))
    ]  # fmt: skip
