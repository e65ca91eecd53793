"""Print results as JSON for programs or as small tables for people."""

import sys
from typing import TYPE_CHECKING, Any

from scenelab.errors import printable
from scenelab.terminal import FALLBACK

if TYPE_CHECKING:
    from rich.text import Text


def print_json(value: Any) -> None:
    """Print a value as indented JSON on standard output; numbers that are NaN or infinite become null."""
    from scenelab.io import to_json

    print(to_json(value))


def plain(text: str) -> "Text":
    """Return untrusted text as a `Text`, in which rich sees no markup, without control characters."""
    from rich.text import Text

    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return Text(printable(text).encode(encoding, FALLBACK).decode(encoding))  # as wide as it will be


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; columns whose first cell starts with a digit are right-aligned."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=plain(title), title_justify="left")
    for column, first in zip(columns, rows[0] if rows else [""] * len(columns), strict=True):
        table.add_column(plain(column), justify="right" if first[:1].isdigit() else "left")
    for row in rows:
        table.add_row(*map(plain, row))
    Console().print(table)
