"""Is a data folder whole? A clean folder has no faults, and each kind of fault is found once."""

import shutil

import pytest
from PIL import Image

from scenelab.data.verify import SplitReport, verify
from scenelab.errors import LabError


@pytest.fixture
def folder(scenes, tmp_path):
    return shutil.copytree(scenes, tmp_path / "data")


def clean(split: str, images: int, each: int, report: SplitReport) -> SplitReport:
    names = dict.fromkeys(report.per_class, each)
    return SplitReport(split=split, images=images, per_class=names)


def test_a_clean_folder(scenes):
    train, val = verify(scenes)
    assert train == clean("train", 72, 6, train)
    assert val == clean("val", 36, 3, val)
    assert len(train.per_class) == 12
    assert train.faults == val.faults == 0


def first(folder) -> str:
    return (folder / "train.txt").read_text().split()[0]


def test_a_missing_file(folder):
    name = first(folder)
    (folder / "images" / name).unlink()
    train, val = verify(folder)
    assert train.missing == [name]
    assert (train.faults, val.faults) == (1, 0)
    assert (train.unreadable, train.wrong_size, train.listed_twice, train.not_listed) == ({}, {}, [], [])


def test_an_unreadable_file(folder):
    name = first(folder)
    path = folder / "images" / name
    path.write_bytes(path.read_bytes()[:500])
    train, _ = verify(folder)
    assert list(train.unreadable) == [name]
    assert train.unreadable[name].startswith(f"image {path} cannot be decoded")
    assert (train.faults, train.missing, train.wrong_size) == (1, [], {})


def test_a_file_of_the_wrong_size(folder):
    name = first(folder)
    Image.new("RGB", (128, 96)).save(folder / "images" / name)
    train, _ = verify(folder)
    assert train.wrong_size == {name: (96, 128)}
    assert (train.faults, train.missing, train.unreadable) == (1, [], {})
    assert verify(folder, size=None)[0].faults == 0
    assert len(verify(folder, size=64)[1].wrong_size) == 36


def test_a_file_that_is_listed_twice(folder):
    path = folder / "train.txt"
    line = path.read_text().splitlines()[0]
    path.write_text(path.read_text() + line + "\n")
    train, _ = verify(folder)
    assert (train.listed_twice, train.images, train.faults) == ([line.split()[0]], 73, 1)
    assert sorted(train.per_class.values()) == [6] * 11 + [7]


def test_a_missing_file_that_is_listed_twice_is_missing_once(folder):
    path = folder / "train.txt"
    line = path.read_text().splitlines()[0]
    path.write_text(path.read_text() + line + "\n")
    (folder / "images" / first(folder)).unlink()
    train, _ = verify(folder)
    assert train.missing == train.listed_twice == [line.split()[0]]
    assert train.faults == 2


def test_a_file_that_no_list_names_is_told_and_is_no_fault(folder):
    shutil.copy(folder / "images" / first(folder), folder / "images" / "val" / "extra.jpg")
    (folder / "images" / "val" / "notes.txt").write_text("no image")
    train, val = verify(folder)
    assert val.not_listed == ["val/extra.jpg"]
    assert (train.not_listed, val.faults) == ([], 0)


def test_a_tree_of_ones_own(tmp_path):
    for name in ("abbey", "beach"):
        (tmp_path / name).mkdir()
        for index in range(10):
            Image.new("RGB", (40, 30)).save(tmp_path / name / f"{index}.png")
    train, val = verify(tmp_path, size=None)
    assert (train.per_class, val.per_class) == ({"abbey": 9, "beach": 9}, {"abbey": 1, "beach": 1})
    assert (train.faults, val.faults, train.not_listed) == (0, 0, [])
    assert verify(tmp_path)[0].faults == 18


def test_a_folder_without_a_list(folder):
    (folder / "val.txt").unlink()
    with pytest.raises(LabError, match=r"val\.txt does not exist"):
        verify(folder)
