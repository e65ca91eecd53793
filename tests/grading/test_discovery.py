"""Canvas's downloads: names, re-uploads, lateness, zips of zips."""

import zipfile

import pytest

from mutants import solution, write, write_as_zip
from scenelab.course.grading.discovery import gather
from scenelab.course.grading.submission_reader import read
from scenelab.errors import LabError


@pytest.fixture
def download(tmp_path):
    """What Canvas gives: a file a student, and one who handed in three times."""
    folder = tmp_path / "submissions"
    folder.mkdir()
    names = ["doejane_1001_55501_submission.zip", "leesam_LATE_1002_55502_hw_3.zip", "wuamy_1003_55503_submission.zip",
             "wuamy_1003_55504_submission-1.zip", "wuamy_1003_55509_submission-2.zip", "doejane_1004_55505_submission.zip"]  # fmt: skip
    for number, name in enumerate(names):
        write_as_zip(folder / name, solution(), tmp_path / f"s{number}")
    return folder


def test_canvas_names_are_read(download, tmp_path):
    entries, _ = gather([download], tmp_path / "scratch")
    assert [(e.student, e.user, e.late) for e in entries] == [
        ("doejane", "1001", False), ("doejane-1004", "1004", False), ("leesam", "1002", True), ("wuamy", "1003", False),
    ]  # fmt: skip
    assert entries[3].paths[0].name.endswith("-2.zip")


def test_a_bulk_zip_is_the_same(download, tmp_path):
    with zipfile.ZipFile(tmp_path / "submissions.zip", "w") as file:
        for path in download.iterdir():
            file.write(path, path.name)
    entries, _ = gather([tmp_path / "submissions.zip"], tmp_path / "scratch")
    assert [e.student for e in entries] == ["doejane", "doejane-1004", "leesam", "wuamy"]


def test_folders_and_single_files(tmp_path):
    one = write(tmp_path / "one", solution())
    nested = write(tmp_path / "nested" / "hw3", solution()).parent
    several = tmp_path / "several"
    write(several / "alice", solution())
    write(several / "bob", solution())
    write_as_zip(several / "carol.zip", solution(), tmp_path / "c")
    for paths, names in (([one], ["one"]), ([nested], ["nested"]), ([several], ["alice", "bob", "carol"]),
                         ([one, several / "carol.zip"], ["carol", "one"]), ([one / "code" / "student_code.py"], ["student_code"])):  # fmt: skip
        assert [e.student for e in gather(paths, tmp_path / "scratch")[0]] == names


def test_names_become_files(tmp_path):
    folder = tmp_path / "in"
    for name in ("a b", "a-b", "ä", "=1+1", "A-B"):
        write(folder / name, solution())
    names = [e.student for e in gather([folder], tmp_path / "scratch")[0]]
    assert len({name.lower() for name in names}) == 5
    assert all("/" not in name and " " not in name for name in names)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(LabError, match="does not exist"):
        gather([tmp_path / "nothing"], tmp_path / "scratch")


def test_a_class_in_one_archive(tmp_path):
    """It was graded as one student, "class", and nothing said."""
    for name in ("alice", "bob", "carol"):
        write_as_zip(tmp_path / f"{name}.zip", solution(), tmp_path / f"s-{name}")
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as file:
        for name in ("alice", "bob", "carol"):
            file.write(tmp_path / f"{name}.zip", f"hw3/{name}.zip")
        file.writestr("hw3/notes.csv", "x")
    entries, lines = gather([tmp_path / "class.zip"], tmp_path / "scratch")
    assert [e.student for e in entries] == ["alice", "bob", "carol"]
    assert all(e.paths[0].is_file() for e in entries)
    assert lines == ["class.zip: not understood and not graded: notes.csv"]


def test_the_archive_of_a_class_is_unpacked_in_a_process_with_bounds(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "class.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(3):
            file.writestr(f"s{number}/code/student_code.py", b"x = 1\n")
            for part in range(5):
                file.writestr(f"s{number}/results/{part}.bin", bytes(90 << 20))
    entries, lines = gather([tmp_path / "class.zip"], tmp_path / "scratch")
    assert [e.student for e in entries] == ["s0", "s1", "s2"]
    assert any("holds more than 1024 MiB" in line for line in lines), lines
    assert sum(p.stat().st_size for p in (tmp_path / "scratch").rglob("*") if p.is_file()) <= 1 << 30


def test_of_several_paths_each_is_one_submission(tmp_path):
    """alice.zip holds what Canvas would call bob's: it made a row of his."""
    write_as_zip(tmp_path / "bob.zip", solution(), tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "alice.zip", "w") as file:
        file.write(tmp_path / "bob.zip", "bob_LATE_77_999_submission.zip")
        file.write(tmp_path / "bob.zip", "dan_LATE_78_998_submission.zip")
    entries, _ = gather([tmp_path / "alice.zip", tmp_path / "bob.zip"], tmp_path / "scratch")
    assert [(e.student, e.late) for e in entries] == [("alice", False), ("bob", False)]


def test_several_paths_of_a_platform_are_put_together(download, tmp_path):
    entries, _ = gather(sorted(download.iterdir()), tmp_path / "scratch")
    assert [e.student for e in entries] == ["doejane", "doejane-1004", "leesam", "wuamy"]


def test_two_of_one_name_are_two_rows_and_it_is_said(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder / "ann", solution())
    entries, lines = gather([tmp_path / "a" / "ann", tmp_path / "b" / "ann"], tmp_path / "scratch")
    assert [e.student for e in entries] == ["ann", "ann-2"]
    assert "ann is the name of several submissions; this one is ann-2" in lines[0]
    assert entries[1].notes == ("ann is the name of several submissions; this one is ann-2",)


def test_names_that_differ_in_unicode_form_are_two_rows(tmp_path):
    for name in ("Jose\u0301", "Jos\u00e9"):
        write(tmp_path / "in" / name, solution())
    entries, lines = gather([tmp_path / "in"], tmp_path / "scratch")
    assert [e.student for e in entries] == ["Jos\u00e9", "Jos\u00e9-2"]
    assert len(lines) == 1


def test_one_submission_that_holds_archives_is_said(tmp_path):
    folder = write(
        tmp_path / "hw", {**solution(), "bob.zip": b"PK\x05\x06" + bytes(18), "eve.zip": b"PK\x05\x06" + bytes(18)}
    )
    entries, lines = gather([folder], tmp_path / "scratch")
    assert [e.student for e in entries] == ["hw"]
    assert "graded as one submission, though it holds bob.zip, eve.zip" in lines[0]


def test_everybody_who_handed_in_something_has_a_row(tmp_path):
    folder = tmp_path / "in"
    write(folder / "alice", solution())
    write(folder / "bob", {"report.docx": b"PK"})
    write(folder / "carol", {"hw.ipynb": b"{}"})
    (folder / "dan").mkdir()
    write(folder, {"eve.pdf": b"%PDF-1.7", "fay.rar": b"Rar!\x1a\x07"})
    entries, lines = gather([folder], tmp_path / "scratch")
    assert [e.student for e in entries] == ["alice", "bob", "carol", "dan", "eve", "fay"]
    assert lines == []


def test_the_folder_for_the_grades_is_nobodys(tmp_path):
    """`cd class; scenelab grade . --out grades`: it became a row, and in a submission it held the seed."""
    for name in ("alice", "bob"):
        write(tmp_path / "class" / name, solution())
    out = tmp_path / "class" / "grades"
    write(out, {"seed": b"1", "students/x/student_code.py": b"x"})
    entries, lines = gather([tmp_path / "class"], tmp_path / "scratch", skip=out)
    assert [e.student for e in entries] == ["alice", "bob"]
    assert lines == []
    found = read([tmp_path / "class"], tmp_path / "into", skip=out)
    assert not (tmp_path / "into" / "grades").exists()
    assert found.digest


def test_an_archive_of_a_platform_is_one_students(tmp_path):
    """Alone in its folder it was opened as a class, with rows of those whose names lie in it."""
    folder = tmp_path / "in"
    folder.mkdir()
    with zipfile.ZipFile(folder / "alice_LATE_12_345_hw.zip", "w") as file:
        for name in ("bob_77_999_hw.zip", "alice_12_346_hw.zip"):
            file.write(write_as_zip(tmp_path / name, solution(), tmp_path / f"s-{name}"), name)
    entries, _ = gather([folder], tmp_path / "scratch")
    assert [(e.student, e.user, e.late) for e in entries] == [("alice", "12", True)]
