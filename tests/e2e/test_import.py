"""A local copy of the data set into a folder: archives, folders and what can be wrong with them."""

import fcntl
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from folders import tar_of, tree
from folders import write_tree as write
from scenelab.data.fetch.install import check, import_data
from scenelab.data.miniplaces import read_list
from scenelab.errors import LabError

MINIPLACES = Path(__file__).parents[3] / "shared" / "miniplaces"
IMAGES = {f"images/{split}/a/abbey/{n}.jpg": b"\xff\xd8" + bytes([n]) for split in ("train", "val") for n in range(5)}
LISTS = {
    f"{split}.txt": "".join(f"{split}/a/abbey/{n}.jpg 0\n" for n in range(5)).encode() for split in ("train", "val")
}
OBJECTS = {"objects/train/a/abbey/0.xml": b"<a/>"}
needs_miniplaces = pytest.mark.skipif(not MINIPLACES.exists(), reason="MiniPlaces is not at ../shared/miniplaces")


def write_archive(path: Path, files: dict[str, bytes], top: str = "") -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(f"{top}{name}", content)
        return path
    path.write_bytes(tar_of({f"{top}{name}": content for name, content in files.items()}, gz=path.suffix == ".gz"))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / "data"


def assert_nothing_left(folder: Path) -> None:
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz", "other.tar", "mine.zip"])
@pytest.mark.parametrize("lists", ["beside", "inside"])
def test_an_archive_is_imported(source: Path, folder: Path, name: str, lists: str) -> None:
    files = IMAGES | OBJECTS | (LISTS if lists == "inside" else {})
    archive = write_archive(source / name, files, "./" if name.endswith(".tar") else "miniplaces/")
    write(source, LISTS if lists == "beside" else {})
    before = tree(source)
    assert import_data(source if name.startswith("data") else archive, folder)
    assert tree(folder) == IMAGES | OBJECTS | LISTS
    assert list(folder.parent.iterdir()) == [folder]
    assert tree(source) == before


def test_lists_beside_go_before_lists_inside(source: Path, folder: Path) -> None:
    archive = write_archive(source / "data.tar", IMAGES | LISTS)
    other = write(source, {"val.txt": b"val/a/abbey/3.jpg 7\n"}) / "val.txt"
    import_data(archive, folder)
    assert tree(folder) == IMAGES | LISTS | {"val.txt": other.read_bytes()}


def test_extracted_folder_is_copied_without_links(source: Path, folder: Path) -> None:
    write(source, IMAGES | OBJECTS | LISTS | {"notes.md": b"mine", "categories.txt": b"/a/abbey 0\n"})
    image = source / "images" / "val" / "a" / "abbey" / "0.jpg"
    image.rename(source / "kept")
    image.symlink_to(source / "kept")
    os.mkfifo(source / "images" / "pipe")
    write(source, {"images/train/@eaDir/x.jpg": b"x", "images/Thumbs.db": b"x", "images/val/._0.jpg": b"x"})
    assert import_data(source, folder)
    assert tree(folder) == IMAGES | OBJECTS | LISTS | {"categories.txt": b"/a/abbey 0\n"}
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    assert all(not path.is_symlink() and path.stat().st_nlink == 1 for path in files)


@pytest.mark.parametrize("linked", [False, True])
def test_an_empty_folder_is_filled_and_a_link_to_one_stays(source: Path, folder: Path, linked: bool) -> None:
    (folder.parent / "disk" if linked else folder).mkdir()
    if linked:
        folder.symlink_to(folder.parent / "disk")
    assert import_data(write(source, IMAGES | LISTS), folder)
    assert folder.is_symlink() == linked
    assert tree(folder.resolve()) == IMAGES | LISTS


def test_a_whole_folder_is_left_alone(source: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, IMAGES | LISTS | {"mine": b"mine"})
    assert not import_data(write_archive(source / "data.tar", {"images/x.jpg": b""}), folder)
    assert "already holds a whole data set (10 labeled images)" in capsys.readouterr().err
    assert tree(folder) == IMAGES | LISTS | {"mine": b"mine"}


@pytest.mark.parametrize(
    "files", [{"mine": b"mine"}, IMAGES, LISTS, None], ids=["other", "no lists", "no images", "file"]
)
def test_other_content_is_left_alone(source: Path, folder: Path, files: dict[str, bytes] | None) -> None:
    if files is None:
        folder.write_text("mine")
    else:
        write(folder, files)
    message = "is a file" if files is None else "is not empty and holds no whole data set .*; choose another folder"
    with pytest.raises(LabError, match=message) as caught:
        import_data(write(source, IMAGES | LISTS), folder)
    assert folder.read_text() == "mine" if files is None else tree(folder) == files
    assert list(folder.parent.iterdir()) == [folder]
    assert "\n" not in str(caught.value)


def test_missing_images_are_counted_and_the_first_named(source: Path, folder: Path) -> None:
    text = LISTS["train.txt"] + b"".join(b"train/b/%d.jpg 1\n" % n for n in range(1000, 2234))
    archive = write_archive(source / "data.tar", IMAGES)
    write(source, LISTS | {"train.txt": text})
    with pytest.raises(LabError) as caught:
        import_data(archive, folder)
    message = "train.txt lists 1,239 images, of which 1,234 are not there: train/b/1000.jpg, "
    assert str(caught.value).startswith(f"{message}train/b/1001.jpg, train/b/1002.jpg, …; get")
    assert "\n" not in str(caught.value)
    assert_nothing_left(folder)


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_missing_images_can_be_left_out(source: Path, folder: Path, form: str, capsys) -> None:
    text = LISTS["train.txt"] + b"train/b/1.jpg 1\ntrain/b/2.jpg 1\n"
    where = write(source, IMAGES | LISTS | {"train.txt": text})
    if form == "archive":
        where = write_archive(source.parent / "data.tar", IMAGES | LISTS | {"train.txt": text})
    assert import_data(where, folder, skip_missing=True)
    assert read_list(folder / "train.txt") == read_list(write(source, LISTS) / "train.txt")
    assert "train.txt: 2 of 7 images are missing and left out" in capsys.readouterr().err


def test_missing_images_are_named_before_anything_is_copied(source: Path, folder: Path, monkeypatch) -> None:
    write(source, IMAGES | LISTS | {"train.txt": LISTS["train.txt"] + b"train/b/1.jpg 1\n"})
    monkeypatch.setattr("shutil.copyfile", None)
    with pytest.raises(LabError, match="of which 1 are not there.*or leave them out with data import --missing skip"):
        import_data(source, folder)


BAD = [("val.txt", text) for text in (b"", b"\n\n", b"train/a/abbey/0.jpg zero\n", b"one\n", b"\xff\xfe")]


@pytest.mark.parametrize("lists", ["beside", "inside", "extracted"])
@pytest.mark.parametrize(("name", "text"), [*BAD, ("categories.txt", b"\n")])
def test_an_invalid_list_is_refused_and_named(source: Path, folder: Path, lists: str, name: str, text: bytes) -> None:
    files = LISTS | {name: text}
    if lists != "extracted":
        write_archive(source / "data.tar", IMAGES | (files if lists == "inside" else {}))
    write(source, {"beside": files, "inside": {}, "extracted": IMAGES | files}[lists])
    with pytest.raises(LabError, match=name) as caught:
        import_data(source, folder)
    assert_nothing_left(folder)
    place = source / "data.tar" / name if lists == "inside" else source / name
    assert str(place) in str(caught.value) or "categories.txt lists no categories" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("source/data.tar", r"there is no train.txt in .*data.tar or beside it"),
        ("source/missing.tar", "is no data set; give an archive"),
        ("empty", "is no data set; give an archive"),
        ("/dev/zero", "is no data set; give an archive"),
    ],
)
def test_what_is_no_data_set_is_refused(source: Path, folder: Path, name: str, message: str) -> None:
    write_archive(source / "data.tar", IMAGES)
    source.with_name("empty").mkdir()
    with pytest.raises(LabError, match=message):
        import_data(source.parent / name, folder)
    assert_nothing_left(folder)


def test_a_url_is_no_source(folder: Path) -> None:
    with pytest.raises(LabError, match=r"^source is the URL https://x/d\.zip; expected an archive or a folder"):
        import_data(Path("https://x/d.zip"), folder)


def test_neither_a_subfolder_nor_the_current_folder_is_filled(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(source, IMAGES | LISTS)
    before = tree(source)
    with pytest.raises(LabError, match="its own subfolder"):
        import_data(source, source / "images" / "data")
    assert not import_data(source, source)
    assert tree(source) == before
    source.with_name("data").mkdir()
    monkeypatch.chdir(source.with_name("data"))
    with pytest.raises(LabError, match=r"cannot be replaced in one step; give .*data/miniplaces"):
        import_data(source, Path("."))


def test_another_process_that_holds_the_lock_is_named(source: Path, folder: Path) -> None:
    partial = write(folder.with_name(".data.partial"), {"lock": b""})
    with (partial / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LabError, match="another process"):
            import_data(write(source, IMAGES | LISTS), folder)
        assert not folder.exists()
        write(folder, IMAGES | LISTS)
        assert not import_data(source, folder)  # a whole folder needs no lock
    shutil.rmtree(folder)
    assert import_data(source, folder)
    assert list(folder.parent.iterdir()) == [folder]


def test_other_process_ends_just_before_the_lock(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock, calls = fcntl.flock, []

    def other_ends(handle: int, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:
            (folder.with_name(".data.partial") / "lock").unlink()
            write(folder, IMAGES | LISTS | {"mine": b"other"})
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", other_ends)
    assert not import_data(write(source, IMAGES | LISTS), folder)
    assert len(calls) == 2
    assert tree(folder) == IMAGES | LISTS | {"mine": b"other"}
    assert list(folder.parent.iterdir()) == [folder]


def test_name_comes_last_and_at_once(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    def sync() -> None:
        built = folder.with_name(".data.partial") / "data"
        assert tree(built) == IMAGES | LISTS
        assert not folder.exists()
        synced.append(built.stat().st_ino)

    monkeypatch.setattr(os, "sync", sync)
    import_data(write(source, IMAGES | LISTS), folder)
    assert synced == [folder.stat().st_ino]


def test_a_failed_import_keeps_a_begun_download(source: Path, folder: Path) -> None:
    partial = write(folder.with_name(".data.partial"), {"archive.part": b"begun", "data/images/old.jpg": b"old"})
    with pytest.raises(LabError, match=r"no train.txt"):
        import_data(write_archive(source / "data.tar", IMAGES), folder)
    assert tree(partial) == {"archive.part": b"begun", "lock": b""}
    assert import_data(write_archive(source / "data.tar", IMAGES | LISTS), folder)
    assert tree(folder) == IMAGES | LISTS
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.slow
@needs_miniplaces
def test_all_real_members(folder: Path) -> None:
    assert import_data(MINIPLACES / "data.tar", folder)
    assert check(folder) == 35_000
