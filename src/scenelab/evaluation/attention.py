"""Attribution methods by name, each as one map of importance from 0 an image, and which images are worth a look."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scenelab.attribution import (
    grad_cam,
    gradient_times_input,
    integrated_gradients,
    occlusion,
    saliency,
    smooth_gradient,
)
from scenelab.attribution.gradient import strongest
from scenelab.classifier import Advance, silent
from scenelab.errors import LabError
from scenelab.models.normalize import Classifier

SAMPLES = 50
Maps = Float[Tensor, "n 1 h w"]


def _gradient(model: Classifier, images: Tensor, targets: Tensor, advance: Advance = silent) -> Tensor:
    return saliency(model, images, targets, advance=advance)


def _gradient_input(model: Classifier, images: Tensor, targets: Tensor, advance: Advance = silent) -> Tensor:
    return gradient_times_input(model, images, targets, advance=advance).sum(dim=1, keepdim=True).abs()


def _smooth(model: Classifier, images: Tensor, targets: Tensor, advance: Advance = silent) -> Tensor:
    return strongest(smooth_gradient(model, images, targets, samples=SAMPLES, advance=advance))


def _variance(model: Classifier, images: Tensor, targets: Tensor, advance: Advance = silent) -> Tensor:
    return strongest(smooth_gradient(model, images, targets, samples=SAMPLES, statistic="variance", advance=advance))


def _integrated(model: Classifier, images: Tensor, targets: Tensor, advance: Advance = silent) -> Tensor:
    return (
        integrated_gradients(model, images, targets, steps=SAMPLES, advance=advance)
        .values.sum(dim=1, keepdim=True)
        .abs()
    )


def _cam(model: Classifier, images: Tensor, targets: Tensor, advance: Advance = silent) -> Tensor:
    return grad_cam(model, images, last_maps(model), targets, advance=advance)


def _occlusion(model: Classifier, images: Tensor, targets: Tensor, advance: Advance = silent) -> Tensor:
    window = max(4, images.shape[-1] // 8)
    return occlusion(model, images, targets, window=window, stride=max(1, window // 2), advance=advance).clamp_min(0)


@dataclass(frozen=True)
class Method:
    """One method: `explain(model, images, targets, advance)` gives importance from 0; `what` says what it shows."""

    explain: Callable[..., Tensor]
    what: str


METHODS: dict[str, Method] = {
    "gradient": Method(_gradient, "how much the score changes with a pixel: |∂score/∂x|, the largest of the colours"),
    "gradient-input": Method(_gradient_input, "gradient times pixel, absolute"),
    "smooth": Method(_smooth, f"the gradient's mean over {SAMPLES} noisy copies (SmoothGrad)"),
    "variance": Method(_variance, f"the gradient's variance over {SAMPLES} noisy copies (VarGrad)"),
    "integrated": Method(_integrated, f"what a pixel adds to the score of a black image, {SAMPLES} steps, absolute"),
    "cam": Method(_cam, "the last layer's maps weighted by the class, what speaks for it (Grad-CAM)"),
    "occlusion": Method(_occlusion, "how far the score falls when a patch is grey, falls only"),
}
DEFAULT = ("gradient", "smooth", "integrated", "cam", "occlusion")


def last_maps(model: Classifier) -> nn.Module:
    """The last layer that has places: what goes into the global pooling.

    Raises:
        LabError: the network has none by the name `features`.
    """
    features = getattr(model.network, "features", None)
    if not isinstance(features, nn.Sequential):
        raise LabError(f"{type(model.network).__name__} has no 'features' to take Grad-CAM's maps from; leave cam out")
    return features[-1]


def has_maps(model: Classifier) -> bool:
    """Whether the network has layers from which Grad-CAM can take maps."""
    return isinstance(getattr(model.network, "features", None), nn.Sequential)


def check_methods(names: tuple[str, ...]) -> None:
    """Raise unless all names are methods.

    Raises:
        LabError: one is not.
    """
    for name in names:
        if name not in METHODS:
            raise LabError(f"--methods has {name!r}; the methods are {', '.join(METHODS)}")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Images chosen from a split for one gallery, by their number in it."""

    name: str
    title: str
    rows: tuple[int, ...]


def choose(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], *, count: int, classes: bool) -> list[Choice]:
    """The most confident right guesses, the most confident wrong ones, and with `classes` one image a class.

    Of each class that is shown the right guess it is surest of is taken, or where none is right its surest image.
    """
    confidence, guess = logits.softmax(dim=1).max(dim=1)
    right = guess == labels
    order = confidence.argsort(descending=True, stable=True)
    chosen = [
        Choice(name="right", title="right and confident", rows=tuple(order[right[order]][:count].tolist())),
        Choice(name="wrong", title="wrong and confident", rows=tuple(order[~right[order]][:count].tolist())),
    ]
    if classes:
        rows = []
        for label in labels.unique().tolist():
            members = order[labels[order] == label]
            correct = members[right[members]]
            rows.append(int((correct if len(correct) else members)[0]))
        chosen.append(Choice(name="classes", title="one image of each class", rows=tuple(rows)))
    return chosen


def spread(maps: Maps) -> Maps:
    """Maps divided by their own means: 1 is what an evenly spread map has, whatever a method's units are."""
    means = maps.mean(dim=(1, 2, 3), keepdim=True)
    return maps / torch.where(means > 0, means, torch.ones_like(means))


def scale(maps: Maps, *, percentile: float, shared: float | None = None) -> tuple[Maps, list[float]]:
    """Maps in [0, 1] and what 1 stands for in each: the percentile of the map's own values, or a shared limit.

    A map of zeros stays zeros.
    """
    values = maps.detach().flatten(1).double().cpu().numpy()  # torch's quantile has a limit of size
    limits = torch.from_numpy(np.percentile(values, percentile, axis=1).reshape(-1))
    peaks = maps.flatten(1).double().amax(dim=1)
    limits = torch.where(limits > 0, limits, peaks)  # mostly zeros: the percentile would be zero as well
    if shared is not None:
        limits = torch.full_like(limits, shared)
    safe = torch.where(limits > 0, limits, torch.ones_like(limits)).to(maps.dtype)
    return (maps / safe.view(-1, 1, 1, 1)).clamp(0, 1), limits.tolist()
