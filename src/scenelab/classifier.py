"""Asking a classifier: its scores for chosen targets, their gradient, and nothing changed behind its back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scenelab.errors import LabError

Model = Callable[[Tensor], Tensor]
Objective = Callable[[Tensor, Tensor], Tensor]
"""From N×K scores and N targets to what a gradient is wanted of: a term an image, or their sum."""

Advance = Callable[[int], object]
"""Called with how many more images are done: an attribution's progress."""

BATCH = 32


def silent(count: int) -> None:
    """Progress that nobody watches."""


def score(scores: Float[Tensor, "n k"], targets: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """The targets' scores, summed over the images."""
    return scores.gather(1, targets[:, None]).sum()


def loss(scores: Float[Tensor, "n k"], targets: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """The cross-entropy of the targets, summed over the images."""
    return nn.functional.cross_entropy(scores, targets, reduction="sum")


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Modules in eval mode and gradients on for the time of the block; both as before afterwards.

    In eval mode an image's scores depend on that image alone, normalisation does not learn from the images that are
    shown, and nothing is dropped out. A callable that is no module is taken as it is.
    """
    modes = {module: module.training for module in model.modules()} if isinstance(model, nn.Module) else {}
    try:
        for module in modes:
            module.training = False
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def check_images(images: Tensor) -> None:
    """Raise unless these are images: N×C×H×W of a floating type.

    Raises:
        LabError: they are not.
    """
    if not isinstance(images, Tensor) or images.ndim != 4:
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise LabError(f"images must be a tensor N×C×H×W, got {got}; one image is images[None]")
    if not images.is_floating_point():
        raise LabError(f"images must be of a floating type, got {images.dtype}; use images.float() / 255")


def ask(model: Model, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """The model's scores; it is given a copy, since a first layer in place would change what it is given.

    Raises:
        LabError: they are not N×K.
    """
    scores = model(images.clone())
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(images):
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise LabError(f"model must return scores N×K for {len(images)} images, got {got}")
    return scores


def choose_targets(
    model: Model, images: Float[Tensor, "n c h w"], targets: Int64[Tensor, " n"] | None, *, batch_size: int = BATCH,
    name: str = "targets",
) -> Int64[Tensor, " n"]:  # fmt: skip
    """The targets that are given, checked, or for each image the class that the model finds most likely.

    Raises:
        LabError: the images are none, or the targets are not one class an image.
    """
    check_images(images)
    if targets is None:
        with torch.no_grad():
            found = [ask(model, part).argmax(dim=1) for part in images.split(batch_size)]
        return torch.cat(found) if found else torch.empty(0, dtype=torch.int64, device=images.device)
    if not isinstance(targets, Tensor) or targets.shape != images.shape[:1] or targets.dtype != torch.int64:
        got = f"{tuple(targets.shape)} of {targets.dtype}" if isinstance(targets, Tensor) else type(targets).__name__
        raise LabError(
            f"{name} must be {len(images)} class numbers of type int64, one an image, got {got}; use torch.tensor([…])"
        )
    return targets.to(images.device, copy=True)  # a tensor of inference mode could not be saved for a gradient


def gradient_of(
    model: Model, images: Float[Tensor, "n c h w"], targets: Int64[Tensor, " n"], objective: Objective
) -> Float[Tensor, "n c h w"]:
    """The gradient of the objective with respect to the images, of one batch; call it under `evaluating`.

    Raises:
        LabError: a target is no class of the model, or the scores do not depend on the images.
    """
    with torch.enable_grad():
        leaf = (images.clone() if images.is_inference() else images.detach()).requires_grad_()
        scores = ask(model, leaf)
        check_classes(scores, targets)
        value = objective(scores, targets).sum()
        if not value.requires_grad:
            raise LabError("the model's scores do not depend on its images by operations that have a gradient")
        found = torch.autograd.grad(value, leaf, allow_unused=True)[0]
        if found is None:
            raise LabError("the model's scores do not depend on its images by operations that have a gradient")
        return found


def check_classes(scores: Float[Tensor, "n k"], targets: Int64[Tensor, " n"], *, name: str = "targets") -> None:
    """Raise unless every target is a column of the scores."""
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < scores.shape[1]:
        raise LabError(
            f"{name} lie in [{int(targets.min())}, {int(targets.max())}]; the model has classes 0 to "
            f"{scores.shape[1] - 1}"
        )


def check_count(name: str, value: int, *, least: int = 1) -> None:
    """Raise unless a count is a whole number of at least that."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise LabError(f"{name} is {value!r}; expected a whole number of at least {least}")
