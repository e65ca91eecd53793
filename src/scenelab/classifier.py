"""Compute logits and input gradients of a classifier, and check images and class indices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scenelab.errors import LabError, printable

Images = Float[Tensor, "n c h w"]
Logits = Float[Tensor, "n k"]
Labels = Int64[Tensor, " n"]
Values = Float[Tensor, " n"]

Model = Callable[[Tensor], Tensor]
OnProgress = Callable[[int], object]
"""Callback that gets the number of images finished since its last call."""

BATCH_SIZE = 32
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def no_progress(count: int) -> None:
    """Do nothing: the default callback for the number of newly finished images."""


@contextmanager
def eval_mode(model: Model) -> Iterator[None]:
    """Set all modules of a model to eval mode and enable autograd inside the block; restore both afterwards.

    In eval mode an image's logits do not depend on the rest of the batch. Inference tensors among parameters and
    buffers are replaced by copies that autograd can use. A callable that is not an `nn.Module` is not changed.
    """
    modes = {module: module.training for module in model.modules()} if isinstance(model, nn.Module) else {}
    stores: list[dict[str, Any]] = [store for module in modes for store in (module._parameters, module._buffers)]
    originals = [(store, name, value) for store in stores for name, value in store.items() if _is_inference(value)]
    try:
        for module in modes:
            module.training = False
        with torch.inference_mode(False), torch.enable_grad():
            copies = {value: _copy(value) for _, _, value in originals}
            for store, name, value in originals:
                store[name] = copies[value]
            yield
    finally:
        for store, name, value in originals:
            store[name] = value
        for module, mode in modes.items():
            module.training = mode


def _is_inference(value: Tensor | None) -> bool:
    return value is not None and value.is_inference()


def _copy(value: Tensor) -> Tensor:
    with torch.no_grad():
        copy = value.clone()
    return nn.Parameter(copy, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else copy


def logits_of(model: Model, images: Images) -> Logits:
    """Return the model's N×K logits for a copy of `images`, so that an in-place first layer cannot change them."""
    try:
        logits = model(images.clone())
    except RuntimeError as error:
        if "nference tensor" not in str(error):
            raise
        fix = "make it outside of torch.inference_mode(), or pass the nn.Module itself"
        raise LabError(f"the model has tensors made in inference mode, which have no gradient; {fix}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images) or not logits.shape[1]:
        raise LabError(f"model must return logits N×K for {len(images)} images, got {shape_or_type(logits)}")
    if logits.dtype not in FLOATS:
        raise LabError(f"model must return logits of a floating type, got {logits.dtype}; expected 16 to 64 bits")
    _check_dense("logits", logits)
    return logits.clone() if logits.is_inference() else logits


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


def resolve_targets(model: Model, images: Images, targets: Any, *, batch_size: int = BATCH_SIZE) -> Labels:
    """Return a copy of `targets`, or the top-1 predictions if None; raise a LabError for invalid images or targets."""
    check_images(images)
    if targets is None and len(images):
        return batched_logits(model, images, batch_size).argmax(dim=1)
    return to_classes([] if targets is None else targets, images)


def to_classes(values: Any, images: Images, *, name: str = "targets") -> Labels:
    """Return one class index per image, int64, from a tensor, list or array of integers; raise LabError otherwise."""
    if np.ma.is_masked(values):
        raise LabError(f"{name} have masked values; leave these images out")
    if isinstance(values, Tensor):
        _check_dense(name, values)
    try:
        indices = values if isinstance(values, Tensor) else _from_array(np.array(values))
    except (TypeError, ValueError, OverflowError):
        indices = None
    is_integer = indices is not None and not (
        indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool
    )
    if indices is None or indices.shape != images.shape[:1] or not (is_integer or indices.numel() == 0):
        got = type(values).__name__ if indices is None else f"{tuple(indices.shape)} of {indices.dtype}"
        raise LabError(
            f"{name} must be {len(images)} class indices of type int64, one per image, got {got}; use torch.tensor([…])"
        )
    if indices.dtype == torch.uint64 and indices.numel() and max(indices.tolist()) >= 2**63:
        raise LabError(f"{name} have the value {max(indices.tolist())}; expected class indices of type int64")
    # A copy, because autograd cannot save a tensor made in inference mode.
    return indices.to(images.device, torch.int64, copy=True)


def _from_array(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))


def check_images(images: Tensor) -> None:
    """Raise a LabError unless `images` is a floating-point tensor of shape N×C×H×W of finite values."""
    if not isinstance(images, Tensor) or images.is_nested or images.ndim != 4:
        raise LabError(f"images must be a tensor N×C×H×W, got {shape_or_type(images)}; for one image use images[None]")
    if images.dtype not in FLOATS:
        raise LabError(
            f"images must be of a floating type, got {images.dtype}; use images.float() / 255, or 16 to 64 bits"
        )
    _check_dense("images", images)
    if 0 in images.shape[1:]:
        raise LabError(f"images have shape {tuple(images.shape)}; expected at least one channel, row and column")
    finite = images.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        rows = (~finite).nonzero()[:, 0].tolist()
        raise LabError(
            f"images have NaN or infinite values at index {', '.join(map(str, rows[:5]))}{', …' if rows[5:] else ''} "
            f"({len(rows)} of {len(images)}); leave them out"
        )


def _check_dense(name: str, tensor: Tensor) -> None:
    """Raise a LabError for a sparse tensor and for one without data."""
    if tensor.layout != torch.strided or tensor.is_meta:
        got = "a tensor without data (device meta)" if tensor.is_meta else f"layout {tensor.layout}"
        raise LabError(
            f"{name} must be a dense tensor, got {got}; use {name}.to_dense(), or make them on another device"
        )


def check_classes(logits: Logits, targets: Labels, *, name: str = "targets") -> None:
    """Raise a LabError unless all targets are in [0, K - 1], for logits of shape N×K.

    `name` is the name of the targets in the error message.
    """
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < logits.shape[1]:
        got = f"[{int(targets.min())}, {int(targets.max())}]"
        raise LabError(f"{name} are in {got}; expected classes of the model, 0 to {logits.shape[1] - 1}")


def check_count(name: str, value: int, *, minimum: int = 1) -> None:
    """Raise a LabError unless `value`, the value of argument `name`, is an integer of at least `minimum`."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < minimum:
        raise LabError(f"{name} is {printable(repr(value))}; expected an integer of at least {minimum}")


def shape_or_type(value: object) -> object:
    """Return the shape of a tensor, or the name of another value's type, for error messages."""
    return tuple(value.shape) if isinstance(value, Tensor) and not value.is_nested else type(value).__name__
