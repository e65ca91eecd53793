"""Integrated gradients: mean gradient on the straight path from baseline to image (Sundararajan et al. 2017)."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from scenelab import classifier
from scenelab.attribution.attribution import Attribution, Batch, sum_dtype, target_logit
from scenelab.classifier import BATCH_SIZE, Images, Labels, Model, Values
from scenelab.errors import LabError


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(Attribution):
    """Integrated gradients (x - x₀) · ∫₀¹ ∇ logit(x₀ + t·(x - x₀)) dt by Gauss-Legendre quadrature, signed, N×C×H×W.

    Attributes:
        steps: number of gradients per image; the quadrature is exact for polynomials up to degree 2·steps - 1.
        baseline: x₀, a number or a tensor that broadcasts to the images; by default 0, black for images in [0, 1].
    """

    steps: int = 50
    baseline: Tensor | float = field(default=0.0, compare=False)

    one_by_one: ClassVar[bool] = True

    def __post_init__(self) -> None:
        classifier.check_count("steps", self.steps)

    def check(self, images: Images) -> None:
        """Raise LabError unless the baseline is finite and broadcasts to the images."""
        if not self._expand_baseline(images).isfinite().all():
            raise LabError("baseline has NaN or infinite values; expected pixel values")

    def attribute(self, batch: Batch) -> Images:
        """Return integrated gradients of one image along the straight path from the baseline."""
        image, start = batch.images[0].detach(), self._expand_baseline(batch.images, batch.rows)[0]
        nodes, weights = (torch.as_tensor(part) / 2 for part in np.polynomial.legendre.leggauss(self.steps))
        dtype = sum_dtype(image)
        points, weights = (nodes + 0.5).view(-1, 1, 1, 1).to(image), weights.to(image.device, dtype)
        total = torch.zeros_like(image, dtype=dtype)
        for part, shares in zip(points.split(batch.batch_size), weights.split(batch.batch_size), strict=True):
            grads = batch.grad(start + part * (image - start), target_logit)
            total += torch.einsum("s,schw->chw", shares, grads.to(dtype))
        return ((image - start) * total)[None].to(image.dtype)

    def completeness_gap(
        self, model: Model, images: Images, values: Images, targets: Labels | None = None, batch_size: int = BATCH_SIZE
    ) -> Values:
        """Return the error Σ `values` - (logit(x) - logit(x₀)) of the quadrature, per image (proposition 1).

        `values` are the integrated gradients of the images; `targets` are class indices, by default the predictions.
        """
        if not len(images):
            return images.new_empty(0)
        with classifier.eval_mode(model), torch.no_grad():
            targets = classifier.resolve_targets(model, images, targets, batch_size=batch_size)
            start = self._expand_baseline(images)
            start = start[:1] if start.stride(0) == 0 else start  # evaluate a shared baseline once
            first, last = (classifier.batched_logits(model, points, batch_size) for points in (start, images))
        return values.sum(dim=(1, 2, 3)) - (last - first).gather(1, targets[:, None])[:, 0]

    def _expand_baseline(self, images: Images, rows: slice = slice(None)) -> Images:
        value = self.baseline
        try:
            is_tensor = isinstance(value, Tensor)
            if (value.is_complex() or value.is_nested) if is_tensor else np.iscomplexobj(value):
                raise TypeError("complex or nested")
            baseline = torch.as_tensor(value, dtype=images.dtype, device=images.device).detach()
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            got = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else repr(value)[:60]
            raise LabError(f"baseline is {got}; expected a real number or a dense tensor of them") from error
        try:
            return (baseline[rows] if baseline.ndim == 4 and len(baseline) > 1 else baseline).expand_as(images)
        except RuntimeError as error:
            got, expected = tuple(baseline.shape), tuple(images.shape)
            raise LabError(f"baseline has shape {got}; expected one that broadcasts to {expected}") from error
