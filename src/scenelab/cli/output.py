"""How results are printed: JSON for machines, small tables for people."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table


def print_json(value: Any) -> None:
    """Print JSON on standard output."""
    print(json.dumps(value, indent=2))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a small table; columns of numbers are right-aligned."""
    table = Table(title=title, title_justify="left")
    for column, first in zip(columns, rows[0] if rows else [""] * len(columns), strict=True):
        table.add_column(column, justify="right" if first[:1].isdigit() else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
