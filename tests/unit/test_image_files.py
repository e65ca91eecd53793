"""Which files of a folder are images: by suffix or content, and what is named because it is not used."""

import io
from pathlib import Path

import pytest
from PIL import Image

from folders import write_tree
from scenelab.data.image_files import OTHER_PROGRAMS, READ
from scenelab.data.splits import open_dataset, read_tree


def image_of(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, kind)
    return stream.getvalue()


LISTED = "a.jpg b.jpeg c.jpe d.jfif e.png f.webp g.gif h.bmp i.tif j.tiff k.JPG l.Jpeg m.JFIF n.TIF o.BMP".split()
LISTED += ["p.heic", "q.AVIF", "r.heif"]
BY_CONTENT = {"JPEG": "3 4.jpg_large 5.mpo 6.HEIC 7.txt 8.jpg.1", "PNG": "9 10.apng 11.PNG!d", "BMP": "12.dib"}
BY_CONTENT |= {"GIF": "13", "TIFF": "14 15.gtiff", "WEBP": "16.jpg?x=1"}
UNUSED = {
    "1.jxl": b"x",
    "2.CR3": b"x",
    "3.svg": b"<svg/>",
    "3.dib": b"\x28\0\0\0",
    "4": b"\0\0\0\x18ftypcrx ",
    "5.jp2": b"x",
    "6.psd": b"8BPS\0",
}
UNUSED |= {"7.nef": image_of("TIFF"), "8.jpg.bak": image_of("JPEG"), "9.png~": image_of("PNG"), ".10.jpg": b"x"}
UNUSED |= {"11.jpg.crdownload": image_of("JPEG")}
OTHER = {
    "notes.txt": b"BM is short for BMW and nothing else",
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    ".DS_Store": b"\0\0\0\1Bud1",
}
OTHER |= {"desktop.ini": b"[x]", "._1.jpg": b"\0\5\x16\7", "empty": b"", "video.mp4": b"\0\0\0\x18ftypisom"}


def test_every_format_that_is_read_is_listed_and_other_images_are_named(tmp_path):
    found = dict.fromkeys(LISTED, b"x")
    found |= {name: image_of(kind) for kind, names in BY_CONTENT.items() for name in names.split()}
    for folder in ("abbey", "beach"):
        write_tree(
            tmp_path / folder,
            found | {f"un{name}" if name[0] != "." else name: UNUSED[name] for name in UNUSED} | OTHER,
        )
    (tmp_path / "beach" / "broken.jpg").symlink_to("nowhere")
    write_tree(tmp_path, {"banner.png": b"x"})
    train, val = read_tree(tmp_path, "train"), read_tree(tmp_path, "val")
    names = sorted(Path(path).name for path in train.paths + val.paths if path.startswith("abbey/"))
    assert names == sorted(found)
    unused = {f"abbey/{'un' if name[0] != '.' else ''}{name}" for name in UNUSED}
    unused |= {path.replace("abbey", "beach") for path in unused} | {"banner.png", "beach/broken.jpg"}
    assert (set(train.unused), val.unused) == (unused, ())


HIDDEN = ".Trash-1000 .thumbnails .AppleDouble .git .ipynb_checkpoints .@__thumb".split()
THREE_EACH = {f"{name}/{index}.jpg": b"x" for name in ("abbey", "beach") for index in range(3)}


@pytest.mark.parametrize(
    "name", [*sorted(OTHER_PROGRAMS), "@eaDir", "$RECYCLE.BIN", *HIDDEN, "System Volume Information"]
)
@pytest.mark.parametrize("layout", ["{name}/{image}", "abbey/{name}/{image}", "abbey/old/{name}/{image}"])
def test_folders_of_other_programs_are_passed_over_and_named(tmp_path, name, layout):
    write_tree(tmp_path / "flat", THREE_EACH)
    write_tree(tmp_path / "split" / "train", THREE_EACH)
    write_tree(tmp_path / "split" / "val", THREE_EACH)
    for root, images in ((tmp_path / "flat", 4), (tmp_path / "split", 6)):
        expected = read_tree(root, "train")
        below = root if root.name == "flat" else root / "train"
        write_tree(below, {layout.format(name=name, image=image): b"x" for image in ("1.jpg", "1.jpg.d/2.jpg")})
        train = read_tree(root, "train")
        assert (train.paths, train.categories, len(train)) == (expected.paths, ("abbey", "beach"), images)
        assert [path.rstrip("/").rpartition("/")[2] for path in train.unused] == [name]
        assert read_tree(root, "val").categories == ("abbey", "beach")


def test_what_is_not_used_is_said_once_when_a_data_set_is_opened(tmp_path, capsys):
    for name in ("abbey/1.tif", "abbey/2.TIFF", "beach/1.jfif", "beach/2"):
        write_tree(tmp_path, {name: image_of("JPEG" if "jfif" in name else "TIFF")})
    unused = ("abbey/1.nef", "beach/\x1b[2J.jxl", "@eaDir/1.jpg", "abbey/@eaDir/1.jpg", "__MACOSX/abbey/._1.tif")
    write_tree(tmp_path, dict.fromkeys(unused, b"x"))
    train, val = (open_dataset(tmp_path, None, split, 8) for split in ("train", "val"))
    assert (len(train), len(val), train.categories) == (2, 2, ("abbey", "beach"))
    said = [line for line in capsys.readouterr().err.splitlines() if "not used" in line]
    assert said == [
        f"train of {tmp_path}: 2 files that look like images are not used, first abbey/1.nef ({READ}); "
        "folders passed over: @eaDir, __MACOSX"
    ]


def test_links_to_class_folders_are_followed_and_links_below_them_are_named(tmp_path):
    write_tree(tmp_path / "elsewhere", {f"{index}.jpg": b"x" for index in range(3)})
    write_tree(tmp_path / "data", {f"abbey/{index}.jpg": b"x" for index in range(3)})
    (tmp_path / "data" / "beach").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "abbey" / "more").symlink_to(tmp_path / "elsewhere")
    train = read_tree(tmp_path / "data", "train")
    assert (train.categories, train.unused) == (("abbey", "beach"), ("abbey/more/",))


@pytest.mark.parametrize("target", [".", "..", "../..", "../data", "abbey/../../data", "self"])
@pytest.mark.parametrize("name", ["loop", "train", "val"])
def test_links_to_the_folder_itself_or_above_it_are_no_classes(tmp_path, name, target):
    for root in (tmp_path / "data", tmp_path / "split" / "train"):
        write_tree(root, THREE_EACH)
        (root / "self").symlink_to(root)
        (root / name).symlink_to(target if root.name == "data" else target.replace("data", "train"))
    write_tree(tmp_path / "split" / "val", THREE_EACH)
    train = read_tree(tmp_path / "data", "train")
    assert (train.categories, len(train), set(train.unused)) == (("abbey", "beach"), 4, {f"{name}/", "self/"})
    train, val = (read_tree(tmp_path / "split", split) for split in ("train", "val"))
    assert (train.categories, len(train), len(val)) == (("abbey", "beach"), 6, 6)
    assert set(train.unused) >= {f"train/{name}/", "train/self/"}


@pytest.mark.parametrize("name", ["train", "Training", "val", "test", "dev"])
def test_a_class_may_be_called_as_a_split(tmp_path, name):
    write_tree(tmp_path, THREE_EACH | {f"{name}/{index}.jpg": b"x" for index in range(3)})
    assert len(read_tree(tmp_path, "train")) == 6
    assert set(read_tree(tmp_path, "val").categories) == {"abbey", "beach", name}
