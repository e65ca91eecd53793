"""Canvas's downloads: names, re-uploads, lateness, zips of zips."""

import zipfile

import pytest

from mutants import solution, write, write_as_zip
from scenelab.errors import LabError
from scenelab.grading.discovery import gather


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
