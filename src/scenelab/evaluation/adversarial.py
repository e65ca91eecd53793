"""Adversarial pictures of a run as PNG files that hold them exactly, a sheet of them, and what the model says."""

from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.attacks import Attacked, Linf, apgd, apgd_targeted, fgsm, pgd, square
from scenelab.classifier import Advance, Model, silent
from scenelab.errors import LabError
from scenelab.evaluation.robustness import BATCH, as_levels, name_epsilon, to_png
from scenelab.evaluation.robustness_figures import Sample, draw_samples
from scenelab.io import atomic_write, write_json
from scenelab.models.inference import prepare_for_inference
from scenelab.progress import progress
from scenelab.runs.network import Stored
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run

MethodName = Literal["fgsm", "pgd", "apgd", "apgd-t", "square"]
SHEET = 8  # images in the sheet
QUERIES = 25  # of Square for a step of the others


def write_adversarial(
    run: Run, stored: Stored, images: Float[Tensor, "n 3 h w"], names: list[str], labels: list[int] | None, *,
    method: MethodName, epsilon: float, steps: int, target: str | None, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Attack images, which are rounded to 8 bits first, and write what comes out below RUN/results/attack.

    Args:
        names: of the images; the files are called so, behind a number.
        labels: what they show; where that is not known, what the model says is to be left.
        steps: of PGD and Auto-PGD; a twenty-fifth of Square's queries.
        target: a category to move towards by PGD, `least-likely` or `random`; None moves away.

    Returns:
        The content of `attack.json`.

    Raises:
        LabError: the target is no category, or the method knows none.
    """
    model, folder = prepare_for_inference(stored.model), run.results / "attack"
    images = as_levels(images)
    with torch.no_grad():
        before = torch.cat([model(part) for part in images.split(BATCH)]).softmax(dim=1).max(dim=1)
    shown = before.indices if labels is None else torch.tensor(labels)
    with progress(method, len(images)) as advance:
        found = attack_images(
            model, images, shown, stored.categories, method=method, epsilon=epsilon, steps=steps, target=target,
            seed=seed, advance=advance,
        )  # fmt: skip
    with torch.no_grad():
        after = torch.cat([model(part) for part in found.images.split(BATCH)]).softmax(dim=1).max(dim=1)
    for path in folder.glob("[0-9][0-9][0-9]-*.png"):
        path.unlink()  # of an earlier attack
    entries, samples = [], []
    for row, name in enumerate(names):
        path = folder / f"{row + 1:03d}-{Path(name).stem}.png"
        with atomic_write(path) as file:
            file.write(to_png(found.images[row]))
        entries.append(
            {
                "image": name, "file": path.name,
                "label": None if labels is None else stored.categories[labels[row]],
                "before": stored.categories[int(before.indices[row])], "confidence": before.values[row].item(),
                "after": stored.categories[int(after.indices[row])], "certainty": after.values[row].item(),
                "fooled": bool(found.success[row]), "largest": found.norms[row].item(),
            }
        )  # fmt: skip
        samples.append(
            Sample(
                image=images[row], adversarial=found.images[row], epsilon=name_epsilon(epsilon),
                guess=int(before.indices[row]), confidence=before.values[row].item(),
                fooled=int(after.indices[row]), certainty=after.values[row].item(),
            )
        )  # fmt: skip
    draw_samples(samples[:SHEET], stored.categories, folder / "attack.png")
    result = {
        **stamp(run.best),
        "model": stored.arch, "method": method, "epsilon": epsilon, "steps": _steps(method, steps),
        "target": target, "seed": seed,
        "size": stored.size, "images": entries,
    }  # fmt: skip
    write_json(folder / "attack.json", result)
    return result


def attack_images(
    model: Model, images: Float[Tensor, "n 3 h w"], labels: Int64[Tensor, " n"] | None, categories: tuple[str, ...], *,
    method: MethodName, epsilon: float, steps: int, target: str | None, seed: int = 0, advance: Advance = silent,
) -> Attacked:  # fmt: skip
    """An attack by name; arguments as those of `write_adversarial`.

    Args:
        images: in [0, 1], at whole levels of 8 bits; what comes back is so too.
        labels: what is to be left; by default what the model says.

    Raises:
        LabError: the target is no category, or the method knows none.
    """
    towards = _targets(target, categories, len(images), method)
    options: dict[str, Any] = {
        "ball": Linf(epsilon), "eight_bit": True, "seed": seed, "batch_size": BATCH, "advance": advance,
    }  # fmt: skip
    if method == "fgsm":
        return fgsm(model, images, labels, targets=towards, **options)
    if method == "pgd":
        return pgd(model, images, labels, steps=steps, targets=towards, **options)
    if method == "apgd":
        return apgd(model, images, labels, steps=steps, **options)
    if method == "apgd-t":
        return apgd_targeted(model, images, labels, steps=steps, **options)
    return square(model, images, labels, queries=QUERIES * steps, **options)


def _steps(method: MethodName, steps: int) -> int:
    """Passes through the network that a method has: Square's are queries."""
    return {"fgsm": 1, "square": QUERIES * steps}.get(method, steps)


def _targets(
    target: str | None, categories: tuple[str, ...], count: int, method: MethodName
) -> Tensor | Literal["least-likely", "random"] | None:
    if target is None:
        return None
    if method not in ("fgsm", "pgd"):
        raise LabError(f"--target goes with fgsm and pgd, not with {method}")
    if target == "least-likely" or target == "random":
        return target
    if target not in categories:
        raise LabError(f"--target is {target!r}; expected a category such as {categories[0]}, least-likely or random")
    return torch.full((count,), categories.index(target))
