"""Exceptions with one-line messages for the user, and functions that format messages."""

import difflib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

MAX_LINE = 800  # characters per line of a message
HEAD, TAIL = 500, 250  # characters kept at both ends of a longer line
TYPOGRAPHY = (
    "\n\t\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{SOFT HYPHEN}\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
)
"""Unprintable characters that pages may have."""
REPLACEMENTS = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")


def printable(text: str, *, keep: str = "") -> str:
    """Return untrusted text with unprintable characters replaced by spaces and unpaired surrogates by U+FFFD.

    Python decodes the bytes of a file name that are not UTF-8 to such surrogates.

    Args:
        text: any text.
        keep: unprintable characters to keep, such as a line feed.
    """
    whole = text.translate(REPLACEMENTS)
    return "".join(letter if letter.isprintable() or letter in keep else " " for letter in whole)


def cut(names: Iterable[str], count: int = 5) -> str:
    """Return the first `count` names in a row, with an ellipsis if there are more."""
    first = list(names)
    return ", ".join([*first[:count], *(["…"] if len(first) > count else [])])


def suggest(word: str, choices: Iterable[str]) -> str:
    """Return ` (did you mean 'X'?)` for the choice most similar to `word`, or "" if no choice is similar."""
    similar = difflib.get_close_matches(word, list(choices), n=1)
    return f" (did you mean {similar[0]!r}?)" if similar else ""


def suggest_path(path: Path) -> str:
    """Return ` (did you mean 'NAME'?)` for a missing path with a similar neighbor, or "" without one."""
    with suppress(OSError):
        return suggest(path.name, [other.name for other in path.parent.iterdir()])
    return ""


def find_url(path: Path) -> str | None:
    """Return the URL that was given in place of a path, or None."""
    scheme = path.parts[0] if path.parts else ""
    return f"{scheme}//{path.relative_to(scheme)}" if scheme in ("http:", "https:") else None


class LabError(Exception):
    """Error that the user can fix.

    The message is one line that states the argument, its value and the fix. The command line prints it without a
    traceback and exits with status 1. A line of more than 800 characters is cut in the middle, because file names in
    untrusted archives may be very long.
    """

    def __init__(self, message: object) -> None:
        super().__init__("\n".join(_shorten(line) for line in str(message).split("\n")))


def _shorten(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[:HEAD]} … {line[-TAIL:]}"


class Interrupted(Exception):  # noqa: N818 - not an error
    """Exception for work that was stopped on request; its state is saved, so that it can resume."""


class Diverged(LabError):  # noqa: N818 - training failed, not the program
    """Error for diverged training: the loss is far above random guessing, or a value is not finite."""
