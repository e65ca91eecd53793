"""Grad-CAM: the maps of a layer, weighted by what they do for the class (Selvaraju et al. 2017)."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from scenelab.classifier import (
    BATCH,
    Advance,
    Model,
    ask,
    check_classes,
    check_count,
    choose_targets,
    evaluating,
    score,
    silent,
)
from scenelab.errors import LabError


def grad_cam(
    model: Model,
    images: Float[Tensor, "n c h w"],
    layer: nn.Module,
    targets: Int64[Tensor, " n"] | None = None,
    *,
    resize: bool = True,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Float[Tensor, "n 1 h w"]:
    """relu(Σₖ αₖ Aₖ), αₖ the mean over all places of ∂ score / ∂ Aₖ (equations 1 and 2).

    Args:
        model: the network, or any callable that calls the layer.
        layer: a module whose output is N×K×H'×W', usually the last convolution or what follows it.
        resize: enlarge the map bilinearly to the images' sides; else it is N×1×H'×W'.
        advance: called after each batch with its number of images.

    Raises:
        LabError: the layer is not called, or its output has no places; other arguments that do not fit.
    """
    check_count("batch_size", batch_size)
    if not isinstance(layer, nn.Module):
        raise LabError(f"layer must be a module of the model such as model.features[-1], got {type(layer).__name__}")
    with evaluating(model):
        targets = choose_targets(model, images, targets, batch_size=batch_size)
        found = []
        for part, chosen in zip(images.split(batch_size), targets.split(batch_size), strict=True):
            found.append(_cam(model, part, layer, chosen))
            advance(len(part))
    maps = torch.cat(found)
    if not len(maps):
        return images.new_empty(0, 1, *images.shape[2:])
    return F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False) if resize else maps


def _cam(model: Model, images: Tensor, layer: nn.Module, targets: Tensor) -> Tensor:
    """The graph begins at the layer: what comes before it needs no gradient. The network goes on with a copy, so that
    an activation in place behind the layer does not change what is kept.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, arguments: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise LabError(f"layer must put out N×K×H×W maps, got {got}; choose one before the pooling")
        torch.set_grad_enabled(True)  # until the end of the block that switched it off
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()

    with torch.no_grad():
        handle = layer.register_forward_hook(keep)
        try:
            scores = ask(model, images.detach())
        finally:
            handle.remove()
        if len(kept) != 1:
            raise LabError(f"layer is called {len(kept)} times when the model looks at images; choose one called once")
        check_classes(scores, targets)
        if not scores.requires_grad:
            raise LabError("the model's scores do not depend on this layer; choose another")
        slopes = torch.autograd.grad(score(scores, targets), kept[0], allow_unused=True)[0]
    if slopes is None:
        raise LabError("the model's scores do not depend on this layer; choose another")
    weights = slopes.mean(dim=(2, 3), keepdim=True)
    return (weights * kept[0].detach()).sum(dim=1, keepdim=True).relu()
