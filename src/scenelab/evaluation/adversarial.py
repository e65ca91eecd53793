"""Adversarial examples of a run: lossless PNG files, a sheet of samples, and the model's predictions."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from scenelab.attacks import APGD, FGSM, PGD, Attack, AttackResult, Linf, Square, TargetedAPGD
from scenelab.attacks.attack import Targets
from scenelab.classifier import Model, OnProgress, no_progress
from scenelab.errors import LabError, printable
from scenelab.evaluation.figures import label, new_figure, show_image
from scenelab.evaluation.predict import BATCH_SIZE, top1
from scenelab.evaluation.results import Result, Value, stamp_result
from scenelab.io import atomic_write
from scenelab.models.inference import prepare_for_inference
from scenelab.progress import progress
from scenelab.runs.network import Stored
from scenelab.runs.run import Run
from scenelab.schema import FileName, Number
from scenelab.terminal import FALLBACK

MethodName = Literal["fgsm", "pgd", "apgd", "apgd-t", "square"]
LEVELS = 255
SHEET_IMAGES = 8
MAX_STEM = 200  # bytes; a file name has at most 255
QUERIES_PER_STEP = 25  # queries of Square per step of the other attacks
AMPLITUDE = 0.5  # distance from gray at which the largest change of an image is drawn


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """Attack method and settings from the command line."""

    method: MethodName
    epsilon: float  # L∞ radius in pixel units
    steps: int  # steps of PGD and Auto-PGD; Square makes 25 queries per step
    target: str | None = None  # a category, `least-likely` or `random`; None for an untargeted attack
    seed: int = 0

    @property
    def attack(self) -> Attack:
        """The attack of `method`, with its number of steps or queries."""
        attacks: dict[MethodName, Attack] = {
            "fgsm": FGSM(),
            "pgd": PGD(steps=self.steps),
            "apgd": APGD(steps=self.steps),
            "apgd-t": TargetedAPGD(steps=self.steps),
            "square": Square(queries=self.passes),
        }
        return attacks[self.method]

    @property
    def passes(self) -> int:
        """Number of gradient steps (1 for FGSM); for Square, number of queries per image."""
        return {"fgsm": 1, "square": QUERIES_PER_STEP * self.steps}.get(self.method, self.steps)

    def targets(self, categories: tuple[str, ...], count: int) -> Targets:
        """Return `count` target class indices, the rule `least-likely` or `random`, or None for an untargeted attack.

        Raises:
            LabError: the target is not a category, or the method takes no targets.
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


class Change(Value):
    """Predicted categories of a clean image (`before`) and its adversarial example (`after`).

    `confidence` is the probability of category `before`, `certainty` the probability of category `after`, in [0, 1].
    """

    before: str
    confidence: Number
    after: str
    certainty: Number


class AttackedImage(Change):
    """Entry of `attack.json`: image, PNG of the adversarial example, true category, success, L∞ norm of the change.

    `fooled_before`: the clean image was misclassified, or of or predicted as the target class: `fooled` is false.
    `undefined`: the model's logits are NaN.
    """

    image: FileName
    file: str
    label: str | None
    fooled: bool
    largest: Number
    fooled_before: bool = False
    undefined: bool = False


class AttackReport(Result):
    """Content of `results/attack/attack.json`."""

    method: MethodName
    epsilon: float
    steps: int
    target: str | None
    seed: int
    images: list[AttackedImage]


def attack_images(
    model: Model,
    images: Float[Tensor, "n 3 h w"],
    labels: Int64[Tensor, " n"] | None,
    categories: tuple[str, ...],
    settings: AttackSettings,
    *,
    on_progress: OnProgress = no_progress,
) -> AttackResult:
    """Attack images within an L∞ ball; return adversarial examples, their norms, and which ones succeeded.

    `images` must be multiples of 1/255, like the results. Without labels, the model's predictions serve as labels.
    """
    return settings.attack(
        model,
        images,
        labels,
        threat=Linf(settings.epsilon, quantize=True),
        targets=settings.targets(categories, len(images)),
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
) -> AttackReport:
    """Attack images and write PNG files, a sheet of samples and attack.json to RUN/results/attack.

    Images in [0, 1] are first rounded to multiples of 1/255. `names` are the images' file names. `labels` are class
    indices, by default the predictions.
    """
    model, folder, categories = prepare_for_inference(stored.model), run.results / "attack", stored.categories
    images = round_to_levels(images)
    classes = top1(model, images)[1] if labels is None else torch.tensor(labels)
    with progress(settings.method, len(images)) as advance:
        result = attack_images(model, images, classes, categories, settings, on_progress=advance)
    changes = predict_both(model, images, result.images, categories)
    for path in folder.glob("[0-9][0-9][0-9]-*.png"):
        path.unlink()  # written by an earlier attack
    entries = []
    for row, (name, change) in enumerate(zip(names, changes, strict=True)):
        path = folder / f"{row + 1:03d}-{_own_stem(name)}.png"
        with atomic_write(path) as file:
            file.write(encode_image(result.images[row]))
        category = None if labels is None else categories[labels[row]]
        outcome = {"fooled": bool(result.success[row]), "largest": result.norms[row].item()}
        outcome |= {name: bool(getattr(result, name)[row]) for name in ("fooled_before", "undefined")}
        entries.append(AttackedImage(image=name, file=path.name, label=category, **dict(change), **outcome))
    draw_samples(images, result.images, changes[:SHEET_IMAGES], settings.epsilon, folder / "attack.png")
    report = AttackReport(
        **stamp_result(run, stored.arch, stored.size),
        method=settings.method,
        epsilon=settings.epsilon,
        steps=settings.passes,
        target=settings.target,
        seed=settings.seed,
        images=entries,
    )
    report.write(folder / "attack.json")
    return report


def _own_stem(name: str) -> str:
    """Return the stem of a file name without bytes and characters that this system's file names cannot have."""
    stem, encoding = printable(Path(name).stem).replace("\N{REPLACEMENT CHARACTER}", "_"), sys.getfilesystemencoding()
    return stem.encode(encoding, FALLBACK)[:MAX_STEM].decode(encoding, "ignore")


def predict_both(model: Model, images: Tensor, adversarial: Tensor, categories: tuple[str, ...]) -> list[Change]:
    """Return the predicted category and probability for each image and its adversarial example."""
    columns = [column.tolist() for batch in (images, adversarial) for column in top1(model, batch)]
    return [
        Change(before=categories[before], confidence=confidence, after=categories[after], certainty=certainty)
        for confidence, before, certainty, after in zip(*columns, strict=True)
    ]


def draw_samples(images: Tensor, adversarial: Tensor, changes: list[Change], epsilon: float, path: Path) -> None:
    """Write a PNG with a row per item of `changes`: image, adversarial example, amplified difference, predictions."""
    size = (5.4, 1.95 * len(changes) + 0.3)
    with new_figure(path, len(changes), 3, size=size, images=True, squeeze=False) as (_, axes):
        for image, example, change, line in zip(images, adversarial, changes, axes, strict=False):
            largest = (example - image).abs().max().item()
            factor = AMPLITUDE / largest if largest else 1.0
            for axis, pixels in zip(line, (image, example, 0.5 + factor * (example - image)), strict=True):
                show_image(axis, pixels.permute(1, 2, 0).numpy().clip(0, 1))
            line[0].set_xlabel(f"{label(change.before)} {100 * change.confidence:.0f} %", fontsize=7)
            line[1].set_xlabel(f"{label(change.after)} {100 * change.certainty:.0f} %", fontsize=7)
            line[2].set_xlabel(f"largest change {255 * largest:.0f} levels, shown {factor:.0f}×", fontsize=7)
        titles = ("image", f"adversarial, ε = {name_epsilon(epsilon)}", "difference")
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=9)


def name_epsilon(epsilon: float) -> str:
    """Return ε as text: a fraction such as `4/255` for multiples of 1/255, otherwise a decimal number."""
    levels = epsilon * LEVELS
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{epsilon:g}"


def round_to_levels(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return a copy of images in [0, 1], rounded to multiples of 1/255."""
    return images.mul(LEVELS).round_().div_(LEVELS)


def encode_image(image: Float[Tensor, "3 h w"], kind: str = "PNG", **options: int) -> bytes:
    """Encode an image in [0, 1] as a file with 8 bits per channel, and return the bytes; `options` are Pillow's."""
    buffer = io.BytesIO()
    levels = image.mul(LEVELS).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(levels).save(buffer, kind, **options)
    return buffer.getvalue()


def through_file(image: Float[Tensor, "3 h w"], kind: str = "PNG", **options: int) -> Float[Tensor, "3 h w"]:
    """Encode an image in [0, 1] as `encode_image` does, and return the decoded image in [0, 1]."""
    with Image.open(io.BytesIO(encode_image(image, kind, **options))) as file:
        return torch.from_numpy(np.array(file)).permute(2, 0, 1).float().div_(LEVELS)
