"""Gradients of noisy copies of the image: their mean (SmoothGrad) and variance (VarGrad)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.attribution.attribution import Attribution, Batch, ScoreFn, target_logit
from scenelab.classifier import check_count
from scenelab.errors import LabError


@dataclass(frozen=True, kw_only=True)
class SmoothGrad(Attribution):
    """Mean of the gradients at image + σ·noise, N×C×H×W (Smilkov et al. 2017).

    The noise is the same for all images and any batch size. Noisy images are not clamped, as in the paper.

    Attributes:
        samples: noisy copies per image.
        sigma: standard deviation of the noise in the images' units; the paper uses 10 to 20 % of their range.
        seed: seed of the noise; the caller's random state does not change.
    """

    samples: int = 50
    sigma: float = 0.1
    seed: int = 0
    score_fn: ScoreFn = target_logit

    one_by_one: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("samples", self.samples)
        if self.sigma < 0:
            raise LabError(f"sigma is {self.sigma}; expected at least 0, in the images' units")

    def attribute(self, batch: Batch) -> Tensor:
        """Return the mean."""
        return self._moments(batch)[0][None]

    def _moments(self, batch: Batch) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w"]]:
        """Return mean and variance in constant memory (Chan et al. 1983)."""
        image = batch.images[0]
        generator = torch.Generator(device=image.device).manual_seed(self.seed)
        mean, squares, seen = torch.zeros_like(image), torch.zeros_like(image), 0
        while seen < self.samples:
            count = min(batch.batch_size, self.samples - seen)
            noise = [  # one draw per sample: a single draw of all would depend on the batch size
                torch.randn(image.shape, generator=generator, dtype=image.dtype, device=image.device)
                for _ in range(count)
            ]
            grads = batch.grad(torch.stack(noise).mul_(self.sigma).add_(image.detach()), self.score_fn)
            offset = grads.mean(dim=0) - mean
            squares += grads.var(dim=0, correction=0) * count + offset.square() * (seen * count / (seen + count))
            mean += offset * (count / (seen + count))
            seen += count
        return mean, squares / self.samples


@dataclass(frozen=True, kw_only=True)
class VarGrad(SmoothGrad):
    """Variance of the same gradients, divided by the number of samples (Adebayo et al. 2018b)."""

    def attribute(self, batch: Batch) -> Tensor:
        """Return the variance."""
        return self._moments(batch)[1][None]
