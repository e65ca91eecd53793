"""Schemas of files as frozen, strict pydantic classes, and one-line messages for validation errors."""

import functools
import json
import math
import re
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import Self, dataclass_transform

from scenelab.errors import LabError
from scenelab.io import read_json, write_json

T = TypeVar("T")
ESCAPE = "\ufdd0"  # no character, by Unicode
HIDDEN = {0xDC80 + byte: f"{ESCAPE}{byte:02x}" for byte in range(128)}  # Python decodes invalid bytes to the former
HIDDEN[ord(ESCAPE)] = f"{ESCAPE}--"
REVEALED = {hidden: chr(code) for code, hidden in HIDDEN.items()}
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
WORDS = {
    "Input should be ": "",
    "a valid ": "a ",
    "a integer": "an integer",
    "a boolean": "true or false",
    "a array": "a list",
    "a dictionary": "an object",
    "Tuple should have": "a list of",
    "String should have": "a string of",
    " after validation": "",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "Value error, expected ": "",
}


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected a string of printable characters")
    return text


def _hide(value: Any) -> Any:
    """Replace surrogates, which pydantic rejects, by three other characters in all strings of a JSON value."""
    if isinstance(value, str):
        return value.translate(HIDDEN)
    if isinstance(value, dict):
        return {_hide(key): _hide(each) for key, each in value.items()}
    return [_hide(each) for each in value] if isinstance(value, list | tuple) else value


def _hide_once(value: Any, info: ValidationInfo) -> Any:
    return value if info.mode == "json" else _hide(value)  # `parse` has hidden those of JSON


def _reveal(text: str) -> str:
    return re.sub(f"{ESCAPE}..", lambda part: REVEALED.get(part[0], part[0]), text)


FILE_NAME = (BeforeValidator(_hide_once), AfterValidator(_reveal))
"""Validators of a string with a file name, which may have surrogates (undecodable bytes); pydantic has none."""
FileName = Annotated[str, FILE_NAME[0], FILE_NAME[1]]
Line = Annotated[str, Field(max_length=200), AfterValidator(_one_line)]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""Number that may be undefined: NaN in memory, null in a JSON file."""


class Model(BaseModel):
    """Base class of frozen, strict schemas of JSON files; unknown keys, as from later versions, are ignored."""

    model_config = ConfigDict(**{**STRICT, "extra": "ignore", "frozen": True, "protected_namespaces": ()})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and validate a JSON file; raise a LabError if it is missing or invalid."""
        return parse(cls, read_json(path), f"{path} is refused: ")

    def write(self, path: Path) -> None:
        """Write the explicitly set values to a JSON file, atomically."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the explicitly set values as JSON-compatible objects; defaults are omitted."""
        return self.model_dump(mode="json", exclude_unset=True)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field, Field))
def config_class(path: str = "") -> Callable[[type[T]], type[T]]:
    """Return a decorator that turns a class into a frozen, keyword-only dataclass with a validating constructor.

    The constructor raises a LabError for an invalid argument.

    Args:
        path: dotted path of the class in the full config, the prefix of field names in error messages.
    """

    def decorate(cls: type[T]) -> type[T]:
        result: Any = pydantic_dataclass(cls, frozen=True, kw_only=True, config=STRICT)
        init = result.__init__

        @functools.wraps(init)
        def __init__(self: Any, **values: Any) -> None:  # noqa: N807
            try:
                init(self, **values)
            except ValidationError as error:
                raise LabError(describe(error, path)) from None

        result.__init__ = __init__
        return result

    return decorate


def parse(kind: type[T], values: Any, where: str = "") -> T:
    """Return an instance of `kind` from JSON-compatible `values`, after validation.

    Raises:
        LabError: a key is unknown or missing, or a value is invalid; its message begins with `where`.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(_hide(values)))
    except ValidationError as error:
        raise LabError(where + describe(error)) from None


def describe(error: ValidationError, path: str = "") -> str:
    """Return one line on the first error: the field's path, prefixed with `path`, its value, and the expected value."""
    problem = error.errors(include_url=False)[0]
    for part in problem["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{format_value(part)[1:-1]}"
    path = path or "it"
    if problem["type"] == "missing":
        return f"{path} is missing"
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{path} is an unknown key"
    expected = problem["msg"]
    for theirs, ours in WORDS.items():
        expected = expected.replace(theirs, ours)
    return f"{path}: got {format_value(problem['input'])}; expected {expected[:100]}"


def format_value(value: Any) -> str:
    """Return the repr of a scalar or a short list of scalars, cut to 60 characters; of other values, only the type."""
    plain = (int, float, str, bool, type(None))
    if type(value) in plain or (
        type(value) in (list, tuple) and len(value) <= 4 and all(type(v) in plain for v in value)
    ):
        return repr(value)[:60]
    return f"a {type(value).__name__}"
