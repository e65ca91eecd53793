"""Rubric read from TOML: points per check, penalties, limits and manually graded parts."""

import os
import re
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from scenelab.course.grading.checks import CHECKS
from scenelab.course.grading.processes import usage
from scenelab.course.grading.sandbox import Limits
from scenelab.course.years import YEARS
from scenelab.errors import LabError
from scenelab.runtime import container_memory
from scenelab.schema import describe

RESERVE = 64 << 20  # bytes by which the grader still grows
TOLERANCE = 1e-6  # by which the sum of the points may differ from `points`

Points = Annotated[float, Field(ge=0, lt=1e6, strict=True)]
Percent = Annotated[float, Field(ge=0, le=100, strict=True)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Manual(_Table):
    """A manually graded part of the assignment."""

    name: str
    points: Points
    bonus: bool = False


class Penalties(_Table):
    """Penalties in percent of the rubric's points; the first `format_free` violated format rules cost nothing."""

    format_percent: Percent = 5.0
    format_free: int = Field(default=1, ge=0, le=100)
    late_percent: Percent = 5.0
    gpu_percent: Percent = 5.0


class Visibility(_Table):
    """Names of hidden checks, of which students see no reasons, and when Gradescope shows them."""

    hidden: list[str] = []
    gradescope: Literal["hidden", "after_due_date", "after_published"] = "hidden"


class Rubric(_Table):
    """A validated rubric; `points` is the sum over checks and manual parts, excluding bonus parts."""

    name: str
    points: Points = 0.0
    checks: dict[str, Points] = {}
    visibility: Visibility = Visibility()
    penalties: Penalties = Penalties()
    limits: Limits = Limits()
    manual: list[Manual] = []
    accepted: list[str] = []  # digests of submissions that need no more review
    text: str

    @property
    def hidden(self) -> frozenset[str]:
        """Names of the hidden checks."""
        return frozenset(self.visibility.hidden)

    @property
    def automatic(self) -> float:
        """Maximum points for all checks together."""
        return sum(self.checks.values())

    @field_validator("limits", mode="before")
    @classmethod
    def _read_limits(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if "memory_mib" in values:
            mebibytes = values.pop("memory_mib")
            if not isinstance(mebibytes, (int, float)):
                raise ValueError(f"memory_mib is {mebibytes!r}; expected a number")
            values["memory"] = int(mebibytes) << 20
        if unknown := set(values) - {each.name for each in fields(Limits)}:
            raise ValueError(f"unknown key {min(unknown)!r}")
        return values

    @model_validator(mode="after")
    def _check_names_and_sum(self) -> "Rubric":
        if unknown := [name for name in self.checks if name not in CHECKS]:
            raise ValueError(f"there is no check {unknown[0]!r}; the checks are {', '.join(CHECKS)}")
        if not self.hidden <= set(self.checks):
            raise ValueError(f"visibility.hidden lists {min(self.hidden - set(self.checks))!r}, which is not in checks")
        names = [part.name.casefold() for part in self.manual]
        if doubles := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two manual parts are called {doubles[0]!r}; their points could not be told apart")
        total = self.automatic + sum(part.points for part in self.manual if not part.bonus)
        if abs(total - self.points) > TOLERANCE:
            raise ValueError(f"checks and manual parts add up to {total:g} points, but points is {self.points:g}")
        return self


def default_text(year: int = YEARS[0]) -> str:
    """Return the text of a handout's rubric, in TOML."""
    text = (resources.files("scenelab.course.grading") / "rubric.toml").read_text("utf-8")
    if year == YEARS[0]:
        return text
    text = text.replace(f"handout of {YEARS[0]}", f"handout of {year}")
    text = re.sub(r"^# from (\d+): (.*)$", lambda mark: mark[2] if year >= int(mark[1]) else "", text, flags=re.M)
    return re.sub(r"^.*# until (\d+)\n", lambda mark: mark[0] if year <= int(mark[1]) else "", text, flags=re.M)


def read_rubric(path: Path | None = None, *, year: int = YEARS[0]) -> Rubric:
    """Read a rubric from a file, by default the handout's of a year; raise LabError if it is unreadable or invalid."""
    if path is None:
        return parse(default_text(year), "the default rubric")
    try:
        return parse(path.read_text("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"--rubric {path} cannot be read: {error}") from error


def fit_container(rubric: Rubric) -> Rubric:
    """Return the rubric with a memory limit that leaves room for the grader in this container, if it is in one."""
    available = container_memory()
    if available is None:
        return rubric
    memory = max(1, available - usage(os.getpid())[0] - RESERVE)
    return rubric.model_copy(update={"limits": replace(rubric.limits, memory=min(rubric.limits.memory, memory))})


def parse(text: str, where: str) -> Rubric:
    """Parse a rubric from TOML text; if it is invalid, raise LabError with `where` (file name) and the field."""
    try:
        return Rubric.model_validate({"name": where, **tomli.loads(text), "text": text})
    except tomli.TOMLDecodeError as error:
        raise LabError(f"{where} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":
            message = ": ".join(filter(None, [*map(str, first["loc"]), str(first.get("ctx", {}).get("error"))]))
        else:
            message = describe(error)
        raise LabError(f"{where}: {message}") from error
