"""What a grade is made of: points of checks, penalties, parts for people; read from TOML."""

import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from scenelab.course.grading.checks import CHECKS
from scenelab.course.grading.sandbox import Limits
from scenelab.errors import LabError

KEYS = {"name", "points", "checks", "visibility", "penalties", "limits", "manual", "accepted"}
SUM = 1e-6  # points may differ by so much


@dataclass(frozen=True)
class Manual:
    """A part that people grade."""

    name: str
    points: float
    bonus: bool = False


@dataclass(frozen=True, kw_only=True)
class Penalties:
    """Percent of all points that are taken off."""

    format_percent: float = 5.0
    format_free: int = 1
    late_percent: float = 5.0
    gpu_percent: float = 5.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 100:
                raise LabError(f"penalties.{name} is {value}; give a number from 0 to 100")


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """All of it; `points` is what checks and parts for people come to, bonus aside."""

    name: str
    points: float
    checks: dict[str, float]
    hidden: frozenset[str] = frozenset()
    penalties: Penalties = field(default_factory=Penalties)
    limits: Limits = field(default_factory=Limits)
    manual: tuple[Manual, ...] = ()
    accepted: frozenset[str] = frozenset()
    text: str = ""

    @property
    def automatic(self) -> float:
        """Points of all checks."""
        return sum(self.checks.values())


def default_text() -> str:
    """The rubric for the handout, as TOML."""
    return (resources.files("scenelab.course.grading") / "rubric.toml").read_text("utf-8")


def read_rubric(path: Path | None = None) -> Rubric:
    """A rubric from a file, or the handout's.

    Raises:
        LabError: the file cannot be read, or says something that makes no sense.
    """
    if path is None:
        return parse(default_text(), "the default rubric")
    try:
        return parse(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"--rubric {path} cannot be read: {error}") from error


def parse(text: str, where: str) -> Rubric:
    """A rubric from TOML; `where` is what messages call it.

    Raises:
        LabError: it says something that makes no sense.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LabError(f"{where} is not TOML: {error}") from error
    unknown = set(values) - KEYS
    if unknown:
        raise LabError(f"{where} has the key {min(unknown)!r}; known are {', '.join(sorted(KEYS))}")
    checks = {name: _number(points, f"{where}: checks.{name}") for name, points in values.get("checks", {}).items()}
    for name in checks:
        if name not in CHECKS:
            raise LabError(f"{where} has a check {name!r}; there are {', '.join(CHECKS)}")
    hidden = frozenset(values.get("visibility", {}).get("hidden", []))
    if not hidden <= set(checks):
        raise LabError(f"{where} hides {min(hidden - set(checks))!r}, which is not among its checks")
    rubric = Rubric(
        name=str(values.get("name", where)), points=_number(values.get("points", 0.0), f"{where}: points"),
        checks=checks, hidden=hidden,
        accepted=frozenset(map(str, values.get("accepted", []))),
        penalties=_section(Penalties, values.get("penalties", {}), f"{where}: penalties"),
        limits=_limits(values.get("limits", {}), where), text=text,
        manual=tuple(_section(Manual, each, f"{where}: manual") for each in values.get("manual", [])),
    )  # fmt: skip
    total = rubric.automatic + sum(part.points for part in rubric.manual if not part.bonus)
    if abs(total - rubric.points) > SUM:
        raise LabError(f"{where}: checks and manual parts come to {total:g} points, points says {rubric.points:g}")
    return rubric


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
        raise LabError(f"{name} is {value!r}; give a number of points")
    return float(value)


def _section(kind: Any, values: Any, where: str) -> Any:
    try:
        return kind(**values)
    except TypeError as error:
        raise LabError(f"{where} cannot be understood: {error}") from error


def _limits(values: dict[str, Any], where: str) -> Limits:
    values = dict(values)
    if "memory_mib" in values:
        values["memory"] = int(_number(values.pop("memory_mib"), f"{where}: limits.memory_mib")) << 20
    return _section(Limits, values, f"{where}: limits")
