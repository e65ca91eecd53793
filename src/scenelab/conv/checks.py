"""Checks of the arguments of a convolution."""

from typing import Any

import torch
from torch import Tensor

from scenelab.errors import LabError

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check(input: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> None:
    """Check all arguments of a convolution.

    Raises:
        LabError: An argument is invalid; the message names it, what is expected and what it is.
    """
    check_integers(1, stride=stride)
    check_integers(0, padding=padding)
    _check_dimensions("input", input, "N×C×H×W")
    if input.dtype not in DTYPES:
        names = ", ".join(map(str, DTYPES))
        raise LabError(f"conv2d: input must be one of {names}, got {input.dtype}; convert it with input.float()")
    _check_weight(weight, input)
    if bias is not None:
        _check_bias(bias, weight)
    kernel, (height, width) = weight.shape[-1], input.shape[2:]
    if kernel > min(height, width) + 2 * padding:
        raise LabError(
            f"conv2d: input must be at least as large as the {kernel}×{kernel} kernel after padding, got "
            f"{height}×{width} pixels and padding {padding}; increase padding or use a smaller kernel"
        )


def check_integers(minimum: int, **arguments: int) -> None:
    """Raise a LabError unless every argument is an int of at least `minimum`."""
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise LabError(f"conv2d: {name} must be an int of at least {minimum}, got {value!r}")


def check_undilated_ungrouped(dilation: int, groups: int) -> None:
    """Raise a LabError unless both are 1; they exist for the signature of `nn.Conv2d`."""
    for name, value in (("dilation", dilation), ("groups", groups)):
        if value != 1:
            raise LabError(f"conv2d: {name} must be 1, got {value!r}; torch.nn.Conv2d has {name}")


def _check_weight(weight: Tensor, input: Tensor) -> None:
    _check_dimensions("weight", weight, "Co×Ci×K×K")
    _, channels, rows, columns = shape = tuple(weight.shape)
    if rows != columns or rows < 1:
        raise LabError(f"conv2d: weight must have a square kernel (Co×Ci×K×K), got shape {shape}")
    _check_same_type("weight", weight, "input", input)
    if channels != input.shape[1]:
        raise LabError(
            f"conv2d: input must have {channels} channels for a weight of shape {shape}, got shape {tuple(input.shape)}"
        )


def _check_bias(bias: Tensor, weight: Tensor) -> None:
    shape = (len(weight),)
    if not isinstance(bias, Tensor) or bias.shape != shape:
        raise LabError(f"conv2d: bias must have shape {shape}, one value per output channel, got {_describe(bias)}")
    _check_same_type("bias", bias, "weight", weight)


def _check_dimensions(name: str, value: Any, shape: str) -> None:
    if not isinstance(value, Tensor) or value.ndim != 4:
        fix = f"; add the batch with {name}.unsqueeze(0)" if isinstance(value, Tensor) and value.ndim == 3 else ""
        raise LabError(f"conv2d: {name} must be a tensor of 4 dimensions ({shape}), got {_describe(value)}{fix}")


def _check_same_type(name: str, value: Tensor, other: str, reference: Tensor) -> None:
    for attribute in ("dtype", "device"):
        expected, actual = getattr(reference, attribute), getattr(value, attribute)
        if expected != actual:
            fix = f"convert it with {name}.to({other}.{attribute})"
            raise LabError(f"conv2d: {name} must have the {attribute} of {other}, {expected}, got {actual}; {fix}")


def _describe(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
