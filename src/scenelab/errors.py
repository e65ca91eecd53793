"""The exceptions that a person sees as a single line."""

LONGEST_LINE = 800  # letters of a message
HEAD, TAIL = 500, 250  # that are left of a longer one


def printable(text: str, *, keep: str = "") -> str:
    """A stranger's text as a terminal, a table and a file can show it: no control or format characters, no half ones.

    Args:
        text: anything.
        keep: characters that stay though they are not printable, such as a line feed.
    """
    whole = text.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() or letter in keep else " " for letter in whole)


class LabError(Exception):
    """Something that the person at the keyboard can mend.

    The message is one line that names the argument, what it got and the fix. The command line prints it
    without a traceback and exits with status 1; library callers catch it like any other exception. Of a line that is
    too long, since a stranger's file has a name of thousands of letters, the middle is left out.
    """

    def __init__(self, message: object) -> None:
        super().__init__("\n".join(_cut(line) for line in str(message).split("\n")))


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:HEAD]} … {line[-TAIL:]}"


class Interrupted(Exception):  # noqa: N818 - a request that was granted, not an error
    """Work was asked to stop and has saved itself; the same command, or the one it names, goes on from there."""


class Diverged(LabError):  # noqa: N818 - what happened, not an error of anybody's
    """The training loss grew past what guessing has, or is no number."""
