"""What a convolution takes, and the one-line errors for everything else."""

import torch
from torch import Tensor

from scenelab.errors import LabError

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check(input: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> None:
    """Raise unless a convolution of these is defined.

    Raises:
        LabError: names the argument, what it must be and what it got.
    """
    check_integers(1, stride=stride)
    check_integers(0, padding=padding)
    _check_input(input)
    _check_weight(weight, input)
    if bias is not None:
        _check_bias(bias, weight)
    _check_sides(input, weight, padding)


def check_integers(least: int, **arguments: int) -> None:
    """Raise unless every argument is an int of at least `least`."""
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise LabError(f"conv2d: {name} must be an int of at least {least}, got {value!r}")


def check_undilated_ungrouped(dilation: int, groups: int) -> None:
    """Raise unless both are 1: the arguments are there so that `nn.Conv2d`'s signature fits."""
    for name, value in (("dilation", dilation), ("groups", groups)):
        if value != 1:
            raise LabError(f"conv2d: {name} must be 1, got {value!r}; torch.nn.Conv2d has {name}")


def _check_input(input: Tensor) -> None:
    _check_tensor("input", input, "N×C×H×W")
    if input.dtype not in DTYPES:
        names = ", ".join(str(dtype) for dtype in DTYPES)
        raise LabError(f"conv2d: input must be one of {names}, got {input.dtype}; convert it with input.float()")


def _check_weight(weight: Tensor, input: Tensor) -> None:
    _check_tensor("weight", weight, "Co×Ci×K×K")
    _, channels, rows, columns = weight.shape
    if rows != columns or rows < 1:
        raise LabError(f"conv2d: weight must have a square kernel (Co×Ci×K×K), got shape {tuple(weight.shape)}")
    _check_kin("weight", weight, "input", input)
    if channels != input.shape[1]:
        raise LabError(
            f"conv2d: input must have {channels} channels for a weight of shape {tuple(weight.shape)}, "
            f"got shape {tuple(input.shape)}"
        )


def _check_bias(bias: Tensor, weight: Tensor) -> None:
    outputs = weight.shape[0]
    if not isinstance(bias, Tensor) or bias.shape != (outputs,):
        raise LabError(f"conv2d: bias must have shape ({outputs},), one for each output channel, got {_named(bias)}")
    _check_kin("bias", bias, "weight", weight)


def _check_sides(input: Tensor, weight: Tensor, padding: int) -> None:
    kernel, (height, width) = weight.shape[-1], input.shape[2:]
    if kernel > min(height, width) + 2 * padding:
        raise LabError(
            f"conv2d: weight's kernel of side {kernel} must fit into the padded input, got an input of "
            f"{height}×{width} pixels and padding {padding}; pad more or take a smaller kernel"
        )


def _check_tensor(name: str, value: object, shape: str) -> None:
    if not isinstance(value, Tensor) or value.ndim != 4:
        fix = f"; add the batch with {name}.unsqueeze(0)" if isinstance(value, Tensor) and value.ndim == 3 else ""
        raise LabError(f"conv2d: {name} must be a tensor of 4 dimensions ({shape}), got {_named(value)}{fix}")


def _check_kin(name: str, value: Tensor, other: str, reference: Tensor) -> None:
    for trait in ("dtype", "device"):
        expected, got = getattr(reference, trait), getattr(value, trait)
        if expected != got:
            raise LabError(
                f"conv2d: {name} must have the {trait} of {other}, {expected}, got {got}; "
                f"convert it with {name}.to({other}.{trait})"
            )


def _named(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
