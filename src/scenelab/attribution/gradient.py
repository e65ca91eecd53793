"""The gradient of a class score with respect to the image (Simonyan et al. 2014)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from scenelab.attribution.attribution import Attribution, Batch, ScoreFn, target_logit


def max_abs(values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return the largest absolute value over the channels."""
    return values.abs().amax(dim=1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class Gradient(Attribution):
    """∂ score / ∂ image, signed, N×C×H×W.

    Attributes:
        score_fn: `target_logit`, `target_loss` (cross-entropy), or any function of logits and targets.
    """

    score_fn: ScoreFn = target_logit

    def attribute(self, batch: Batch) -> Tensor:
        """Return the gradients."""
        return batch.grad(batch.images, self.score_fn)


@dataclass(frozen=True, kw_only=True)
class Saliency(Gradient):
    """The gradient's largest absolute value over the channels, N×1×H×W (section 3.1)."""

    channels: ClassVar[int | None] = 1

    def attribute(self, batch: Batch) -> Tensor:
        """Return the reduced gradients."""
        return max_abs(super().attribute(batch))


@dataclass(frozen=True, kw_only=True)
class GradientTimesInput(Gradient):
    """Gradient times image, signed, N×C×H×W: for a linear model the contribution of each value to the score."""

    def attribute(self, batch: Batch) -> Tensor:
        """Return the products."""
        return batch.images.detach() * super().attribute(batch)
