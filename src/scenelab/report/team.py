"""Who did what, and what they add in their own words: a small TOML file.

title = "Scene recognition"
[[member]]
name = "Ada"
did = "convolution, the study of attacks"
[text]
abstract = "We …"       # Markdown
results = "…"           # put in front of the section of that key
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scenelab.errors import LabError
from scenelab.io import read_plain

LONGEST = 1 << 20  # bytes

EXAMPLE = 'title = "Scene recognition"\n[[member]]\nname = "Ada"\ndid = "convolution"'


@dataclass(frozen=True)
class Team:
    """What the file says: title, members with what they did, and texts by section."""

    title: str = "Scene recognition"
    members: tuple[tuple[str, str], ...] = ()
    texts: dict[str, str] = field(default_factory=dict)


def read_team(path: Path | None, sections: tuple[str, ...]) -> Team:
    """Read the file; without one there are no members.

    Args:
        sections: keys that [text] may have, besides `abstract`.

    Raises:
        LabError: it cannot be read, or says something that has no place.
    """
    if path is None:
        return Team()
    try:
        values = tomllib.loads(read_plain(path, max_bytes=LONGEST).decode())
    except RecursionError as error:
        raise LabError(f"--team {path} cannot be read: it is nested too deep") from error
    except ValueError as error:  # of tomllib, of numbers of thousands of digits, of what is no UTF-8
        raise LabError(f"--team {path} cannot be read: {error}") from error
    unknown = values.keys() - {"title", "member", "text"}
    if unknown:
        raise LabError(f"--team {path} has {min(unknown)!r}; expected title, [[member]] and [text], as in:\n{EXAMPLE}")
    texts = values.get("text", {})
    allowed = {"abstract", *sections}
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise LabError(f"--team {path}: [text] must hold strings")
    if texts.keys() - allowed:
        unknown, known = min(texts.keys() - allowed), ", ".join(sorted(allowed))
        raise LabError(f"--team {path}: [text] has {unknown!r}; the sections are {known}")
    title = values.get("title", Team.title)
    if not isinstance(title, str):
        raise LabError(f"--team {path}: title must be a string")
    members = values.get("member", [])
    if not isinstance(members, list):
        raise LabError(f"--team {path}: write [[member]] in double brackets, once for each")
    return Team(title, tuple(_member(path, entry) for entry in members), texts)


def _member(path: Path, entry: Any) -> tuple[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("name", "did")):
        raise LabError(f"--team {path}: each [[member]] needs a name and what they did, as in:\n{EXAMPLE}")
    return entry["name"], entry["did"]
