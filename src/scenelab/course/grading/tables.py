"""Tables of people from learning platforms: CSV in any dialect, and the ids by which a row knows a person."""

import csv
import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from scenelab.errors import LabError
from scenelab.extras import Feature
from scenelab.io import atomic_write, read_plain, read_text

Id = tuple[str, str]
"""Kind and value of a person's id; equal values of different kinds are different people."""
LOGINS = "sis login id|sis user id|login_id|user_id|username|email|email address|sid|id number".split("|")
COLUMNS = {
    "canvas": ["id", "canvas_user_id"],
    "moodle": ["identifier"],
    "gradescope": ["submission id"],
    "login": LOGINS,
}
"""Columns with ids by kind, in lower case. Source: the exports of Canvas, Moodle and Gradescope."""
SUBMITTERS = "submission_metadata.yml"
MAX_BYTES = 50_000_000


def fold(text: str) -> str:
    """Return an id without surrounding blanks, in lower case and composed Unicode."""
    return unicodedata.normalize("NFC", text).strip().casefold()


@dataclass
class Table:
    """A CSV file; `write` keeps its byte order mark, delimiter and line ends."""

    path: Path
    header: list[str]
    rows: list[list[str]]
    delimiter: str
    line_end: str
    mark: str  # byte order mark, or ""

    @staticmethod
    def read(path: Path, flag: str) -> "Table":
        """Read a CSV file with a header; raise a LabError that names `flag` if it is none."""
        text = read_text(path, max_bytes=MAX_BYTES)
        first = text.split("\n", 1)[0]
        names = re.sub(r'"[^"]*"|\([^()]*\)', "", first)  # "Writeup: the training process (loss, optimizer)"
        delimiter = max(";\t,", key=names.count)
        try:
            header, *rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)) or [[]]
        except csv.Error as error:
            raise LabError(f"{flag} {path} is not CSV: {error}; export it again") from error
        if len(header) < 2:
            raise LabError(f"{flag} {path} has no header with several columns; export it as CSV")
        rows = [row + [""] * (len(header) - len(row)) for row in rows if any(row)]
        mark = "\ufeff" if read_plain(path).startswith(b"\xef\xbb\xbf") else ""
        return Table(path, header, rows, delimiter, "\r\n" if first.endswith("\r") else "\n", mark)

    def column(self, *names: str) -> int | None:
        """Return the index of the first column with one of the lower-case `names`, or None."""
        header = [fold(name) for name in self.header]
        return next((header.index(name) for name in names if name in header), None)

    def cell(self, row: list[str], *names: str) -> str:
        """Return a row's value in the first of the named columns, or an empty string."""
        column = self.column(*names)
        return "" if column is None else row[column].strip()

    def ids(self, row: list[str]) -> set[Id]:
        """Return the ids in a row; of Moodle's "Participant 12" only the number, of our own tables the student."""
        pairs = [(kind, fold(self.cell(row, name))) for kind, names in COLUMNS.items() for name in names]
        if self.column("section") is None:  # else `student` is a name in Canvas
            # with the platform's id, as the next grading may give the same name to another student
            pairs.append(("student", fold(f"{self.cell(row, 'student')} {self.cell(row, 'canvas_user')}")))
        return {(kind, re.sub(r".*\D", "", text) if kind == "moodle" else text) for kind, text in pairs if text}

    def write(self, path: Path) -> None:
        """Write the table in the dialect in which it was read."""
        with atomic_write(path, "w") as file:
            file.write(self.mark)
            writer = csv.writer(file, delimiter=self.delimiter, lineterminator=self.line_end)
            writer.writerows([self.header, *self.rows])


def read_submitters(path: Path) -> dict[str, list[str]]:
    """Read the SIDs and emails of each submission's people from the metadata in Gradescope's download."""
    Feature("reading Gradescope's metadata", "grading", ("yaml",)).require()
    import yaml

    try:  # the base loader makes only strings: it keeps leading zeros and builds no objects
        values = yaml.load(read_text(path, max_bytes=MAX_BYTES), getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        teams = {name: each.get(":submitters") or [] for name, each in values.items()}
        keys = (":sid", ":email")
        return {name: [each[key] for each in team for key in keys if each.get(key)] for name, team in teams.items()}
    except (yaml.YAMLError, AttributeError, TypeError, RecursionError, LabError):
        return {}
