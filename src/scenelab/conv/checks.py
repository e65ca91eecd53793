"""Validation of the arguments of a convolution."""

import torch
from torch import Tensor

from scenelab.errors import LabError

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check(input: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> None:
    """Check the arguments of a convolution; raise LabError if one is invalid."""
    check_integers(1, stride=stride)
    check_integers(0, padding=padding)
    for name, value, layout in (("input", input, "N×C×H×W"), ("weight", weight, "Co×Ci×K×K")):
        if not isinstance(value, Tensor) or value.ndim != 4:
            fix = f"add the batch with {name}.unsqueeze(0)" if isinstance(value, Tensor) and value.ndim == 3 else ""
            raise _invalid(name, f"be a tensor of 4 dimensions ({layout})", _describe(value), fix)
        _check_dense(name, value)
    if input.dtype not in DTYPES:
        raise _invalid(
            "input", f"be one of {', '.join(map(str, DTYPES))}", input.dtype, "convert it with input.float()"
        )
    outputs, channels, kernel, columns = shape = tuple(weight.shape)
    if kernel != columns or kernel < 1:
        raise _invalid("weight", "have a square kernel (Co×Ci×K×K)", f"shape {shape}")
    _check_same_type("weight", weight, "input", input)
    if channels != input.shape[1]:
        raise _invalid("input", f"have {channels} channels for a weight of shape {shape}", _describe(input))
    if bias is not None:
        if not isinstance(bias, Tensor) or bias.ndim != 1 or bias.shape != (outputs,):
            raise _invalid("bias", f"have shape {(outputs,)}, one value per output channel", _describe(bias))
        _check_dense("bias", bias)
        _check_same_type("bias", bias, "weight", weight)
    height, width = input.shape[2:]
    if kernel > min(height, width) + 2 * padding:
        expected = f"be at least as large as the {kernel}×{kernel} kernel after padding"
        actual = f"{height}×{width} pixels and padding {padding}"
        raise _invalid("input", expected, actual, "increase padding or use a smaller kernel")


def check_integers(minimum: int, **arguments: int) -> None:
    """Check that each argument is an int ≥ `minimum`; raise LabError if not."""
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise _invalid(name, f"be an int of at least {minimum}", repr(value))


def check_undilated_ungrouped(dilation: int, groups: int) -> None:
    """Check that dilation and groups are 1, the only supported value; raise LabError if not."""
    for name, value in (("dilation", dilation), ("groups", groups)):
        if value != 1:
            raise LabError(f"conv2d: {name} must be 1, got {value!r}; torch.nn.Conv2d has {name}")


def _check_dense(name: str, value: Tensor) -> None:
    is_nested = value.is_nested
    if is_nested or value.layout != torch.strided:
        got, dense = ("nested", f"torch.stack({name}.unbind())") if is_nested else (value.layout, f"{name}.to_dense()")
        raise _invalid(name, "be a dense tensor (torch.strided)", got, f"convert it with {dense}")


def _check_same_type(name: str, value: Tensor, other: str, reference: Tensor) -> None:
    for attribute in ("dtype", "device"):
        expected, actual = getattr(reference, attribute), getattr(value, attribute)
        if expected != actual:
            fix = f"convert it with {name}.to({other}.{attribute})"
            raise _invalid(name, f"have the {attribute} of {other}, {expected}", actual, fix)


def _describe(value: object) -> str:
    if isinstance(value, Tensor) and not value.is_nested:
        return f"shape {tuple(value.shape)}"
    return type(value).__name__


def _invalid(name: str, expected: str, actual: object, fix: str = "") -> LabError:
    return LabError(f"conv2d: {name} must {expected}, got {actual}" + (f"; {fix}" if fix else ""))
