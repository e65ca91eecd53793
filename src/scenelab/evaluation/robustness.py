"""How robust is a run? Attacks of growing strength at several ε, the worst of them image by image, and whether the
model only hides its gradients; everything below RUN/results.
"""

import io
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor

from scenelab.attacks import Attacked, Linf, apgd, apgd_targeted, fgsm, pgd, square
from scenelab.classifier import Model
from scenelab.data.cache import Packed
from scenelab.errors import LabError
from scenelab.evaluation.gradient_masking import (
    Warned,
    check_answers,
    check_black_box,
    check_gradients,
    check_large,
    check_monotone,
    check_steps,
)
from scenelab.evaluation.metrics import wilson
from scenelab.evaluation.robustness_figures import Sample, draw_robustness, draw_samples
from scenelab.evaluation.saliency_tests import show_images, spread_rows
from scenelab.io import read_json, write_json
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.progress import progress
from scenelab.runs.network import Stored
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run

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
    """An attack, and whether it is given only what the ones before have left."""

    what: str
    run: Callable[..., Attacked]
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
        "pgd-8bit": Method(
            f"PGD, {effort.steps} steps, each image on whole levels of 8 bits",
            lambda *args, **options: pgd(*args, steps=effort.steps, eight_bit=True, **options),
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
            leftover=True,
        ),
    }  # fmt: skip


def measure_robustness(
    run: Run, stored: Stored, packed: Packed, *, epsilons: list[float], effort: Effort, count: int, seed: int = 0
) -> dict[str, Any]:
    """Attack images of a split, spread over it, at the model's size; the clean ones are on whole levels of 8 bits.

    The first attacks have all images that the model says right, the last two what still stands, so that what is left is
    an upper bound: a stronger attack may fool more. What is done is written after each attack, and the same call goes
    on from there.

    Args:
        epsilons: in pixel units, rising; 0 gives the clean accuracy.
        count: images.

    Returns:
        The content of `results/robustness.json`.
    """
    if not epsilons:
        raise LabError("--epsilons is empty; name some, such as 4/255")
    rows = spread_rows(len(packed), count)
    images, labels = as_levels(show_images(packed, rows, stored.size)), packed.labels[torch.tensor(rows)]
    model = prepare_for_inference(stored.model)
    with torch.no_grad():
        right = torch.cat([model(part) for part in images.split(BATCH)]).argmax(dim=1) == labels
    path, folder = run.results / "robustness.json", run.results / "robustness"
    result = _continue(path, _begin(run, stored, packed, effort=effort, count=len(rows), seed=seed))
    result["clean"] = _share(int(right.sum()), len(rows))
    begun: dict[str, Any] = result.pop("begun", {})
    for epsilon in sorted(set(epsilons)):
        if any(entry["name"] == name_epsilon(epsilon) for entry in result["epsilons"]):
            continue
        entry = begun if begun.get("name") == name_epsilon(epsilon) else _entry(epsilon)
        standing = right.clone()
        for name, method in methods(effort).items() if epsilon else ():
            if name not in entry["attacks"]:
                chosen = torch.nonzero(standing if method.leftover else right)[:, 0]
                entry["attacks"][name] = _attack(model, images, labels, chosen, method, entry, name=name, seed=seed)
                write_json(path, {**result, "begun": entry})
            standing[entry["attacks"][name]["fooled"]] = False
        entry["alone"] = _share(int(standing.sum()), len(rows))
        result["epsilons"].append(entry)
    result["epsilons"].sort(key=lambda entry: entry["epsilon"])
    _carry(result["epsilons"], right)
    few = right.nonzero()[:CHECKED, 0]
    result["checked"] = len(few)
    result["warnings"] = [asdict(sign) for sign in find_signs(model, images[few], labels[few], result["epsilons"])]
    write_json(path, result)
    if len(few):
        samples = _samples(model, images[few[:SHOWN]], labels[few[:SHOWN]], max(epsilons))
        draw_samples(samples, stored.categories, folder / "samples.png")
    draw_robustness(result, folder / "robustness.png")
    return result


def _carry(entries: list[dict[str, Any]], right: Bool[Tensor, " n"]) -> None:
    """The worst case at each ε: what was fooled within a smaller ball is fooled within a larger one as well."""
    standing = right.clone()
    for entry in entries:
        for attack in entry["attacks"].values():
            standing[attack["fooled"]] = False
        entry["worst"] = _share(int(standing.sum()), len(right))


def as_levels(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Rounded to the levels of 8 bits: what a file of these images would hold."""
    return images.mul(LEVELS).round_().div_(LEVELS)


def name_epsilon(epsilon: float) -> str:
    """4/255 where it is that, else the number."""
    levels = epsilon * LEVELS
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{epsilon:g}"


def _begin(run: Run, stored: Stored, packed: Packed, *, effort: Effort, count: int, seed: int) -> dict[str, Any]:
    return {
        **stamp(run.best),
        "version": version("scenelab"),
        "model": stored.arch,
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
    same = ("weights", "split", "digest", "images", "size", "effort", "seed", "methods", "version")
    if all(earlier.get(name) == result[name] for name in same):
        result |= {name: earlier[name] for name in ("epsilons", "begun") if name in earlier}
    return result


def _entry(epsilon: float) -> dict[str, Any]:
    return {"epsilon": epsilon, "name": name_epsilon(epsilon), "attacks": {}}


def _attack(
    model: Classifier, images: Tensor, labels: Tensor, chosen: Tensor, method: Method, entry: dict[str, Any], *,
    name: str, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Attack some of the images and say which of them are fooled, and how many still are once saved as PNG."""
    began = time.perf_counter()
    with progress(f"{name}, ε = {entry['name']}", len(chosen)) as advance:
        found = method.run(
            model, images[chosen], labels[chosen], ball=Linf(entry["epsilon"]), seed=seed, batch_size=BATCH,
            advance=advance,
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


def to_png(image: Float[Tensor, "3 h w"]) -> bytes:
    """A PNG file of an image, each value rounded to a level of 8 bits."""
    buffer = io.BytesIO()
    levels = image.mul(LEVELS).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def through_png(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """The image after it was written to a PNG file and read again."""
    with Image.open(io.BytesIO(to_png(image))) as file:
        return torch.from_numpy(np.array(file)).permute(2, 0, 1).float().div_(LEVELS)


def _share(part: int, whole: int) -> dict[str, Any]:
    low, high = wilson(part, whole)
    return {"images": part, "of": whole, "accuracy": 100 * part / whole, "interval": [low, high]}


def find_signs(
    model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], entries: list[dict[str, Any]]
) -> list[Warned]:
    """All signs that a model hides its gradients.

    Args:
        images: some that the model says right; without any only the entries are looked at.
        entries: of the report, in rising order of ε.
    """
    attacked = [entry for entry in entries if entry["attacks"]]
    found: list[Warned] = []
    if len(images):
        found += [*check_answers(model, images), *check_gradients(model, images, labels)]
        found += check_large(model, images, labels)
        if attacked:
            found += check_steps(model, images, labels, epsilon=attacked[len(attacked) // 2]["epsilon"])
    found += check_monotone(
        [entry["epsilon"] for entry in attacked], [entry["alone"]["accuracy"] for entry in attacked]
    )
    for entry in attacked:
        fooled = len(entry["attacks"]["square"]["fooled"])
        found += check_black_box(entry["name"], fooled=fooled, images=entry["alone"]["of"])
    return found


def _samples(model: Classifier, images: Tensor, labels: Tensor, epsilon: float) -> list[Sample]:
    """A few images, right when clean, with what PGD makes of them as files."""
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
