"""Grad-CAM: feature maps of a layer, weighted by their mean gradients (Selvaraju et al. 2017)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scenelab.attribution.attribution import Attribution, Batch, target_logit
from scenelab.classifier import Model, check_classes, logits_of
from scenelab.errors import LabError


@dataclass(frozen=True)
class GradCAM(Attribution):
    """Grad-CAM: relu(Σₖ αₖ Aₖ), with αₖ the spatial mean of ∂ logit / ∂ Aₖ (equations 1 and 2), N×1×H×W.

    Attributes:
        layer: module with N×K×H'×W' output Aₖ; by default, `last_feature_maps(model)`.
        resize: upsample the maps bilinearly to the size of the images; if false, return N×1×H'×W'.
    """

    layer: nn.Module | None = None
    resize: bool = True

    channels: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        if self.layer is not None and not isinstance(self.layer, nn.Module):
            got = type(self.layer).__name__
            raise LabError(f"layer must be a module of the model such as model.features[-1], got {got}")

    def attribute(self, batch: Batch) -> Tensor:
        """Return non-negative single-channel maps; no gradient is computed for the layers before `layer`."""
        layer = last_feature_maps(batch.model) if self.layer is None else self.layer
        features: list[Tensor] = []

        def record(module: nn.Module, arguments: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor) or output.ndim != 4:
                got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise LabError(f"layer must output N×K×H×W maps, got {got}; choose one before the pooling")
            torch.set_grad_enabled(True)  # until the end of the no_grad block
            features.append(output.detach().requires_grad_())
            return features[-1].clone()  # a later in-place activation must not change the recorded maps

        with torch.no_grad():
            handle = layer.register_forward_hook(record)
            try:
                logits = logits_of(batch.model, batch.images.detach())
            finally:
                handle.remove()
            if len(features) != 1:
                raise LabError(f"layer is called {len(features)} times per forward pass; choose one called once")
            check_classes(logits, batch.targets)
            score = target_logit(logits, batch.targets)
            grads = torch.autograd.grad(score, features[0], allow_unused=True)[0] if score.requires_grad else None
        if grads is None:
            raise LabError("the model's logits do not depend on this layer; choose another")
        weights = grads.mean(dim=(2, 3), keepdim=True)
        maps = (weights * features[0].detach()).sum(dim=1, keepdim=True).relu()
        if not self.resize:
            return maps
        return F.interpolate(maps, batch.images.shape[2:], mode="bilinear", align_corners=False)


def has_feature_maps(model: Model) -> bool:
    """Return whether the model has an `nn.Sequential` named `features`, which `last_feature_maps` needs."""
    return isinstance(getattr(getattr(model, "network", model), "features", None), nn.Sequential)


def last_feature_maps(model: Model) -> nn.Module:
    """Return the last module of `model.features`, before the global pooling; raise LabError if it is missing."""
    network: Any = getattr(model, "network", model)
    if not has_feature_maps(model):
        raise LabError(f"{type(network).__name__} has no 'features' to take Grad-CAM's maps from; leave cam out")
    return network.features[-1]
