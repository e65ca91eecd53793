"""Frozen dataclasses of plain values: each field compared with its own annotation, and built from JSON by it."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar

from scenelab.errors import LabError

LONGEST_TEXT = 200
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a line of at most 200 letters"}
Made = TypeVar("Made")


def require_fields(config: Any, where: str = "", *, most: Mapping[str, float]) -> None:
    """Compare every field with its annotation: a text or a truth value is no number, nor is NaN or infinity.

    Args:
        where: what stands before a field's name in a message, `optimizer.`.
        most: the largest value of numbers by field; one that is not named there may have any.

    Raises:
        LabError: a field does not fit; the message names it.
    """
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        _require_kind(value, hint, f"{where}{name}")
        if name in most and value > most[name]:
            raise LabError(f"{where}{name} is {shown(value)}; expected at most {most[name]:,}")


def build(kind: type[Made], values: Any, where: str = "", *, required: tuple[str, ...] = ()) -> Made:
    """A dataclass from what `dataclasses.asdict` made of one, through JSON or not; what is missing has its default.

    Raises:
        LabError: a name is unknown, one of `required` or without a default is missing, a value does not fit.
    """
    if not isinstance(values, dict):
        raise LabError(f"{where.rstrip('.') or 'the config'} is {shown(values)}; expected values by name")
    hints = _hints(kind)
    needed = {*required, *(field.name for field in dataclasses.fields(kind) if _is_needed(field))}  # type: ignore[arg-type]
    for name in [*values, *needed]:
        if name not in hints or name not in values:
            what = "misses" if name in hints else "has the unknown key"
            raise LabError(f"the config does not fit this version of scenelab: it {what} {f'{where}{name}'[:80]!r}")
    made = {name: _made(value, hints[name], f"{where}{name}") for name, value in values.items()}
    for name, value in made.items():
        _require_kind(value, hints[name], f"{where}{name}")
    return kind(**made)


def _require_kind(value: Any, hint: Any, name: str) -> None:
    if not _fits(value, hint):
        raise LabError(f"{name} is {shown(value)}; expected {_words(hint)}")


def _is_needed(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _made(value: Any, hint: Any, name: str) -> Any:
    """JSON knows no tuples and no dataclasses."""
    if typing.get_origin(hint) is types.UnionType:
        return None if value is None else _made(value, typing.get_args(hint)[0], name)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, f"{name}.")
    return _rows(value) if typing.get_origin(hint) is tuple else value


def _rows(value: Any) -> Any:
    """A list as a tuple, with the lists in it; a tuple of a tuple is as deep as any annotation goes."""
    if not isinstance(value, list | tuple):
        return value
    return tuple(tuple(part) if isinstance(part, list) else part for part in value)


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return isinstance(value, str)  # which one is told by whoever knows what they mean
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return isinstance(value, tuple) and len(value) < 1000 and all(_fits(part, inner[0]) for part in value)
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        kinds = (int,) if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) < 2**64 and math.isfinite(value)
    if hint is str:
        return isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return " or ".join("none" if one is type(None) else _words(one) for one in inner)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin is tuple:
        return f"a list of {_words(inner[0])}" if inner[-1] is Ellipsis else f"{len(inner)} numbers"
    return WORDS.get(hint, "values by name")


def shown(value: Any) -> str:
    """A value in a few characters; of a container only the kind, whose content may have no end."""
    return repr(value)[:60] if type(value) in (int, float, str, bool, type(None)) else f"a {type(value).__name__}"
