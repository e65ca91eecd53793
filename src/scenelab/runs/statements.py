"""What a checkpoint says of itself beside its weights, asked for by name, kind and range."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scenelab.errors import LabError
from scenelab.fields import shown

MOST_EPOCHS = 10**9
LONGEST_NAME = 1000  # characters of a category, a weight, a line


@dataclass(frozen=True)
class Statements:
    """The values of a checkpoint.

    Every method raises a LabError that names the value where it is of another kind or out of its range.
    """

    path: Path
    values: dict[str, Any]

    def whole(self, name: str, default: int, *, low: int = 0, high: int = 2**53) -> int:
        """A whole number."""
        value = self.values.get(name, default)
        self._require(type(value) is int and low <= value <= high, name, value, f"a whole number from {low} to {high}")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number; the handout's `best_acc1` is a tensor of one."""
        value = self.values.get(name, default)
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53
        self._require(fits, name, value, "a number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        """A string that can be shown."""
        value = self.values.get(name, default)
        fits = type(value) is str and len(value) <= LONGEST_NAME and value.isprintable()
        self._require(fits, name, value, f"a line of at most {LONGEST_NAME} characters")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of names, all different; none where it is missing."""
        value = self.values.get(name) or ()
        fits = isinstance(value, list | tuple) and all(
            type(part) is str and len(part) <= LONGEST_NAME for part in value
        )
        self._require(fits and len(set(value)) == len(value), name, value, "a list of different names")
        return tuple(value)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Tensors by name; none where they are missing."""
        value = self.values.get(name) or {}
        self._require(isinstance(value, dict), name, value, "tensors by name")
        for key, part in value.items():
            fits = type(key) is str and len(key) <= LONGEST_NAME and key.isprintable() and isinstance(part, Tensor)
            self._require(fits, f"{name}[{shown(key)}]", part, "a tensor with a plain name")
        return value

    def channels(self, name: str, default: tuple[float, ...], *, low: float, high: float) -> tuple[float, ...]:
        """Three numbers in a range, one a colour."""
        value = self.values.get(name, default)
        fits = isinstance(value, list | tuple) and len(value) == 3
        fits = fits and all(type(part) in (int, float) and low <= part <= high for part in value)
        self._require(fits, name, value, f"three numbers from {low:g} to {high:g}")
        return tuple(float(part) for part in value)

    def numbers(self, name: str, like: dict[str, Any]) -> dict[str, Any]:
        """Numbers by name, those of `like` and of its kinds; what is missing is taken from it."""
        value = self.values.get(name, {})
        fits = isinstance(value, dict) and value.keys() <= like.keys()
        fits = fits and all(_as(part, like[key]) for key, part in value.items())
        self._require(fits, name, value, f"numbers named {', '.join(like)}")
        return {**like, **value}

    def _require(self, ok: bool, name: str, value: object, expected: str) -> None:
        if not ok:
            raise LabError(
                f"checkpoint {self.path} is refused: its {name} is {shown(value)}, expected {expected}; use one "
                "written by scenelab"
            )


def _as(value: Any, like: float) -> bool:
    """Whether a value is a finite number from 0, and a whole one where `like` is."""
    kinds = (int,) if type(like) is int else (int, float)
    return type(value) in kinds and math.isfinite(value) and 0 <= value < 2**80
