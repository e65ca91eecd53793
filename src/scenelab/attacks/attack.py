"""Base class of attacks, which checks arguments, selects targets, splits batches, and evaluates the results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from scenelab import classifier
from scenelab.attacks.gradient_ascent import AscentResult
from scenelab.attacks.objectives import Goal, least_likely, random_targets
from scenelab.attacks.threat import HALF, Threat
from scenelab.classifier import BATCH_SIZE, Images, Labels, Logits, Model, OnProgress, Values
from scenelab.errors import LabError

Indices = Sequence[int] | np.ndarray | Tensor
Targets = Indices | Literal["least-likely", "random"] | None


@dataclass(frozen=True)
class AttackResult:
    """Adversarial images and the model's predictions on them.

    `success` is true where the adversarial image reaches the attack's goal but the clean image does not,
    `fooled_before` where the clean image does or the label is the target, and `undefined` where either image has a NaN
    logit. `predictions` are class indices. `norms` are the norms of the perturbations under the threat model, in pixel
    units.
    """

    images: Images
    success: Bool[Tensor, " n"]
    predictions: Labels
    norms: Values
    fooled_before: Bool[Tensor, " n"]
    undefined: Bool[Tensor, " n"]


@dataclass(frozen=True)
class Batch:
    """Batch of images under attack; `rows` are the images' indices in the input.

    Random draws depend only on `rows` and `seed`, so they are the same for every batch size.
    """

    model: Model
    images: Images
    goal: Goal
    rows: Int64[Tensor, " n"]
    threat: Threat
    seed: int

    def select(self, rows: Tensor) -> "Batch":
        """Return the batch with the images at indices `rows` only."""
        return replace(self, images=self.images[rows], goal=self.goal.select(rows), rows=self.rows[rows])

    def clean_logits(self) -> Logits:
        """Return the logits of the clean images; raise LabError unless labels and targets are classes of the model."""
        with torch.no_grad():
            logits = classifier.logits_of(self.model, self.images)
        self.goal.check(logits)
        return logits

    def random_starts(self, restart: int) -> Images:
        """Return a random point per image within the ball and the bounds; the points differ between restarts."""
        draws = [
            self.threat.sample(image, generator_for((self.seed, restart, row), image.device))
            for image, row in zip(self.images, self.rows.tolist(), strict=True)
        ]
        return self.threat.project(self.images, self.images + torch.stack(draws))


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """Base class of attacks: an immutable configuration, called with a model and images."""

    takes_targets: ClassVar[bool] = False
    threats: ClassVar[type[Threat]] = Threat

    @abstractmethod
    def perturb(self, batch: Batch) -> Images:
        """Return the adversarial images of one non-empty batch, N×C×H×W."""

    @property
    def skip_fooled(self) -> bool:
        """Whether images that already fool the model are returned unchanged."""
        return True

    def __call__(
        self,
        model: Model,
        images: Images,
        labels: Indices | None = None,
        *,
        threat: Threat,
        targets: Targets = None,
        seed: int = 0,
        batch_size: int = BATCH_SIZE,
        on_progress: OnProgress = classifier.no_progress,
    ) -> AttackResult:
        """Return adversarial examples for the images; restore the model's training modes, also after an exception.

        Args:
            model: any callable from N×C×H×W images to N×K logits.
            images: N×C×H×W, finite, within the bounds of `threat`. For float16 or bfloat16, the attack computes in
                float32, and rounds points to the images' dtype, inside the ball, before each forward pass.
            labels: N true class indices; by default, the model's predictions.
            threat: threat model, such as `Linf(8 / 255)`.
            targets: N target class indices, `"least-likely"` or `"random"`; None for an untargeted attack. Only PGD and
                FGSM accept targets.
            seed: seed of all random draws; the draws for an image depend only on the seed and the image's index.
            batch_size: images per forward pass; changes the results by floating-point rounding at most.
            on_progress: called after each batch with the number of images in it.
        """
        classifier.check_count("batch_size", batch_size)
        classifier.check_count("seed", seed, minimum=0)
        batch_size, seed = int(batch_size), int(seed)  # also of NumPy
        if not isinstance(threat, self.threats):
            raise LabError(f"threat is {threat!r}; {type(self).__name__} needs {self.threats.__name__}")
        if targets is not None and not self.takes_targets:
            raise LabError(f"{type(self).__name__} takes no targets; use PGD or FGSM")
        classifier.check_images(images)
        dtype, images = images.dtype, images.detach().clone()
        with classifier.eval_mode(model):
            if dtype in HALF:
                threat, images, model = replace(threat, dtype=dtype), images.float(), _cast_model(model, dtype)
            threat.check(images)
            clean = _logits(model, images, batch_size)
            goal = _resolve_goal(images, clean, labels, targets, seed)
            goal.check(clean)
            fooled_before, parts = goal.is_fooled(clean), []
            if goal.targeted and goal.targets is not None:
                fooled_before |= goal.targets == goal.labels
            for rows in torch.arange(len(images), device=images.device).split(batch_size):
                batch = Batch(model, images[rows], goal.select(rows), rows, threat, seed)
                parts.append(self._perturb_unfooled(batch, fooled_before[rows]))
                on_progress(len(rows))
            adversarial = threat.inside(images, torch.cat(parts))
            logits = _logits(model, adversarial, batch_size)
            goal.check(logits)
            undefined = (clean.isnan() | logits.isnan()).any(dim=1)
            success = goal.is_fooled(logits) & ~fooled_before & ~undefined
            norms = threat.norm(adversarial - images) if len(images) else images.new_empty(0)
            predictions = logits.argmax(dim=1)
            return AttackResult(adversarial.to(dtype), success, predictions, norms, fooled_before, undefined)

    def _perturb_unfooled(self, batch: Batch, fooled_before: Tensor) -> Images:
        if not len(batch.images):
            return batch.images
        if not self.skip_fooled:
            return self.perturb(batch)
        left = torch.nonzero(~fooled_before)[:, 0]
        result = batch.images.clone()
        if len(left):
            result[left] = self.perturb(batch.select(left))
        return result


def with_restarts(batch: Batch, run_once: Callable[[Batch, int], AscentResult], restarts: int) -> Images:
    """Return the point with the largest loss over several restarts, per image, successful points first.

    Each restart attacks only images on which all restarts before it failed. `run_once` attacks a batch, given the batch
    and the index of the restart.
    """
    best = run_once(batch, 0)
    for restart in range(1, restarts):
        left = torch.nonzero(~best.fooled)[:, 0]
        if not len(left):
            break
        result = run_once(batch.select(left), restart)
        better = result.fooled | (result.values > best.values[left])
        for name, values in vars(result).items():
            getattr(best, name)[left[better]] = values[better]
    return best.points


def generator_for(seed: tuple[int, ...], device: torch.device) -> torch.Generator:
    """Return a random generator on `device`; different tuples of integers give independent random numbers."""
    return torch.Generator(device=device).manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))


def _cast_model(model: Model, dtype: torch.dtype) -> Model:
    """Return a function that casts images to `dtype`, calls the model, and casts the logits to float32."""

    def in_dtype(images: Tensor) -> Tensor:
        logits = model(images.to(dtype))
        return logits.float() if isinstance(logits, Tensor) else logits

    return in_dtype


def _logits(model: Model, images: Images, batch_size: int) -> Logits:
    """Return the N×K logits of the images; for no images, return an empty 0×2 tensor without calling the model."""
    return classifier.batched_logits(model, images, batch_size) if len(images) else images.new_empty(0, 2)


def _resolve_goal(images: Images, clean: Logits, labels: Any, targets: Any, seed: int) -> Goal:
    """Return the attack's goal after checking labels (by default the predictions) and targets (indices or a rule)."""
    if isinstance(targets, str) and targets not in ("least-likely", "random"):
        raise LabError(f"targets is {targets!r}; expected class indices, least-likely, random or None")
    labels = clean.argmax(dim=1) if labels is None else classifier.to_classes(labels, images, name="labels")
    if isinstance(targets, str):
        Goal(labels=labels).check(clean)
        is_random, num_classes = targets == "random", clean.shape[1]
        targets = random_targets(labels, num_classes, seed=seed) if is_random else least_likely(clean, labels)
    elif targets is not None:
        targets = classifier.to_classes(targets, images)
    return Goal(labels=labels, targets=targets, targeted=targets is not None)
