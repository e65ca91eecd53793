"""Compute logits and input gradients of a classifier, and check images and class indices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scenelab.errors import LabError

Images = Float[Tensor, "n c h w"]
Logits = Float[Tensor, "n k"]
Labels = Int64[Tensor, " n"]
Values = Float[Tensor, " n"]

Model = Callable[[Tensor], Tensor]
OnProgress = Callable[[int], object]
"""Callback that gets the number of images finished since its last call."""

BATCH_SIZE = 32


def no_progress(count: int) -> None:
    """Do nothing: the default callback for the number of newly finished images."""


@contextmanager
def eval_mode(model: Model) -> Iterator[None]:
    """Set all modules of a model to eval mode and enable autograd inside the block; restore both afterwards.

    In eval mode an image's logits do not depend on the rest of the batch. A callable that is not an `nn.Module`
    is not changed.
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


def logits_of(model: Model, images: Images) -> Logits:
    """Return the model's N×K logits for a copy of `images`, so that in-place layers do not change `images`."""
    logits = model(images.clone())
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        raise LabError(f"model must return logits N×K for {len(images)} images, got {_shape_or_type(logits)}")
    return logits


def batched_logits(model: Model, images: Images, batch_size: int) -> Logits:
    """Return the N×K logits of all images, computed in batches of `batch_size` without an autograd graph."""
    with torch.no_grad():
        return torch.cat([logits_of(model, part) for part in images.split(batch_size)])


def value_and_grad(model: Model, images: Images, value_fn: Callable[[Tensor], Tensor]) -> tuple[Logits, Tensor, Images]:
    """Return logits, values `value_fn(logits)`, and the gradient of the values' sum with respect to the images.

    The three tensors are detached. Call this function inside `eval_mode(model)`.
    """
    with torch.enable_grad():
        leaf = (images.clone() if images.is_inference() else images.detach()).requires_grad_()
        logits = logits_of(model, leaf)
        values = value_fn(logits)
        total = values.sum()
        grads = torch.autograd.grad(total, leaf, allow_unused=True)[0] if total.requires_grad else None
    if grads is None:
        raise LabError("the model's logits do not depend on its images by operations that have a gradient")
    return logits.detach(), values.detach(), grads


def resolve_targets(
    model: Model, images: Images, targets: Labels | None, *, batch_size: int = BATCH_SIZE, name: str = "targets"
) -> Labels:
    """Return a copy of `targets`, or the top-1 predictions if None; raise a LabError for invalid images or targets.

    `name` is the name of the targets in the error message.
    """
    check_images(images)
    if targets is None:
        return batched_logits(model, images, batch_size).argmax(dim=1)
    if not isinstance(targets, Tensor) or targets.shape != images.shape[:1] or targets.dtype != torch.int64:
        got = f"{tuple(targets.shape)} of {targets.dtype}" if isinstance(targets, Tensor) else type(targets).__name__
        raise LabError(
            f"{name} must be {len(images)} class indices of type int64, one per image, got {got}; use torch.tensor([…])"
        )
    return targets.to(images.device, copy=True)  # autograd cannot save a tensor created in inference mode


def check_images(images: Tensor) -> None:
    """Raise a LabError unless `images` is a floating-point tensor of shape N×C×H×W."""
    if not isinstance(images, Tensor) or images.ndim != 4:
        raise LabError(f"images must be a tensor N×C×H×W, got {_shape_or_type(images)}; for one image use images[None]")
    if not images.is_floating_point():
        raise LabError(f"images must be of a floating type, got {images.dtype}; use images.float() / 255")


def check_classes(logits: Logits, targets: Labels, *, name: str = "targets") -> None:
    """Raise a LabError unless all targets are in [0, K - 1], for logits of shape N×K.

    `name` is the name of the targets in the error message.
    """
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < logits.shape[1]:
        got = f"[{int(targets.min())}, {int(targets.max())}]"
        raise LabError(f"{name} are in {got}; expected classes of the model, 0 to {logits.shape[1] - 1}")


def check_count(name: str, value: int, *, minimum: int = 1) -> None:
    """Raise a LabError unless `value`, the value of argument `name`, is an integer of at least `minimum`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise LabError(f"{name} is {value!r}; expected an integer of at least {minimum}")


def _shape_or_type(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
