"""Submissions are found in downloads, folders and archives; their names, attempts and lateness are read."""

import zipfile

import pytest

from mutants import solution, write, write_as_zip
from scenelab.course.grading.discovery import gather
from scenelab.course.grading.submission_reader import read
from scenelab.errors import LabError

CANVAS = """doejane_1001_55501_submission.zip leesam_LATE_1002_55502_hw_3.zip wuamy_1003_55503_submission.zip
wuamy_1003_55504_submission-1.zip wuamy_1003_55509_submission-2.zip doejane_1004_55505_submission.zip""".split()
FILES = {"code/student_code.py": b"x = 1\n"}


def archive(path, contents):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return path


@pytest.fixture
def one_zip(tmp_path):
    """The bytes of one submission's zip."""
    return write_as_zip(tmp_path / "one.zip", solution(), tmp_path / "files").read_bytes()


@pytest.fixture
def download(tmp_path, one_zip):
    """Canvas's download: a file per student, and one who submitted three times."""
    return write(tmp_path / "submissions", dict.fromkeys(CANVAS, one_zip))


@pytest.fixture
def gathered(tmp_path):
    """Return entries and lines of given paths."""
    return lambda *paths, **options: gather(paths, tmp_path / "scratch", **options)


@pytest.fixture
def students(gathered):
    """Return the names of the students of given paths."""
    return lambda *paths: [entry.student for entry in gathered(*paths)[0]]


def test_canvas_names_are_read(download, gathered):
    entries, _ = gathered(download)
    rows = [(entry.student, entry.user, entry.late) for entry in entries]
    assert rows[:2] == [("doejane", "1001", False), ("doejane-1004", "1004", False)]
    assert rows[2:] == [("leesam", "1002", True), ("wuamy", "1003", False)]
    assert entries[3].paths[0].name.endswith("-2.zip")


def test_a_bulk_zip_and_its_files_are_the_same_class(download, tmp_path, students, one_zip):
    path = archive(tmp_path / "submissions.zip", dict.fromkeys(CANVAS, one_zip))
    assert students(path) == ["doejane", "doejane-1004", "leesam", "wuamy"]
    assert students(*sorted(download.iterdir())) == ["doejane", "doejane-1004", "leesam", "wuamy"]


def test_folders_and_single_files_are_submissions(tmp_path, students, one_zip):
    for folder in ("one", "nested/hw3", "several/alice", "several/bob"):
        write(tmp_path / folder, FILES)
    write(tmp_path / "several", {"carol.zip": one_zip})
    one, several = tmp_path / "one", tmp_path / "several"
    assert students(one) == ["one"]
    assert students(tmp_path / "nested") == ["nested"]
    assert students(several) == ["alice", "bob", "carol"]
    assert students(one, several / "carol.zip") == ["carol", "one"]
    assert students(one / "code" / "student_code.py") == ["student_code"]


def test_students_have_distinct_names_that_files_can_have(tmp_path, students):
    for name in ("a b", "a-b", "ä", "=1+1", "A-B"):
        write(tmp_path / "in" / name, FILES)
    names = students(tmp_path / "in")
    assert len({name.lower() for name in names}) == 5
    assert all("/" not in name and " " not in name for name in names)


def test_a_missing_path_is_an_error(tmp_path, gathered):
    with pytest.raises(LabError, match="does not exist"):
        gathered(tmp_path / "nothing")


def test_an_archive_of_archives_is_a_class(tmp_path, gathered, one_zip):
    names = ("alice", "bob", "carol")
    contents = {**{f"hw3/{name}.zip": one_zip for name in names}, "hw3/notes.csv": b"x"}
    entries, lines = gathered(archive(tmp_path / "class.zip", contents))
    assert tuple(entry.student for entry in entries) == names
    assert all(entry.paths[0].is_file() for entry in entries)
    assert lines == ["class.zip: not understood and not graded: notes.csv"]


def test_the_archive_of_a_class_is_extracted_within_limits(tmp_path, gathered):
    contents = {f"s{number}/results/{part}.bin": bytes(90 << 20) for number in range(3) for part in range(5)}
    contents |= {f"s{number}/code/student_code.py": b"x = 1\n" for number in range(3)}
    with pytest.raises(LabError, match="class.zip: .*holds more than 1024 MiB; unpack it, and give its folder"):
        gathered(archive(tmp_path / "class.zip", contents))
    assert sum(path.stat().st_size for path in (tmp_path / "scratch").rglob("*") if path.is_file()) <= 1 << 30
    one = {f"results/{part}.bin": bytes(90 << 20) for part in range(13)} | {"code/student_code.py": b"x = 1\n"}
    entries, lines = gathered(archive(tmp_path / "alice.zip", one))
    assert [entry.student for entry in entries] == ["alice"]
    assert any("holds more than 1024 MiB" in line for line in lines)


def test_a_class_archive_with_a_date_in_its_name_is_not_one_students(tmp_path, gathered, one_zip):
    path = archive(tmp_path / "submissions_2025_03_14.zip", {"ann_1_2_hw.zip": one_zip, "bob_3_4_hw.zip": one_zip})
    assert [entry.student for entry in gathered(path)[0]] == ["ann", "bob"]


def test_each_of_several_paths_is_one_submission(tmp_path, gathered, one_zip):
    """alice.zip holds what Canvas would call bob's."""
    bob = archive(tmp_path / "bob.zip", solution())
    alice = archive(tmp_path / "alice.zip", dict.fromkeys(("bob_LATE_77_9_hw.zip", "dan_LATE_78_8_hw.zip"), one_zip))
    assert [(entry.student, entry.late) for entry in gathered(alice, bob)[0]] == [("alice", False), ("bob", False)]


@pytest.mark.parametrize("names", [("a/ann", "b/ann"), ("a/Jos\u00e9", "a/Jose\u0301")])
def test_equal_names_are_two_rows(tmp_path, gathered, names):
    entries, lines = gathered(*(write(tmp_path / name, FILES) for name in names))
    name = names[0][2:]
    assert [entry.student for entry in entries] == [name, f"{name}-2"]
    assert entries[1].notes[0].endswith(f" is the name of several submissions; this one is {name}-2")
    assert lines == [f"{entries[1].notes[0]}: {entries[1].paths[0]}"]


def test_archives_in_a_single_submission_are_noted(tmp_path, gathered):
    folder = write(tmp_path / "hw", {**FILES, **dict.fromkeys(("bob.zip", "eve.zip"), b"PK\x05\x06" + bytes(18))})
    entries, lines = gathered(folder)
    assert [entry.student for entry in entries] == ["hw"]
    assert "graded as one submission, though it holds bob.zip, eve.zip" in lines[0]


def test_everybody_who_submitted_something_has_a_row(tmp_path, gathered):
    files = {
        "alice/code/student_code.py": b"",
        "bob/report.docx": b"PK",
        "carol/hw.ipynb": b"{}",
        "eve.pdf": b"",
        "fay.rar": b"",
    }
    folder = write(tmp_path / "in", files)
    (folder / "dan").mkdir()
    entries, lines = gathered(folder)
    assert [entry.student for entry in entries] == ["alice", "bob", "carol", "dan", "eve", "fay"]
    assert lines == []


def test_the_folder_for_the_grades_is_left_out(tmp_path, gathered):
    for name in ("alice", "bob"):
        write(tmp_path / "class" / name, solution())
    out = write(tmp_path / "class" / "grades", {"seed": b"1", "students/x/student_code.py": b"x"})
    entries, lines = gathered(tmp_path / "class", skip=out)
    assert [entry.student for entry in entries] == ["alice", "bob"]
    assert lines == []
    assert read([tmp_path / "class"], tmp_path / "into", skip=out).digest
    assert not (tmp_path / "into" / "grades").exists()


def test_a_platforms_archive_is_one_students(tmp_path, gathered, one_zip):
    folder = write(tmp_path / "in", {})
    folder.mkdir()
    names = ("bob_77_999_hw.zip", "alice_12_346_hw.zip")
    archive(folder / "alice_LATE_12_345_hw.zip", dict.fromkeys(names, one_zip))
    assert [(entry.student, entry.user, entry.late) for entry in gathered(folder)[0]] == [("alice", "12", True)]
