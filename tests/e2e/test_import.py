"""A local copy of the data set into a folder: archives, folders and what can be wrong with them."""

import fcntl
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from scenelab.data.fetch.install import check, import_data
from scenelab.errors import LabError

MINIPLACES = Path(__file__).parents[3] / "shared" / "miniplaces"
IMAGES = {f"images/{split}/a/abbey/{n}.jpg": b"\xff\xd8" + bytes([n]) for split in ("train", "val") for n in range(5)}
LISTS = {
    f"{split}.txt": "".join(f"{split}/a/abbey/{n}.jpg 0\n" for n in range(5)).encode() for split in ("train", "val")
}
OBJECTS = {"objects/train/a/abbey/0.xml": b"<a/>"}
needs_miniplaces = pytest.mark.skipif(not MINIPLACES.exists(), reason="MiniPlaces is not at ../shared/miniplaces")


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    source = write(path.with_name("members"), files)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        tar.add(source, arcname=".")
    for name in files:
        (source / name).unlink()
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz", "other.tar"])
@pytest.mark.parametrize("lists", ["beside", "inside"])
def test_tar(source: Path, folder: Path, name: str, lists: str) -> None:
    files = IMAGES | OBJECTS | (LISTS if lists == "inside" else {})
    archive = write_tar(source / name, files, "w:gz" if name.endswith("gz") else "w")
    write(source, LISTS if lists == "beside" else {})
    before = tree(source)
    assert import_data(source if name.startswith("data") else archive, folder)
    assert tree(folder) == IMAGES | OBJECTS | LISTS
    assert list(folder.parent.iterdir()) == [folder]
    assert tree(source) == before


def test_zip(source: Path, folder: Path) -> None:
    with zipfile.ZipFile(source / "mine.zip", "w") as archive:
        for name, content in (IMAGES | LISTS).items():
            archive.writestr(f"miniplaces/{name}", content)
    assert import_data(source / "mine.zip", folder)
    assert tree(folder) == IMAGES | LISTS


def test_lists_beside_go_before_lists_inside(source: Path, folder: Path) -> None:
    archive = write_tar(source / "data.tar", IMAGES | LISTS)
    write(source, {"val.txt": b"val/a/abbey/3.jpg 7\n"})
    import_data(archive, folder)
    assert tree(folder) == IMAGES | LISTS | {"val.txt": b"val/a/abbey/3.jpg 7\n"}


def test_extracted_folder_is_copied_without_links(source: Path, folder: Path) -> None:
    write(source, IMAGES | OBJECTS | LISTS | {"notes.md": b"mine", "categories.txt": b"/a/abbey 0\n"})
    image = source / "images" / "val" / "a" / "abbey" / "0.jpg"
    image.rename(source / "kept")
    image.symlink_to(source / "kept")
    os.mkfifo(source / "images" / "pipe")
    assert import_data(source, folder)
    assert tree(folder) == IMAGES | OBJECTS | LISTS | {"categories.txt": b"/a/abbey 0\n"}
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    assert all(not path.is_symlink() and path.stat().st_nlink == 1 for path in files)


def test_empty_folder_is_filled(source: Path, folder: Path) -> None:
    folder.mkdir()
    assert import_data(write(source, IMAGES | LISTS), folder)
    assert tree(folder) == IMAGES | LISTS


def test_link_to_an_empty_folder_stays_a_link(source: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    folder.symlink_to(tmp_path / "disk")
    assert import_data(write(source, IMAGES | LISTS), folder)
    assert folder.is_symlink()
    assert tree(tmp_path / "disk") == IMAGES | LISTS


def test_whole_folder_is_left_alone(source: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, IMAGES | LISTS | {"mine": b"mine"})
    assert not import_data(write_tar(source / "data.tar", {"images/x.jpg": b""}), folder)
    assert "already holds a whole data set (10 labelled images)" in capsys.readouterr().err
    assert tree(folder) == IMAGES | LISTS | {"mine": b"mine"}


@pytest.mark.parametrize("files", [{"mine": b"mine"}, IMAGES, LISTS], ids=["other", "no lists", "no images"])
def test_other_content_is_left_alone(source: Path, folder: Path, files: dict[str, bytes]) -> None:
    write(folder, files)
    with pytest.raises(LabError, match=r"is not empty and holds no whole data set .*; choose another folder") as caught:
        import_data(write(source, IMAGES | LISTS), folder)
    assert tree(folder) == files
    assert list(folder.parent.iterdir()) == [folder]
    assert "\n" not in str(caught.value)


def test_file_in_the_way(source: Path, folder: Path) -> None:
    folder.write_text("mine")
    with pytest.raises(LabError, match="is a file"):
        import_data(write(source, IMAGES | LISTS), folder)
    assert folder.read_text() == "mine"


def test_missing_images(source: Path, folder: Path) -> None:
    text = LISTS["train.txt"] + b"".join(b"train/b/%d.jpg 1\n" % n for n in range(1000, 2234))
    archive = write_tar(source / "data.tar", IMAGES)
    write(source, LISTS | {"train.txt": text})
    with pytest.raises(LabError) as caught:
        import_data(archive, folder)
    message = "train.txt lists 1,239 images, of which 1,234 are not there: train/b/1000.jpg, "
    assert str(caught.value).startswith(f"{message}train/b/1001.jpg, train/b/1002.jpg, …; get")
    assert "\n" not in str(caught.value)
    assert_nothing_left(folder)


@pytest.mark.parametrize("lists", ["beside", "inside"])
@pytest.mark.parametrize("text", [b"", b"\n\n", b"train/a/abbey/0.jpg zero\n", b"one\n", b"\xff\xfe"])
def test_bad_list(source: Path, folder: Path, lists: str, text: bytes) -> None:
    files = LISTS | {"val.txt": text}
    archive = write_tar(source / "data.tar", IMAGES | (files if lists == "inside" else {}))
    write(source, files if lists == "beside" else {})
    with pytest.raises(LabError, match=r"val.txt") as caught:
        import_data(archive, folder)
    assert_nothing_left(folder)
    assert str(source / "val.txt" if lists == "beside" else archive / "val.txt") in str(caught.value)


@pytest.mark.parametrize("lists", ["beside", "inside", "extracted"])
def test_bad_list_of_categories(source: Path, folder: Path, lists: str) -> None:
    files = LISTS | {"categories.txt": b"\n"}
    if lists != "extracted":
        write_tar(source / "data.tar", IMAGES | (files if lists == "inside" else {}))
    write(source, files if lists == "beside" else IMAGES | files if lists == "extracted" else {})
    with pytest.raises(LabError, match=r"categories.txt lists no categories"):
        import_data(source, folder)
    assert_nothing_left(folder)


def test_no_lists(source: Path, folder: Path) -> None:
    with pytest.raises(LabError, match=r"there is no train.txt in .*data.tar or beside it"):
        import_data(write_tar(source / "data.tar", IMAGES), folder)
    assert_nothing_left(folder)


@pytest.mark.parametrize("what", ["nothing", "empty folder", "device"])
def test_no_source(source: Path, folder: Path, what: str) -> None:
    path = {"nothing": source / "missing.tar", "empty folder": source, "device": Path("/dev/zero")}[what]
    with pytest.raises(LabError, match="is no data set; give an archive"):
        import_data(path, folder)
    assert_nothing_left(folder)


def test_hostile_archive(source: Path, folder: Path) -> None:
    archive = write(source, LISTS) / "data.tar"
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("images")
        link.type, link.linkname = tarfile.SYMTYPE, str(folder.parent)
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("images/evil"))
    with pytest.raises(LabError, match="a link, device"):
        import_data(archive, folder)
    assert_nothing_left(folder)


def test_into_itself(source: Path) -> None:
    write(source, IMAGES | LISTS)
    before = tree(source)
    with pytest.raises(LabError, match="its own subfolder"):
        import_data(source, source / "images" / "data")
    assert not import_data(source, source)
    assert tree(source) == before


def test_current_folder(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(LabError, match=r"cannot be replaced in one step; give .*data/miniplaces"):
        import_data(write(source, IMAGES | LISTS), Path("."))


def test_locked(source: Path, folder: Path) -> None:
    partial = folder.with_name(".data.partial")
    partial.mkdir()
    with (partial / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LabError, match="another process"):
            import_data(write(source, IMAGES | LISTS), folder)
    assert not folder.exists()
    assert import_data(source, folder)
    assert list(folder.parent.iterdir()) == [folder]


def test_whole_folder_needs_no_lock(source: Path, folder: Path) -> None:
    partial = write(folder.with_name(".data.partial"), {"lock": b""})
    write(folder, IMAGES | LISTS)
    with (partial / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not import_data(write(source, IMAGES | LISTS), folder)


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


def test_failed_import_keeps_a_begun_download(source: Path, folder: Path) -> None:
    partial = write(folder.with_name(".data.partial"), {"archive.part": b"begun", "data/images/old.jpg": b"old"})
    with pytest.raises(LabError, match=r"no train.txt"):
        import_data(write_tar(source / "data.tar", IMAGES), folder)
    assert tree(partial) == {"archive.part": b"begun", "lock": b""}
    assert import_data(write_tar(source / "data.tar", IMAGES | LISTS), folder)
    assert tree(folder) == IMAGES | LISTS
    assert list(folder.parent.iterdir()) == [folder]


@needs_miniplaces
def test_a_few_real_members(source: Path, folder: Path) -> None:
    with tarfile.open(MINIPLACES / "data.tar") as tar, tarfile.open(source / "data.tar", "w") as few:
        for _ in range(20):
            member = tar.next()
            assert member is not None
            few.addfile(member, tar.extractfile(member))
    lines = (MINIPLACES / "train.txt").read_text().splitlines(keepends=True)[:20]
    write(source, {name: "".join(lines).encode() for name in LISTS})
    for name in ("categories.txt", "object_categories.txt"):
        write(source, {name: (MINIPLACES / name).read_bytes()})
    assert import_data(source, folder)
    assert check(folder) == 40
    assert (folder / "images" / "train/a/abbey/00000001.jpg").read_bytes().startswith(b"\xff\xd8")


@pytest.mark.slow
@needs_miniplaces
def test_all_real_members(folder: Path) -> None:
    assert import_data(MINIPLACES / "data.tar", folder)
    assert check(folder) == 35_000
