"""Schema of the values that a checkpoint stores besides the weights."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from torch import Tensor

from scenelab.errors import LabError
from scenelab.models.normalize import IMAGENET_MEAN, IMAGENET_STD
from scenelab.runs.calibration import Temperature
from scenelab.schema import Line, Model, describe

MAX_RESOLUTION = 4096  # pixels
MAX_NAME = 1000  # characters in the name of a category or weight
MAX_NESTING = 4
NESTS = "state_dict model_state_dict model net network module ema model_ema weights params".split()
"""Keys of dictionaries in which other programs store the weights."""


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("expected distinct names")
    return names


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if not all(name.isprintable() for name in tensors):
        raise ValueError("expected tensors with printable names")
    return tensors


def _number(value: Any) -> Any:
    """Convert a one-element tensor, such as the handout's `best_acc1`, to a number."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def _as_tuple(value: Any) -> Any:
    return tuple(value or ()) if isinstance(value, list | None) else value


Name = Annotated[str, Field(max_length=MAX_NAME)]
Categories = Annotated[tuple[Name, ...], AfterValidator(_distinct), BeforeValidator(_as_tuple)]
Tensors = Annotated[dict[Name, Tensor], AfterValidator(_plain_names)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Total = Annotated[int, Field(ge=0, le=2**80)]
Seconds = Annotated[float, Field(ge=0, le=1e15)]
Mean = Annotated[float, Field(ge=-1000, le=1000)]
Std = Annotated[float, Field(ge=1e-6, le=1e6)]
Kind = TypeVar("Kind", bound="Header")


class Header(Model):
    """Values in every scenelab checkpoint; of them, the handout's `main.py` stores only the first three."""

    state_dict: Tensors
    epoch: Annotated[int, Field(ge=0, le=10**9)] = 0
    model_arch: Line = ""
    categories: Categories = ()
    size: Annotated[int, Field(ge=16, le=MAX_RESOLUTION)] = 128
    mean: Annotated[tuple[Mean, Mean, Mean], BeforeValidator(_as_tuple)] = IMAGENET_MEAN
    std: Annotated[tuple[Std, Std, Std], BeforeValidator(_as_tuple)] = IMAGENET_STD
    temperature: Temperature = 1.0
    threshold: float | None = None


class MeterValues(Model):
    """Training statistics in a checkpoint: the fields of `EpochStatistics` and `RunStatistics`."""

    model_config = Model.model_config | {"extra": "forbid"}
    loss: Annotated[float, Field(ge=0, le=1e24)] = 0.0
    top1: Total = 0
    top5: Total = 0
    images: Total = 0
    seconds: Seconds = 0.0
    spent: Seconds = 0.0
    seen: Total = 0
    flops: Total = 0
    evaluating: Seconds = 0.0
    probing: Seconds = 0.0
    worse: Total = 0


class ResumableHeader(Header):
    """Header of a checkpoint that a run can resume from: also step, best accuracy, meters and moving average."""

    step: Count | None = None
    best_acc1: Annotated[float, BeforeValidator(_number)] = 0.0
    metrics_bytes: Count = 0
    meters: MeterValues = MeterValues()
    stopped: Line = ""
    is_complete: bool = False
    average: Tensors | None = None


def find_weights(values: Any, *, depth: int = MAX_NESTING) -> Any:
    """Return a checkpoint's values with the weights, which may be in nested dictionaries, moved to `state_dict`."""
    if not isinstance(values, dict) or depth == 0:
        return values
    if values and all(isinstance(value, Tensor) for value in values.values()):
        return {"state_dict": values}
    for key in NESTS:
        nested = find_weights(values.get(key), depth=depth - 1)
        if isinstance(nested, dict) and isinstance(nested.get("state_dict"), dict):
            inner = {name: value for name, value in nested.items() if name == "state_dict" or name not in values}
            return {**values, **inner}
    return values


def read_header(path: Path, values: dict[str, Any], kind: type[Kind]) -> Kind:
    """Return a checkpoint's values as a validated header of class `kind`; raise a LabError for an invalid value."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise LabError(f"checkpoint {path} is refused: {describe(error)}; use one written by scenelab") from None
