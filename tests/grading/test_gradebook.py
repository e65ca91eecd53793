"""Gradebooks of three systems round-tripped, points of people, teams, feedback, and who handed in nothing."""

import csv
import io
import json
import re
import unicodedata
import zipfile
from pathlib import Path

import pytest

from generated_class import make_class, sortable
from scenelab.course.grading.discovery import Entry, gather
from scenelab.course.grading.feedback import write_feedback
from scenelab.course.grading.gradebook import ids_of_teams, read_gradebook, read_teams
from scenelab.course.grading.manual import merge_manual, read_manual
from scenelab.course.grading.results import Grade, Result
from scenelab.course.grading.rubric import read_rubric
from scenelab.course.grading.tables import Table
from scenelab.errors import LabError

RUBRIC = read_rubric()
TITLE = "HW 2: CNNs, “attacks” (and more) (881)"
CANVAS = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Notes", "Quiz (1) (880)", TITLE, "Final Score"]
MOODLE = ["Identifier", "Full name", "ID number", "Email address", "Status", "Group", "Grade", "Maximum grade"]
MOODLE += ["Grade can be changed", "Last modified (submission)", "Last modified (grade)", "Feedback comments"]
GRADESCOPE = ["First Name", "Last Name", "SID", "Email", "Role", "Sections"]


def encode(rows, *, delimiter=",", end="\r\n", mark=True) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    return (b"\xef\xbb\xbf" if mark else b"") + text.getvalue().encode()


def decode(path: Path, delimiter=",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline=""), delimiter=delimiter))


def entry(kind: str, user: str, *others: str, student: str = "", path: str = "x") -> Entry:
    ids = frozenset({(kind, user), *(("login", each) for each in others)})
    return Entry(student or f"student{user}", (Path(path),), user, False, (), ids)


def graded(entry: Entry, score: float, digest: str = "") -> Grade:
    grade = Grade(entry, Result("key", digest or entry.student, "", complete=True), RUBRIC)
    grade.result.outcomes = [type("Earned", (), {"earned": score, "group": "attack"})()]
    return grade


def canvas_rows(count: int) -> list[list[str]]:
    rows = [CANVAS, ["", "", "", "", "", "", "Manual Posting", "", ""]]
    rows.append(["    Points Possible", "", "", "", "", "", "10.00", "8.00", "(read only)"])
    for number in range(count):
        section = "Lec 1, Dis 301 and Lab “b”" if number % 2 else "Lec 2"
        login = f"u{number}@wisc.edu"
        rows.append(
            [sortable(number), str(1000 + number), f"00{number}", login, section, 'a "note"', "7,5", "", "71.2"]
        )
    rows.append(['="=cmd()"', "5000", "", "evil", "Lec 1", "line 1\nline 2", "", "EX", ""])
    return [*rows, ["Student, Test", "6000", "", "0f1e", "Lec 1", "", "", "", ""]]


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("mark", [True, False])
def test_canvas_gradebook_is_filled_by_id_and_otherwise_unchanged(tmp_path, delimiter, mark):
    path, rows, grades = tmp_path / "Grades.csv", canvas_rows(104), make_class(100)
    path.write_bytes(encode(rows, delimiter=delimiter, mark=mark))
    stranger = graded(entry("canvas", "7"), 3.0)
    book = read_gradebook(path, "881")
    book.fill([*grades, stranger], {}, tmp_path / "filled.csv", RUBRIC.automatic)
    by_user = {grade.entry.user: grade for grade in grades}
    wanted = [list(row) for row in rows]
    for row in wanted[3:]:
        if row[1] in by_user:
            row[7] = f"{by_user[row[1]].score:.10g}"
    assert decode(tmp_path / "filled.csv", delimiter) == wanted
    assert (tmp_path / "filled.csv").read_bytes() == encode(wanted, delimiter=delimiter, mark=mark)
    assert (book.filled, book.unmatched, book.notes) == (100, ["student7"], [])
    assert book.missing == [f"{sortable(each)} ({1000 + each})" for each in range(100, 104)], "not who is excused"


def test_excused_people_keep_their_cell_and_another_maximum_is_told(tmp_path):
    path = tmp_path / "Grades.csv"
    path.write_bytes(encode(canvas_rows(1)))
    book = read_gradebook(path, TITLE)
    book.fill([graded(entry("canvas", "5000"), 3.0)], {}, tmp_path / "filled.csv", 15)
    assert decode(tmp_path / "filled.csv")[4][7] == "EX"
    assert [note.split(": ")[1] for note in book.notes] == [
        "excused, not assigned or locked; not filled",
        "at most 8.00 points there, 15 here; not scaled",
    ]


@pytest.mark.parametrize("title", ["", "Quiz", "no such"])
def test_the_assignment_has_to_be_unique(tmp_path, title):
    path = tmp_path / "Grades.csv"
    path.write_bytes(encode(canvas_rows(1)))
    fits = {"": 2, "Quiz": 0, "no such": 0}[title]
    with pytest.raises(LabError, match=re.escape(f"--assignment is {title!r}, which fits {fits} columns of {path}")):
        read_gradebook(path, title)


def test_ids_of_one_platform_are_not_those_of_another(tmp_path):
    """Moodle's participant 1001 is not Canvas's user 1001, nor is a folder of that name; a login's folder is known."""
    path = tmp_path / "Grades.csv"
    path.write_bytes(encode(canvas_rows(3)))
    grades = [
        graded(entry("moodle", "1001"), 1),
        graded(entry("login", "1000"), 2),
        graded(entry("login", "u2@wisc.edu"), 3),
    ]
    book = read_gradebook(path, "881")
    book.fill(grades, {}, tmp_path / "filled.csv", 8)
    assert [row[7] for row in decode(tmp_path / "filled.csv")[3:6]] == ["", "", "3"]
    assert book.unmatched == ["student1001", "student1000"]


def test_an_id_of_two_people_fills_nothing(tmp_path):
    path, rows = tmp_path / "Grades.csv", canvas_rows(2)
    rows[3][2] = rows[4][3] = "same"
    path.write_bytes(encode(rows))
    book = read_gradebook(path, "881")
    book.fill([graded(entry("login", "same"), 2)], {}, tmp_path / "filled.csv", 8)
    assert (book.filled, book.unmatched) == (0, ["studentsame"])
    assert "several rows of Grades.csv have its id" in book.notes[0]


def test_moodle_worksheet(tmp_path):
    people = [
        ("Participant 12", "O'Neil, José", "Yes"),
        ("Participant 120", "李 小龙", "Yes"),
        ("Participant 13", "Zoë", "No"),
    ]
    rows = [MOODLE] + [
        [
            who,
            name,
            "",
            f"{number}@uni.edu",
            "Submitted for grading - ",
            "",
            "",
            "15.00",
            can,
            "Monday, 2 November, 3:04 PM",
            "-",
            "",
        ]
        for number, (who, name, can) in enumerate(people)
    ]
    path = tmp_path / "Grades-CNN.csv"
    path.write_bytes(encode(rows, end="\n"))
    grades = [graded(entry("moodle", "120"), 7.125), graded(entry("moodle", "13"), 2)]
    book = read_gradebook(path)
    book.fill(grades, {}, tmp_path / "filled.csv", 15)
    rows[2][6] = "7.125"
    assert (tmp_path / "filled.csv").read_bytes() == encode(rows, end="\n")
    assert book.missing == ["O'Neil, José (Participant 12)"]
    assert book.notes == ["Zoë (Participant 13): excused, not assigned or locked; not filled"]


METADATA = """---
submission_77:
  :submitters:
  - :name: Zoë Ó Súilleabháin
    :sid: '007'
    :email: Zoe@uni.edu
  - :name: "李, 小龙"
    :sid:
    :email: li@uni.edu
  :created_at: !ruby/object:ActiveSupport::TimeWithZone
    utc: 2026-11-02 21:11:57.230490000 Z
submission_78:
  :submitters:
  - :name: Bob
    :sid: '008'
    :email: bob@uni.edu
"""


def test_gradescope_roster_gets_the_points_of_each_member_of_a_team(tmp_path):
    for number in (77, 78):
        (tmp_path / "export" / f"submission_{number}").mkdir(parents=True)
        (tmp_path / "export" / f"submission_{number}" / "student_code.py").write_text("x = 1\n")
    (tmp_path / "export" / "submission_metadata.yml").write_text(METADATA)
    entries, lines = gather([tmp_path / "export"], tmp_path / "scratch")
    assert lines == []
    people = [("Zoë", "Ó Súilleabháin", "007"), ("小龙", "李", ""), ("Bob", "", "008"), ("Ann, B.", "Lee", "7")]
    emails = ["zoe@uni.edu", "li@uni.edu", "bob@uni.edu", "ann@uni.edu"]
    rows = [[*names, email, "Student", "L1, L2"] for names, email in zip(people, emails, strict=True)]
    rows.append(["Prof", "X", "", "prof@uni.edu", "Instructor", ""])
    path = tmp_path / "roster.csv"
    path.write_bytes(encode([GRADESCOPE, *rows]))
    book = read_gradebook(path)
    book.fill(
        [graded(each, score) for each, score in zip(entries, (6.5, 8), strict=True)], {}, tmp_path / "filled.csv", 8
    )
    wanted = [[*row, points] for row, points in zip(rows, ("6.5", "6.5", "8", "", ""), strict=True)]
    assert decode(tmp_path / "filled.csv") == [[*GRADESCOPE, "Total Score"], *wanted]
    assert book.missing == ["Ann, B. Lee (7)"]


def test_metadata_inside_a_submission_names_nobody(tmp_path):
    """Anna's own submission_metadata.yml said that hers is Bob's, and filled his row."""
    for number in (77, 78):
        (tmp_path / "export" / f"submission_{number}").mkdir(parents=True)
        (tmp_path / "export" / f"submission_{number}" / "student_code.py").write_text("x = 1\n")
    (tmp_path / "export" / "submission_77" / "submission_metadata.yml").write_text(METADATA)
    entries, _ = gather([tmp_path / "export"], tmp_path / "scratch")
    assert [each.ids for each in entries] == [{("gradescope", "77")}, {("gradescope", "78")}]


def test_a_team_from_canvas_gives_its_members_the_same_points(tmp_path):
    path, groups = tmp_path / "Grades.csv", tmp_path / "groups.csv"
    path.write_bytes(encode(canvas_rows(7)))
    rows = [["name", "canvas_user_id", "user_id", "login_id", "sections", "group_name"]]
    rows += [
        [sortable(each), str(1000 + each), "", "", "", "Team é" if each < 3 else "odd" if each < 5 else ""]
        for each in range(7)
    ]
    groups.write_bytes(encode(rows))
    grades = [
        graded(entry("canvas", "1001"), 5),
        graded(entry("canvas", "1003"), 6),
        graded(entry("canvas", "1004"), 7),
    ]
    teams, notes = ids_of_teams(read_teams(groups), grades)
    book = read_gradebook(path, "881")
    book.fill(grades, teams, tmp_path / "filled.csv", 8)
    assert [row[7] for row in decode(tmp_path / "filled.csv")[3:10]] == ["5", "5", "5", "6", "7", "", ""]
    assert notes == ["team odd submitted different files: student1003, student1004"]
    assert book.missing == [f"{sortable(each)} ({1000 + each})" for each in (5, 6)], "not who is excused"


def test_points_of_people_reach_the_team_and_make_the_final_points(tmp_path):
    grades = [graded(entry("canvas", "1", student="ann"), 5), graded(entry("canvas", "2", student="bob"), 5)]
    grades[0].mates, grades[1].mates = ["bob"], ["ann"]
    parts = [part for part in RUBRIC.manual if not part.bonus]
    header = ["student", "score", *(f"{part.name} ({part.points:g})" for part in parts)]
    path = tmp_path / "points.csv"
    path.write_bytes(
        encode([header, ["ann", "5", *("0,5" for _ in parts)], ["eve", "", *("0.5" for _ in parts[1:]), ""]])
    )
    table, columns = read_manual(path, RUBRIC)
    assert [grade.final for grade in grades] == [None, None]
    notes = merge_manual(table, columns, grades, {})
    assert [grade.final for grade in grades] == [8.0, 8.0]
    assert notes == [f"--manual {path}, row 3, eve: matches no submission"]
    path.write_bytes(encode([header, ["ann", "5", "0.5", *("" for _ in parts[1:])]]))
    merge_manual(*read_manual(path, RUBRIC), grades, {})
    assert (grades[0].final, grades[0].points, len(grades[0].ungraded)) == (None, None, len(parts) - 1)


def test_a_row_of_an_earlier_table_is_of_the_same_student_and_id(tmp_path):
    """Canvas's two Jane Does are `doejane` and `doejane-1002`; which is which depends on who has submitted."""
    path, name = tmp_path / "points.csv", RUBRIC.manual[0].name
    path.write_bytes(encode([["student", "canvas_user", name], ["doejane", "1001", "0.5"], ["annlee", "", "0.25"]]))
    now = [entry("canvas", "1002", student="doejane"), entry("canvas", "3", student="annlee")]
    grades = [graded(Entry(**{**vars(each), "user": user}), 5) for each, user in zip(now, ("1002", "3"), strict=True)]
    notes = merge_manual(*read_manual(path, RUBRIC), grades, {})
    assert [grade.manual for grade in grades] == [{}, {name: 0.25}]
    assert notes == [f"--manual {path}, row 2, doejane: matches no submission"]
    grades[0].entry = Entry("doejane", (), "1001")
    merge_manual(*read_manual(path, RUBRIC), grades, {})
    assert grades[0].manual == {name: 0.5}


def test_a_team_may_be_listed_by_our_names_and_logins(tmp_path):
    path, groups = tmp_path / "Grades.csv", tmp_path / "groups.csv"
    path.write_bytes(encode(canvas_rows(3)))
    groups.write_text("student,login_id,team\nann,u0@wisc.edu,a\nbob,u1@wisc.edu,a\n")
    grades = [graded(entry("login", "nobody", student="ann"), 5)]
    teams, _ = ids_of_teams(read_teams(groups), grades)
    book = read_gradebook(path, "881")
    book.fill(grades, teams, tmp_path / "filled.csv", 8)
    assert [row[7] for row in decode(tmp_path / "filled.csv")[3:6]] == ["5", "5", ""]


def test_nobody_gets_points_that_the_grader_itself_lost(tmp_path):
    path = tmp_path / "Grades.csv"
    path.write_bytes(encode(canvas_rows(1)))
    grade = graded(entry("canvas", "1000"), 3)
    grade.result.faults = ["conv_forward: OSError"]
    book = read_gradebook(path, "881")
    book.fill([grade], {}, tmp_path / "filled.csv", 8)
    assert (book.filled, decode(tmp_path / "filled.csv")[3][7]) == (0, "")
    assert book.notes[0].endswith("not filled; the grader itself failed")


def test_a_gradebook_is_filled_anew_each_time(tmp_path):
    """With --watch, a cell of two submissions that now differ had kept the points of the first one."""
    path = tmp_path / "Grades.csv"
    path.write_bytes(encode(canvas_rows(1)))
    book, ann = read_gradebook(path, "881"), graded(entry("canvas", "1000"), 3)
    book.fill([ann], {}, tmp_path / "filled.csv", 8)
    book.fill([ann, graded(entry("login", "u0@wisc.edu"), 4)], {}, tmp_path / "filled.csv", 8)
    assert decode(tmp_path / "filled.csv")[3][7] == ""


def test_people_whose_ids_a_spreadsheet_has_changed_are_listed(tmp_path):
    path, rows = tmp_path / "Grades.csv", canvas_rows(1)
    rows[3][1] = "1.07E+16"
    path.write_bytes(encode(rows))
    book = read_gradebook(path, "881")
    book.fill([], {}, tmp_path / "filled.csv", 8)
    assert f"{rows[3][0]} (1.07E+16)" in book.missing


@pytest.mark.parametrize("name", ["Writeup: the training process (loss, optimizer, schedule, top-k)", "Design, curves"])
def test_commas_in_a_part_are_no_columns(tmp_path, name):
    path = tmp_path / "points.csv"
    path.write_bytes(encode([["student", name], ["ann", "0,5"]], delimiter=";"))
    assert Table.read(path, "--manual").rows == [["ann", "0,5"]]


BAD = "9 | is '9'; give a number from 0 to 1\nx | is 'x'; give a number\n-1 | is '-1'\nnan | is 'nan'"


@pytest.mark.parametrize("line", BAD.splitlines())
def test_impossible_points_are_refused(tmp_path, line):
    value, message = line.split(" | ")
    path = tmp_path / "points.csv"
    path.write_bytes(encode([["student", RUBRIC.manual[0].name], ["ann", value]]))
    with pytest.raises(LabError, match=re.escape(f"row 2: {RUBRIC.manual[0].name} {message}")):
        merge_manual(*read_manual(path, RUBRIC), [], {})


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (lambda path: read_gradebook(path), b"a,b\n1,2\n", "has the columns a, b; expected those of Canvas"),
        (lambda path: read_gradebook(path), b"", "has no header with several columns"),
        (lambda path: read_gradebook(path), "Student,ID\nJosé,1\n".encode("latin-1"), "is not utf-8; save it as UTF-8"),
        (
            lambda path: read_manual(path, RUBRIC),
            b"student,points\nann,1\n",
            "has no column of a part that people grade",
        ),
        (lambda path: read_teams(path), b"student,points\nann,1\n", "has no column group_name or team"),
    ],
)
def test_other_tables_are_refused(tmp_path, read, content, message):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(LabError, match=re.escape(message)):
        read(path)


def test_two_submissions_of_one_name_have_no_id(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "ann.zip").write_bytes(b"")
    entries, _ = gather([tmp_path / "a" / "ann.zip", tmp_path / "b" / "ann.zip"], tmp_path / "scratch")
    assert [(each.student, each.ids) for each in entries] == [("ann", frozenset()), ("ann-2", frozenset())]


def canvas_finds(name: str) -> tuple[str, ...]:
    """The ids of user and file that Canvas reads from the name of uploaded feedback."""
    parts = [part for part in name.split("_") if part != "LATE"]
    return tuple([part for part in parts if re.fullmatch(r"\d+", part)][:2])


def test_feedback_has_the_names_that_canvas_takes_back(tmp_path):
    grades = make_class(20)
    odd = [
        ("doe_LATE_1_2_hw_3.py", ""),
        ("roe_5_6_hw.ipynb", ""),
        ("Jane Doe_7_assignsubmission_file_hw.zip", "moodle"),
    ]
    grades += [
        Grade(entry(kind or "canvas", name, student=name, path=name), grades[0].result, RUBRIC) for name, kind in odd
    ]
    count, skipped = write_feedback(tmp_path / "feedback.zip", grades)
    assert (count, skipped) == (22, ["roe_5_6_hw.ipynb"])
    first = (tmp_path / "feedback.zip").read_bytes()
    write_feedback(tmp_path / "feedback.zip", grades)
    assert (tmp_path / "feedback.zip").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "feedback.zip") as archive:
        names = set(archive.namelist())
        for grade in grades[:20]:
            name = grade.entry.paths[0].name
            assert canvas_finds(name) == (grade.entry.user, str(int(grade.entry.user) + 49000))
            with zipfile.ZipFile(io.BytesIO(archive.read(name))) as page:
                assert grade.entry.student in page.read("grade.html").decode()
        assert canvas_finds("doe_LATE_1_2_hw_3.py") == ("1", "2")
        assert archive.read("doe_LATE_1_2_hw_3.py").startswith(b"# ")
    assert "Jane Doe_7_assignsubmission_file_grade.html" in names
    assert all(unicodedata.is_normalized("NFC", name) for name in names)
    json.dumps(sorted(names))


def test_feedback_takes_any_name_and_leaves_nothing_of_an_earlier_class(tmp_path):
    odd = b"doe_1_2_h\xe9.zip".decode(errors="surrogateescape")
    grade = Grade(entry("canvas", "1", path=odd), make_class(1)[0].result, RUBRIC)
    assert write_feedback(tmp_path / "feedback.zip", [grade]) == (1, [])
    with zipfile.ZipFile(tmp_path / "feedback.zip") as archive:
        assert archive.namelist() == ["doe_1_2_h?.zip"]
    assert write_feedback(tmp_path / "feedback.zip", []) == (0, [])
    assert not (tmp_path / "feedback.zip").exists()
