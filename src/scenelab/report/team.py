"""Read team members, their contributions and their texts from a TOML file.

Example of the file:

title = "Scene recognition"
[[member]]
name = "Ada"
did = "convolution, the study of attacks"
[text]
abstract = "We …"       # Markdown
results = "…"           # precedes the section with that key
"""

from dataclasses import field
from pathlib import Path

import tomli

from scenelab.errors import LabError
from scenelab.io import read_plain
from scenelab.schema import config_class, parse

MAX_BYTES = 1 << 20
EXAMPLE = 'title = "Scene recognition"\n[[member]]\nname = "Ada"\ndid = "convolution"'


@config_class("member")
class Member:
    """Name and contribution (`did`) of a team member."""

    name: str
    did: str


@config_class()
class Team:
    """Content of the team file: title, members, and Markdown texts by section key."""

    title: str = ""
    member: tuple[Member, ...] = ()
    text: dict[str, str] = field(default_factory=dict)


def read_team(path: Path | None, sections: tuple[str, ...]) -> Team:
    """Return the validated content of the team file.

    Args:
        path: path of the TOML file; None returns a team without members.
        sections: keys allowed in [text], in addition to `abstract`.

    Raises:
        LabError: the file cannot be read, or a value is invalid.
    """
    if path is None:
        return Team()
    content = read_plain(path, max_bytes=MAX_BYTES)
    try:
        team = parse(Team, tomli.loads(content.decode()))
    except RecursionError as error:
        raise LabError(f"--team {path} cannot be read: it is nested too deep") from error
    except (TypeError, ValueError) as error:  # invalid TOML or UTF-8, a number with thousands of digits, a date
        raise LabError(f"--team {path} cannot be read: {error}") from error
    except LabError as error:
        raise LabError(f"--team {path}: {error}; the file looks like:\n{EXAMPLE}") from error
    if unknown := team.text.keys() - {"abstract", *sections}:
        known = ", ".join(sorted({"abstract", *sections}))
        raise LabError(f"--team {path}: [text] has {min(unknown)!r}; the sections are {known}")
    return team
