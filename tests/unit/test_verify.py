"""The check of a data folder: an intact folder has no faults, and each kind of fault is reported once."""

import os
import shutil

import pytest
from PIL import Image

from folders import write_tree
from scenelab.data.verify import SplitReport, verify
from scenelab.errors import LabError


@pytest.fixture
def folder(scenes, tmp_path):
    return shutil.copytree(scenes, tmp_path / "data")


@pytest.fixture
def name(folder) -> str:
    """The first training image."""
    return (folder / "train.txt").read_text().split()[0]


def without_faults(report: SplitReport) -> SplitReport:
    return SplitReport(split=report.split, images=report.images, per_class=report.per_class)


def test_an_intact_folder_has_no_faults(scenes):
    reports = verify(scenes)
    assert reports == [without_faults(report) for report in reports]
    assert [(report.split, report.images, report.faults) for report in reports] == [("train", 72, 0), ("val", 36, 0)]
    assert [sorted(report.per_class.values()) for report in reports] == [[6] * 12, [3] * 12]


def test_each_missing_unreadable_or_resized_file_is_one_fault(folder):
    missing, unreadable, resized = [line.split()[0] for line in (folder / "train.txt").read_text().splitlines()[:3]]
    (folder / "images" / missing).unlink()
    os.truncate(folder / "images" / unreadable, 500)
    Image.new("RGB", (128, 96)).save(folder / "images" / resized)
    train, val = verify(folder)
    assert (train.missing, list(train.unreadable), train.wrong_size) == ([missing], [unreadable], {resized: (96, 128)})
    assert train.unreadable[unreadable].startswith(f"image {folder / 'images' / unreadable} cannot be decoded")
    assert (train.faults, val.faults) == (3, 0)
    assert verify(folder, size=None)[0].faults == 2
    assert len(verify(folder, size=64)[1].wrong_size) == 36


@pytest.mark.parametrize("missing", [False, True])
def test_a_file_that_is_listed_twice_is_one_fault(folder, name, missing):
    path = folder / "train.txt"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    if missing:
        (folder / "images" / name).unlink()
    train, _ = verify(folder)
    assert (train.listed_twice, train.images, train.faults) == ([name], 73, 1 + missing)
    assert train.missing == [name] * missing
    assert sorted(train.per_class.values()) == [6] * 11 + [7]


@pytest.mark.parametrize("prefix", ["./", "././", ".//"])
def test_paths_of_a_list_are_normalized(folder, name, prefix):
    path = folder / "train.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(prefix + line for line in lines) + lines[0])
    train, _ = verify(folder)
    assert (train.not_listed, train.listed_twice, train.missing, train.faults) == ([], [name], [], 1)


def test_an_unlisted_image_is_reported_but_not_a_fault(folder, name):
    for extra in ("extra.jpg", "EXTRA.TIF", "@eaDir/1.jpg"):
        write_tree(folder / "images" / "val", {extra: (folder / "images" / name).read_bytes()})
    write_tree(folder / "images" / "val", {"notes.txt": b"text", "new.nef": b"x"})
    train, val = verify(folder)
    assert (val.not_listed, val.unused) == (["val/EXTRA.TIF", "val/extra.jpg"], ["val/new.nef", "val/@eaDir/"])
    assert (val.faults, train.not_listed, train.unused) == (0, [], [])


def test_a_tree_is_verified_too(tmp_path):
    for name in ("abbey", "beach"):
        (tmp_path / name).mkdir()
        for index in range(10):
            Image.new("RGB", (40, 30)).save(tmp_path / name / f"{index}.png")
    (tmp_path / "beach" / "1.nef").touch()
    train, val = verify(tmp_path, size=None)
    assert (train.unused, val.unused) == (["beach/1.nef"], [])
    assert (train.per_class, val.per_class) == ({"abbey": 9, "beach": 9}, {"abbey": 1, "beach": 1})
    assert (train.faults, val.faults, train.not_listed) == (0, 0, [])
    assert verify(tmp_path)[0].faults == 18


def test_a_folder_without_a_list_is_refused(folder):
    (folder / "val.txt").unlink()
    with pytest.raises(LabError, match=r"val\.txt does not exist"):
        verify(folder)
