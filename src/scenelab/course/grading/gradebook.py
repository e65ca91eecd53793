"""Points written to the gradebooks of Canvas, Gradescope and Moodle, matched by ids; the rest is listed."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from scenelab.course.grading.results import DIGITS, Grade
from scenelab.course.grading.tables import Id, Table, fold
from scenelab.errors import LabError

MAX_TEAM = 3  # students, says the handout
FIXED = ("EX", "N/A")  # Canvas: excused, not assigned
TOTAL = "Total Score"  # Gradescope's name in its own exports
ASSIGNMENT = re.compile(r"(.*) \((\d+)\)", re.DOTALL)  # title and number in Canvas's header
TEAM = ("group_name", "team", "group")
TEST_STUDENT = "Student, Test"  # Canvas's own, the last row of its gradebook
EXPECTED = "expected those of Canvas (Student, ID, Section), Moodle (Identifier, Grade) or Gradescope (Name, Email)"


@dataclass
class Gradebook:
    """A platform's table of people with the column to fill, and after `fill` what did not match."""

    table: Table
    column: int
    people: list[int]  # numbers of the rows with students
    filled: int = 0
    unmatched: list[str] = field(default_factory=list)  # submissions without a row
    missing: list[str] = field(default_factory=list)  # people who handed in nothing, without those who are excused
    notes: list[str] = field(default_factory=list)

    def name(self, row: int) -> str:
        """Return a person's name and id, for the instructor."""
        table, cells = self.table, self.table.rows[row]
        first, last = table.cell(cells, "first name", "firstname"), table.cell(cells, "last name", "lastname")
        name = table.cell(cells, "student", "full name", "name") or f"{first} {last}".strip()
        return f"{name} ({table.cell(cells, 'id', 'identifier', 'sid', 'email')})"

    def _is_fixed(self, cells: list[str]) -> bool:
        return cells[self.column].strip().upper() in FIXED

    def fill(self, grades: Sequence[Grade], teams: dict[str, set[Id]], path: Path, maximum: float) -> None:
        """Write the points to a copy of the table at `path`; cells that the platform keeps fixed stay."""
        table = replace(self.table, rows=[[*cells] for cells in self.table.rows])  # with --watch it is filled again
        found, self.filled = set(), 0
        claims, self.notes = match(table, self.people, grades, teams)
        for row, owners in claims.items():
            cells, grade = table.rows[row], owners[0]
            if len({each.points for each in owners}) > 1:
                names = ", ".join(each.entry.student for each in owners)
                self.notes.append(f"{self.name(row)}: {names} have different points; not filled")
                continue
            found |= {each.entry.student for each in owners}
            if self._is_fixed(cells) or table.cell(cells, "grade can be changed").lower() == "no":
                self.notes.append(f"{self.name(row)}: excused, not assigned or locked; not filled")
            elif any(each.result.faults for each in owners):
                self.notes.append(f"{self.name(row)}: not filled; the grader itself failed")
            elif grade.points is None:
                self.notes.append(f"{self.name(row)}: not filled; people still grade {', '.join(grade.ungraded)}")
            else:
                cells[self.column] = format(round(grade.points, DIGITS), ".10g")
                self.filled += 1
        self.unmatched = [grade.entry.student for grade in grades if grade.entry.student not in found]
        absent = [(row, table.rows[row]) for row in self.people if row not in claims]
        absent = [(row, cells) for row, cells in absent if table.cell(cells, "student") != TEST_STUDENT]
        self.missing = [self.name(row) for row, cells in absent if not self._is_fixed(cells)]
        limits = {row[self.column] for row in table.rows if "Points Possible" in row[0]}  # of Canvas
        limits |= {table.cell(row, "maximum grade") for row in table.rows} - {""}  # of Moodle
        if other := [limit for limit in limits if limit.replace(",", ".") not in (f"{maximum:g}", f"{maximum:.2f}")]:
            self.notes.append(f"{table.path.name}: at most {other[0]} points there, {maximum:g} here; not scaled")
        table.write(path)


def _ids(grade: Grade) -> set[Id]:
    names = (grade.entry.student, f"{grade.entry.student} {grade.entry.user}")
    return {*grade.entry.ids, *(("student", fold(name)) for name in names)}


def match(
    table: Table, rows: Iterable[int], grades: Sequence[Grade], teams: dict[str, set[Id]]
) -> tuple[dict[int, list[Grade]], list[str]]:
    """Return the grades of each row, those of its own ids or else of its team's, and notes on ids of several rows."""
    index: dict[Id, list[int]] = {}
    for row in rows:
        for each in table.ids(table.rows[row]):
            index.setdefault(each, []).append(row)
    claims: dict[int, list[Grade]] = {}
    notes = []
    own = {grade.entry.student: _ids(grade) for grade in grades}
    for ids in (own, teams):
        found: dict[int, list[Grade]] = {}
        for grade in grades:
            hits = [index.get(each, []) for each in ids.get(grade.entry.student, ())]
            for row in {hit[0] for hit in hits if len(hit) == 1} - claims.keys():
                found.setdefault(row, []).append(grade)
            if any(len(hit) > 1 for hit in hits):
                notes.append(f"{grade.entry.student}: several rows of {table.path.name} have its id")
        claims |= found
    return claims, notes


def read_gradebook(path: Path, title: str = "") -> Gradebook:
    """Read an export of Canvas, Moodle or Gradescope.

    Args:
        path: the CSV file.
        title: Canvas's assignment: its title, its number, or both as in the header; needed if there are several.

    Raises:
        LabError: the columns are those of no such export, or the assignment is not unique.
    """
    table = Table.read(path, "--gradebook")
    rows = list(enumerate(table.rows))
    if table.column("student", "lastname") is not None and None not in (table.column("id"), table.column("section")):
        return Gradebook(table, _assignment(table, title), [row for row, cells in rows if table.cell(cells, "id")])
    grade = table.column("grade")
    if grade is not None and table.column("identifier") is not None:
        return Gradebook(table, grade, [row for row, _ in rows])
    if None in (table.column("email"), table.column("name", "first name")):
        raise LabError(f"--gradebook {path} has the columns {', '.join(table.header)[:100]}; {EXPECTED}")
    if TOTAL not in table.header:
        table.header.append(TOTAL)
        table.rows = [[*cells, ""] for cells in table.rows]
    students = [row for row, cells in rows if table.cell(cells, "role").lower() in ("", "student")]
    return Gradebook(table, table.header.index(TOTAL), students)


def _assignment(table: Table, title: str) -> int:
    matches = [(number, found) for number, name in enumerate(table.header) if (found := ASSIGNMENT.fullmatch(name))]
    chosen = [number for number, found in matches if title in ("", found[0], found[1], found[2])]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(found[0] for _, found in matches) or "none"
    raise LabError(f"--assignment is {title!r}, which fits {len(chosen)} columns of {table.path}; it has: {names}")


def read_teams(path: Path) -> Table:
    """Read a CSV with a column group_name or team, and ids."""
    table = Table.read(path, "--teams")
    if table.column(*TEAM) is None:
        raise LabError(f"--teams {path} has no column {' or '.join(TEAM)}; export the groups from Canvas")
    return table


def ids_of_teams(table: Table, grades: Sequence[Grade]) -> tuple[dict[str, set[Id]], list[str]]:
    """Return the ids of each student's team, and notes.

    Members of a team that submitted different files are no team here: a note names them.
    """
    teams: dict[str, list[set[Id]]] = {}
    for row in table.rows:
        teams.setdefault(table.cell(row, *TEAM), []).append(table.ids(row))
    teams.pop("", None)
    notes = [f"team {name} has {len(team)} members" for name, team in teams.items() if len(team) > MAX_TEAM]
    result: dict[str, set[Id]] = {}
    for name, team in teams.items():
        ids = set[Id]().union(*team)
        own = [grade for grade in grades if _ids(grade) & ids]
        if len({grade.result.digest for grade in own}) > 1:
            notes.append(f"team {name} submitted different files: {', '.join(grade.entry.student for grade in own)}")
        else:
            result |= {grade.entry.student: ids for grade in own}
    return result, notes
