"""Adversarial examples of a run: PNG files that hold them exactly, a sheet, and the model's predictions."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from scenelab.attacks import APGD, FGSM, PGD, Attack, AttackResult, Linf, Square, TargetedAPGD
from scenelab.attacks.attack import Targets
from scenelab.classifier import Model, OnProgress, no_progress
from scenelab.errors import LabError
from scenelab.evaluation.robustness_plots import Sample, draw_samples
from scenelab.io import atomic_write, write_json
from scenelab.models.inference import prepare_for_inference
from scenelab.progress import progress
from scenelab.runs.network import Stored
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run

MethodName = Literal["fgsm", "pgd", "apgd", "apgd-t", "square"]
LEVELS = 255
BATCH_SIZE = 50
SHEET_IMAGES = 8
QUERIES_PER_STEP = 25  # of Square, for a step of the others


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """An attack by name.

    Attributes:
        epsilon: L∞ radius in pixel units.
        steps: of PGD and Auto-PGD; Square makes 25 queries for each.
        target: a category, `least-likely` or `random`, for FGSM and PGD; None moves away from the labels.
    """

    method: MethodName
    epsilon: float
    steps: int
    target: str | None = None
    seed: int = 0

    @property
    def attack(self) -> Attack:
        """The attack as a value."""
        attacks: dict[MethodName, Attack] = {
            "fgsm": FGSM(),
            "pgd": PGD(steps=self.steps),
            "apgd": APGD(steps=self.steps),
            "apgd-t": TargetedAPGD(steps=self.steps),
            "square": Square(queries=QUERIES_PER_STEP * self.steps),
        }
        return attacks[self.method]

    @property
    def passes(self) -> int:
        """Steps or, for Square, queries."""
        return {"fgsm": 1, "square": QUERIES_PER_STEP * self.steps}.get(self.method, self.steps)

    def targets(self, categories: tuple[str, ...], count: int) -> Targets:
        """Return the targets of `count` images.

        Raises:
            LabError: the target is not a category, or the method takes none.
        """
        if self.target is None:
            return None
        if not self.attack.takes_targets:
            raise LabError(f"--target works with fgsm and pgd, not with {self.method}")
        if self.target == "least-likely" or self.target == "random":
            return self.target
        if self.target not in categories:
            raise LabError(
                f"--target is {self.target!r}; expected a category such as {categories[0]}, least-likely or random"
            )
        return torch.full((count,), categories.index(self.target))


def attack_images(
    model: Model,
    images: Float[Tensor, "n 3 h w"],
    labels: Int64[Tensor, " n"] | None,
    categories: tuple[str, ...],
    settings: AttackSettings,
    *,
    on_progress: OnProgress = no_progress,
) -> AttackResult:
    """Attack images on 8-bit levels; the adversarial examples are on 8-bit levels too.

    Args:
        labels: true classes; the model's predictions by default.

    Raises:
        LabError: the target is not a category, or the method takes none.
    """
    targets = settings.targets(categories, len(images))
    return settings.attack(
        model,
        images,
        labels,
        threat=Linf(settings.epsilon, quantize=True),
        targets=targets,
        seed=settings.seed,
        batch_size=BATCH_SIZE,
        on_progress=on_progress,
    )


def write_adversarial(
    run: Run,
    stored: Stored,
    images: Float[Tensor, "n 3 h w"],
    names: list[str],
    labels: list[int] | None,
    settings: AttackSettings,
) -> dict[str, Any]:
    """Attack images, rounded to 8 bits first, and write PNG files, a sheet and attack.json to RUN/results/attack.

    Args:
        names: of the images; a file name is a number and the image's name.
        labels: true classes; None attacks away from the model's predictions.

    Returns:
        The content of `attack.json`.

    Raises:
        LabError: the target is not a category, or the method takes none.
    """
    model, folder, categories = prepare_for_inference(stored.model), run.results / "attack", stored.categories
    images = round_to_levels(images)
    classes = top1(model, images)[1] if labels is None else torch.tensor(labels)
    with progress(settings.method, len(images)) as advance:
        result = attack_images(model, images, classes, categories, settings, on_progress=advance)
    samples = make_samples(model, images, result.images, settings.epsilon)
    for path in folder.glob("[0-9][0-9][0-9]-*.png"):
        path.unlink()  # written by an earlier attack
    entries = []
    for row, (name, sample) in enumerate(zip(names, samples, strict=True)):
        path = folder / f"{row + 1:03d}-{Path(name).stem}.png"
        with atomic_write(path) as file:
            file.write(to_png(sample.adversarial))
        entries.append(
            {
                "image": name,
                "file": path.name,
                "label": None if labels is None else categories[labels[row]],
                "before": categories[sample.prediction],
                "confidence": sample.confidence,
                "after": categories[sample.adversarial_prediction],
                "certainty": sample.adversarial_confidence,
                "fooled": bool(result.success[row]),
                "largest": result.norms[row].item(),
            }
        )
    draw_samples(samples[:SHEET_IMAGES], categories, folder / "attack.png")
    content = {
        **stamp(run.best),
        "model": stored.arch,
        "method": settings.method,
        "epsilon": settings.epsilon,
        "steps": settings.passes,
        "target": settings.target,
        "seed": settings.seed,
        "size": stored.size,
        "images": entries,
    }
    write_json(folder / "attack.json", content)
    return content


def make_samples(model: Model, images: Tensor, adversarial: Tensor, epsilon: float) -> list[Sample]:
    """Return each image with its adversarial example and the model's predictions on both."""
    (confidences, predictions), (after_confidences, after) = top1(model, images), top1(model, adversarial)
    return [
        Sample(
            image=images[row],
            adversarial=adversarial[row],
            epsilon=name_epsilon(epsilon),
            prediction=int(predictions[row]),
            confidence=confidences[row].item(),
            adversarial_prediction=int(after[row]),
            adversarial_confidence=after_confidences[row].item(),
        )
        for row in range(len(images))
    ]


def top1(
    model: Model, images: Float[Tensor, "n 3 h w"], *, batch_size: int = BATCH_SIZE
) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"]]:
    """Return confidence and class of the model's predictions."""
    with torch.no_grad():
        best = torch.cat([model(part) for part in images.split(batch_size)]).softmax(dim=1).max(dim=1)
    return best.values, best.indices


def name_epsilon(epsilon: float) -> str:
    """Return `4/255` for whole levels, else the number."""
    levels = epsilon * LEVELS
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{epsilon:g}"


def round_to_levels(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return the images rounded to 8-bit levels."""
    return images.mul(LEVELS).round_().div_(LEVELS)


def to_png(image: Float[Tensor, "3 h w"]) -> bytes:
    """Return a PNG file of an image, rounded to 8-bit levels."""
    buffer = io.BytesIO()
    levels = image.mul(LEVELS).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def through_png(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """Return the image after it is written to a PNG file and read again."""
    with Image.open(io.BytesIO(to_png(image))) as file:
        return torch.from_numpy(np.array(file)).permute(2, 0, 1).float().div_(LEVELS)
