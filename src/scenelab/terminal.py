"""Terminal output to closed streams and streams of any encoding, and of untrusted text without escape sequences."""

import codecs
import io
import os
import shutil
import sys
import unicodedata
from contextlib import suppress
from typing import IO

from scenelab.errors import printable

FALLBACK = "scenelab.fallback"  # name of the error handler for characters outside a stream's encoding
MIN_COLUMNS = 20  # tyro does not end its layout of the help in a single column
ASCII = str.maketrans("×·–—−‑│┃─━“”‘’«»≈", "x|----||--\"\"''<>~") | str.maketrans(
    {"…": "...", "→": "->", "←": "<-", "ε": "eps", "∞": "inf", "≤": "<=", "≥": ">=", "±": "+-", "°": " deg", "ß": "ss"}
)


def prepare_streams() -> None:
    """Make stdout and stderr accept any text, and open closed standard streams on the null device.

    Characters outside a stream's encoding become similar ASCII characters. Terminals count as at least 20 columns wide.
    Call this before files are opened, which would get the descriptors of closed streams.
    """
    for number in (0, 1, 2):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=FALLBACK)
    if shutil.get_terminal_size().columns < MIN_COLUMNS:
        os.environ["COLUMNS"] = str(MIN_COLUMNS)


def _fall_back(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_similar, error.object[error.start : error.end])), error.end


def _similar(letter: str) -> str:
    """Return ASCII text similar to a character, `?` if there is none, or "" for a combining accent."""
    text = letter.translate(ASCII)
    text = text if text.isascii() else unicodedata.normalize("NFD", text)[:1]
    return text if text.isascii() else "" if unicodedata.combining(letter) else "?"


codecs.register_error(FALLBACK, _fall_back)


def say(*lines: object, file: IO[str] | None = None) -> None:
    """Print lines of text that may come from untrusted files, without control characters; line feeds become spaces."""
    print(*(printable(str(line)) for line in lines), sep="\n", file=file, flush=True)


def discard_unwritten() -> None:
    """Discard the buffered output of broken stdout and stderr, because Python would fail on it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            silence(stream)


def silence(stream: IO[str]) -> None:
    """Redirect a stream to the null device, for example a pipe whose reader has exited."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
