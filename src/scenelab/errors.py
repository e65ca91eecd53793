"""The exceptions that a person sees as a single line."""

import difflib
from collections.abc import Iterable

MAX_LINE = 800  # characters of a message
HEAD, TAIL = 500, 250  # kept of a longer one


def printable(text: str, *, keep: str = "") -> str:
    """Replace control, format and unpaired surrogate characters of untrusted text.

    Args:
        text: any text.
        keep: characters to keep although they are not printable, such as a line feed.
    """
    whole = text.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() or letter in keep else " " for letter in whole)


def suggest(word: str, choices: Iterable[str]) -> str:
    """Return ` (did you mean 'X'?)` for the most similar choice, or nothing if none is similar."""
    similar = difflib.get_close_matches(word, list(choices), n=1)
    return f" (did you mean {similar[0]!r}?)" if similar else ""


class LabError(Exception):
    """An error that the user can fix.

    The message is one line that names the argument, its value and the fix. The command line prints it without a
    traceback and exits with status 1; library callers catch it like any other exception. The middle of a very long
    line is left out, because file names in untrusted archives may have thousands of characters.
    """

    def __init__(self, message: object) -> None:
        super().__init__("\n".join(_cut(line) for line in str(message).split("\n")))


def _cut(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[:HEAD]} … {line[-TAIL:]}"


class Interrupted(Exception):  # noqa: N818 - not an error
    """Work stopped on request and is saved; the same command, or the one it names, resumes it."""


class Diverged(LabError):  # noqa: N818 - the training's, not the program's
    """The training loss grew above that of guessing, or is not finite."""
