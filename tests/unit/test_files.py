import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from folders import limited_file_size
from scenelab.errors import LabError
from scenelab.io import atomic_write, files_below, is_file, name_disk_errors, read_json, temporary_folder, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, 1)
    with pytest.raises(RuntimeError), atomic_write(path, "w") as file:
        file.write("half")
        raise RuntimeError
    assert read_json(path) == 1
    assert os.listdir(tmp_path) == ["value.json"]


def test_the_file_is_not_there_before_it_is_whole_and_follows_the_umask(tmp_path):
    path = tmp_path / "deep" / "value.bin"
    earlier = os.umask(0o027)
    try:
        with atomic_write(path) as file:
            file.write(b"some")
            file.flush()
            assert not path.exists()
    finally:
        os.umask(earlier)
    assert path.read_bytes() == b"some"
    assert path.stat().st_mode & 0o777 == 0o640


def test_an_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabError, match=r"^cannot write .*value\.json: .*; free space or choose a writable folder$"):
        write_json(tmp_path / "file" / "value.json", 1)


WRITER = Path(__file__).parents[1] / "programs" / "write_value.py"


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "value.bin"
    path.write_bytes(b"old")
    with limited_file_size(4096), pytest.raises(LabError, match=f"^cannot write {path}: "), atomic_write(path) as file:
        file.write(bytes(100_000))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["value.bin"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "be read as JSON"), (b"\xff\xfe", "is UTF-16, not utf-8; save it as UTF-8"), (None, "does not exist")],
)
def test_missing_or_damaged_json_is_one_line(tmp_path, content, message):
    path = tmp_path / "value.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LabError, match=message):
        read_json(path)


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / "value.json"
    for _ in range(2):
        assert subprocess.run([sys.executable, WRITER, path, "die"], check=False).returncode == -9
        assert len(list(tmp_path.glob(".value.json.*.part"))) == 2
    write_json(path, 1)
    assert os.listdir(tmp_path) == ["value.json"]


def test_what_another_writer_is_writing_stays(tmp_path):
    path = tmp_path / "value.bin"
    with atomic_write(path) as first:
        first.write(b"first")
        with temporary_folder(path) as folder, atomic_write(path) as second:
            second.write(b"second")
            assert folder.is_dir()
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["value.bin"]


def test_many_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    """None takes what another is about to lock for abandoned."""
    path = tmp_path / "value.json"
    writers = [subprocess.Popen([sys.executable, WRITER, path]) for _ in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert read_json(path) == [199] * 100
    assert os.listdir(tmp_path) == ["value.json"]


def test_a_folder_that_cannot_be_listed_is_no_empty_folder(tmp_path, unreadable):
    for name in ("a/1.jpg", "a/.b/2.jpg", "3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("none")
    assert sorted(files_below(tmp_path)) == ["3.jpg", "a/.b/2.jpg", "a/1.jpg", "link"]
    assert list(files_below(tmp_path / "none")) == list(files_below(tmp_path / "3.jpg")) == []
    assert sorted(files_below(tmp_path, skip=lambda path: path == "a/.b")) == ["3.jpg", "a/1.jpg", "link"]
    unreadable(tmp_path / "a" / ".b")
    with pytest.raises(OSError, match="Input/output error") as caught:
        list(files_below(tmp_path))
    assert caught.value.filename == str(tmp_path / "a" / ".b")


def test_an_error_of_the_disk_gets_a_path_where_it_tells_none(tmp_path):
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with full, pytest.raises(OSError, match="No space left") as caught, name_disk_errors(tmp_path):
        full.write(b"more")
    assert caught.value.filename == str(tmp_path)
    with pytest.raises(FileNotFoundError) as caught, name_disk_errors(tmp_path):
        (tmp_path / "none").read_bytes()
    assert caught.value.filename == str(tmp_path / "none")


def test_whether_a_file_is_there(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    assert is_file(tmp_path / "file")
    assert is_file(tmp_path / "link")
    assert not any(is_file(tmp_path / name) for name in (".", "none", "file/none", "loop"))

    def fail(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("os.stat", fail)
    with pytest.raises(OSError, match="Input/output error"):
        is_file(tmp_path / "file")
