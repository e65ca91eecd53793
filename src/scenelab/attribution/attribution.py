"""Base class of attribution methods, which checks arguments, selects targets, and splits batches."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scenelab import classifier
from scenelab.classifier import BATCH_SIZE, Images, Labels, Logits, Model, OnProgress, Values
from scenelab.errors import LabError

ScoreFn = Callable[[Tensor, Tensor], Tensor]
"""Function from N×K logits and N target classes to the score to attribute: N values, or their sum."""


def target_logit(logits: Logits, targets: Labels) -> Tensor:
    """Return the sum of the target classes' logits over the batch."""
    return logits.gather(1, targets[:, None]).sum()


def target_loss(logits: Logits, targets: Labels) -> Tensor:
    """Return the sum of the target classes' cross-entropies over the batch."""
    return nn.functional.cross_entropy(logits, targets, reduction="sum")


def sum_dtype(images: Tensor) -> torch.dtype:
    """Return the dtype of sums over variants of an image: float32 for 16-bit images, else the images' dtype."""
    return torch.promote_types(images.dtype, torch.float32)


def memory_format_of(images: Images) -> torch.memory_format:
    """Return `torch.channels_last` for images in this format, else `torch.contiguous_format`."""
    is_last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format


@dataclass(frozen=True)
class Batch:
    """Batch of images to explain; `rows` are the indices of these images in the input, as a slice."""

    model: Model
    images: Images
    targets: Labels
    rows: slice
    batch_size: int

    def grad(self, images: Images, score_fn: ScoreFn) -> Images:
        """Return the gradient of the score with respect to `images`, in the same shape.

        `images` are modified copies of the batch: one per image, or any number of copies of a single image.
        """
        targets = self.targets.expand(len(images))

        def score(logits: Tensor) -> Tensor:
            classifier.check_classes(logits, targets)
            scores = score_fn(logits, targets)
            if not isinstance(scores, Tensor) or scores.is_complex() or scores.shape not in ((), targets.shape):
                got = classifier.shape_or_type(scores)
                raise LabError(f"score_fn must return {len(targets)} real scores or their sum, as tensor, got {got}")
            return scores

        return classifier.value_and_grad(self.model, images, score)[2]

    def logit(self, images: Images) -> Values:
        """Return the logit of the target class per image, for modified copies of the batch as in `grad`."""
        targets, logits = self.targets.expand(len(images)), classifier.logits_of(self.model, images)
        classifier.check_classes(logits, targets)
        return logits.gather(1, targets[:, None])[:, 0]


@dataclass(frozen=True, kw_only=True)
class Attribution(ABC):
    """Base class of attribution methods: an immutable configuration, called with a model and images."""

    one_by_one: ClassVar[bool] = False
    """Whether `attribute` receives one image at a time, to run its variants in batches."""

    channels: ClassVar[int | None] = None
    """Number of channels of the result; None if it equals the number of channels of the images."""

    @abstractmethod
    def attribute(self, batch: Batch) -> Tensor:
        """Return the attributions of one non-empty batch, N×D×H×W; D is `channels` or, if None, C."""

    def check(self, images: Images) -> None:  # noqa: B027
        """Raise LabError if the method's settings do not fit the images."""

    def __call__(
        self,
        model: Model,
        images: Images,
        targets: Labels | None = None,
        *,
        batch_size: int = BATCH_SIZE,
        on_progress: OnProgress = classifier.no_progress,
    ) -> Float[Tensor, "n d h w"]:
        """Attribute each target class's score to the pixels; restore the model's training modes, even on errors.

        Args:
            model: any callable from N×C×H×W images to N×K logits.
            images: N×C×H×W, in the range that the model expects.
            targets: N class indices; by default, the model's predictions.
            batch_size: images per forward pass.
            on_progress: called with the number of images finished since the last call.
        """
        classifier.check_count("batch_size", batch_size)
        with classifier.eval_mode(model):
            targets = classifier.resolve_targets(model, images, targets, batch_size=batch_size)
            self.check(images)
            parts, count = [], 1 if self.one_by_one else batch_size
            for start in range(0, len(images), count):
                rows = slice(start, start + count)
                parts.append(self.attribute(Batch(model, images[rows], targets[rows], rows, batch_size)))
                on_progress(len(images[rows]))
        return torch.cat(parts) if parts else images.new_empty(0, self.channels or images.shape[1], *images.shape[2:])
