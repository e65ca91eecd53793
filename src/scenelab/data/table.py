"""Read and write CSV files that list images with their labels."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scenelab.errors import LabError, printable
from scenelab.io import atomic_write, read_text, write_csv_row

COLUMNS = {
    "path": ("path", "image", "file", "filename", "filepath"),
    "label": ("label", "class", "category"),
    "split": ("split", "set", "subset"),
}
"""Names of each column, in any case."""


@dataclass(frozen=True)
class Row:
    """Line of the table: an image relative to the file's folder, its class name, and its split or ""."""

    path: str
    label: str
    split: str = ""


def read_table(path: Path, splits: dict[str, str]) -> list[Row]:
    """Return the rows of a CSV file, separated by comma, semicolon or tab, with a header.

    Args:
        path: the file; blank lines are ignored.
        splits: splits by their names in the column split; without this column, `Row.split` is "".

    Raises:
        LabError: a column is missing, or a cell is empty or invalid.
    """
    text = read_text(path, errors="surrogateescape")
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    names = [cell.strip().lower() for cell in next(reader, [])]
    columns = {key: names.index(word) for key, words in COLUMNS.items() for word in words if word in names}
    for key in ("path", "label"):
        if key not in columns:
            raise LabError(f"{path} has no column {key}; its first line must name them, such as: path,label,split")
    rows = [_read_row(cells, columns, splits, f"{path} line {reader.line_num}") for cells in reader if any(cells)]
    if not rows:
        raise LabError(f"{path} lists no images; add a line per image")
    return rows


def _read_row(cells: list[str], columns: dict[str, int], splits: dict[str, str], where: str) -> Row:
    values = {key: cells[column].strip() if column < len(cells) else "" for key, column in columns.items()}
    for key, value in values.items():
        if not value or "\0" in value:
            raise LabError(f"{where} has no {key}; fill it in, or remove the line")
    name, split = values["path"], splits.get(values.get("split", "").lower(), "")
    if "split" in values and not split:
        known = ", ".join(dict.fromkeys(splits.values()))
        raise LabError(f"{where} has the split {printable(values['split'])[:40]!r}; expected {known}")
    name = name.replace("\\", "/") if "/" not in name else name  # a list made on Windows
    return Row(name if os.name == "nt" else os.fsdecode(name.encode(errors="surrogateescape")), values["label"], split)


def write_table(path: Path, rows: Iterable[Row]) -> Counter[tuple[str, str]]:
    """Write a CSV file that `read_table` reads; return the number of images by split and class."""
    counts: Counter[tuple[str, str]] = Counter()
    with atomic_write(path, "w") as file:
        write_csv_row(file, list(COLUMNS))
        for row in rows:
            write_csv_row(file, [row.path, row.label, row.split])
            counts[row.split, row.label] += 1
    return counts
