"""Argument types that several commands share, and tables of commands by name."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from tyro.conf import FlagCreatePairsOff, Positional, arg
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

Command = Callable[..., None]

Network = Annotated[
    Positional[Path | None],
    arg(
        metavar="[RUN]",
        help="run folder, or the name of a network that ships.",
        help_behavior_hint="(default: miniplaces, if it is installed)",
    ),
]
RunFolder = Annotated[Positional[Path], arg(metavar="RUN", help="run folder.")]
Images = Annotated[
    list[Path] | None, arg(metavar="IMAGE ...", help="image files to use instead of a split.", help_behavior_hint="")
]
DEFAULT_SPLIT = "(default: val; all images of another data folder without splits)"
Split = Annotated[
    Literal["val", "train", "test", "all"] | None,
    arg(help="split to take the images from.", help_behavior_hint=DEFAULT_SPLIT),
]
CACHE_DEFAULT = "(default: DATA/packed for MiniPlaces, else the user's cache folder)"
AnySplit = Annotated[Literal["val", "train", "test", "all", "holdout"] | None, arg(help_behavior_hint=DEFAULT_SPLIT)]
DataFolder = Annotated[
    Path | None,
    arg(metavar="DATA", help="data folder.", help_behavior_hint="(default: the one that the run was trained on)"),
]
TrainingData = Annotated[
    Path, arg(metavar="DATA", help="MiniPlaces folder, one sub-folder per class, or a CSV file of path and label.")
]
StudyFolder = Annotated[Path, arg(metavar="OUT", help="folder of the study.")]
Threads = Annotated[int | None, arg(metavar="N", help="CPU threads.", help_behavior_hint="(default: all cores)")]
Count = Annotated[int, arg(metavar="N")]
Pixels = Annotated[int, arg(metavar="PIXELS")]
Minutes = Annotated[float, arg(metavar="MINUTES")]
Seed = Annotated[int, arg(metavar="SEED")]
OptionalSeed = Annotated[
    int | None,
    arg(
        metavar="SEED",
        help="random seed of weights, order and augmentation.",
        help_behavior_hint="(default: the recipe's)",
    ),
]
Yes = Annotated[FlagCreatePairsOff[bool], arg(help="start without a question on a terminal.", help_behavior_hint="")]
Flag = Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")]
Json = Annotated[Flag, arg(help="print the result as JSON.", help_behavior_hint="")]


@dataclass(frozen=True)
class Commands:
    """Table of commands with a one-line summary: by section title and name, the command or a nested table."""

    summary: str
    sections: dict[str, "dict[str, Command | Commands]"]

    def __iter__(self) -> "Iterator[tuple[str, Command | Commands]]":
        for section in self.sections.values():
            yield from section.items()

    def help(self, name: str) -> str:
        """Return the help text for the command line `name`: usage, summary, and one line per command, by section."""
        lines = [f"usage: {name} COMMAND ...", "", self.summary]
        for title, section in self.sections.items():
            lines += ["", f"{title}:"]
            for command, entry in section.items():
                text = entry.summary if isinstance(entry, Commands) else entry.__doc__ or ""
                lines.append(f"  {command:<12}{text.partition(chr(10))[0]}")
        return "\n".join([*lines, "", f"'{name} COMMAND --help' shows the options of a command and an example."])


OPTIONAL = ConstructorRegistry()


@OPTIONAL.primitive_rule
def _parse_optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | UnsupportedTypeAnnotationError | None:
    """Return the parser of X for a type `X | None`, so that help omits None; return None for other types."""
    kinds = [kind for kind in get_args(info.type) if kind is not NoneType]
    if get_origin(info.type) not in (Union, UnionType) or len(kinds) != 1:
        return None
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kinds[0], info.markers))
    if isinstance(spec, UnsupportedTypeAnnotationError):
        return spec
    return dataclasses.replace(
        spec,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["None"] if value is None else spec.str_from_instance(value),
    )
