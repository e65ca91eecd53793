"""Lists of images: MiniPlaces' text files, and trees with one folder per class."""

import os
import random
import re
import runpy
from pathlib import Path

import pytest

from folders import write_tree
from scenelab.data import image_files
from scenelab.data.miniplaces import is_miniplaces, list_test, read_categories, read_list, read_split
from scenelab.data.splits import open_split, read_tree, val_paths
from scenelab.errors import LabError
from scenelab.io import files_below

KIT = Path(image_files.__file__).parents[1] / "course" / "kit" / "files" / "code" / "miniplaces.py"
MiniPlaces = runpy.run_path(str(KIT))["MiniPlaces"]  # students have it as a file


def write(path: Path, content: str | bytes) -> Path:
    return write_tree(path.parent, {path.name: content.encode() if isinstance(content, str) else content}) / path.name


def touch(root: Path, *names: str) -> Path:
    return write_tree(root, dict.fromkeys(names, b"x"))


def make_tree(root: Path, **counts: int) -> Path:
    return touch(root, *(f"{name}/{index}.jpg" for name, count in counts.items() for index in range(count)))


def assert_refused(message: str, call, *args) -> None:
    with pytest.raises(LabError) as caught:
        call(*args)
    assert str(caught.value) == message


READ = {
    "plain": ("train/a/x.jpg 0\ntrain/b/y.jpg 12\n", [("train/a/x.jpg", 0), ("train/b/y.jpg", 12)]),
    "no final newline": ("a 0\nb 12", [("a", 0), ("b", 12)]),
    "CRLF": ("a 0\r\nb 12\r\n", [("a", 0), ("b", 12)]),
    "BOM": ("\ufeffa 0\nb 12\n", [("a", 0), ("b", 12)]),
    "blank lines": ("\n  \na 0\n\n\tb   12 \n\n", [("a", 0), ("b", 12)]),
    "spaces": ("sea side/1 of 2.jpg 3\nBäume/山 1.jpg 4\n", [("sea side/1 of 2.jpg", 3), ("Bäume/山 1.jpg", 4)]),
    "repeated lines": ("b 1\na 0\nb 1\n", [("b", 1), ("a", 0), ("b", 1)]),
    "dots": ("a..b/c...jpg 0\n", [("a..b/c...jpg", 0)]),
    "CR": ("a 0\rb 12\r", [("a", 0), ("b", 12)]),
    "BOM and CRLF": ("\ufeffa b.jpg 0\r\nb 12 \t\r\n\r\n", [("a b.jpg", 0), ("b", 12)]),
    "backslashes of Windows": ("train\\a b\\x.jpg 0\n", [("train/a b/x.jpg", 0)]),
    "a backslash in a name": ("train/a\\b.jpg 0\n", [("train/a\\b.jpg", 0)]),
    "line breaks of other scripts": ("a\x85\u2028\x0c\x1cb.jpg 0\n", [("a\x85\u2028\x0c\x1cb.jpg", 0)]),
    "Latin-1": (b"caf\xe9/\xff.jpg 0\n", [(os.fsdecode(b"caf\xe9/\xff.jpg"), 0)]),
    "quotes, formulas, tabs": ("'\"a\tb$x$=#%.jpg 0\n", [("'\"a\tb$x$=#%.jpg", 0)]),
    "NFC and NFD": ("\u00e9 0\ne\u0301 1\nE 2\ne 3\n", [("\u00e9", 0), ("e\u0301", 1), ("E", 2), ("e", 3)]),
    "a comment that ends in a number": ("# list 3\na 0\n", [("# list", 3), ("a", 0)]),
    "a colon": ("a:b.jpg 0\n", [("a:b.jpg", 0)]),
}


@pytest.mark.parametrize(("content", "expected"), READ.values(), ids=READ)
def test_a_list_is_read_in_its_order_by_the_package_and_by_the_kit(tmp_path, content, expected):
    path = write(tmp_path / "train.txt", content)
    assert read_list(path) == expected
    assert MiniPlaces(tmp_path, "train", None).images == expected


EXPECTED = "expected 'path label' with a label from 0 to 999999"
LINES = "a/x.jpg|0|x.jpg -1|x.jpg 1.5|x.jpg ²|x.jpg ٣|x.jpg\t1|x 1000000|a\0b 0".split("|")
EMPTY = "lists no images; get it again with 'scenelab data download' or 'scenelab data import'"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((f"good.jpg 0\n\n{line}\n", f"line 3 is {line!r}; {EXPECTED}") for line in LINES),
        *(
            (f"good.jpg 0\n{name} 1\n", f"line 2 is {name!r}, outside the data folder; use a path below images/")
            for name in ("/etc/passwd", "../x.jpg", "train/../../x.jpg", "train/..", "C:/x.jpg")
        ),
        *((content, EMPTY) for content in ("", "\n \n", "\ufeff")),
        (None, "does not exist; give a folder made by 'scenelab data download', 'import' or 'synth'"),
    ],
)
def test_an_invalid_list_is_refused_and_its_line_named(tmp_path, content, message):
    path = tmp_path / "train.txt"
    if content is not None:
        write(path, content)
    assert_refused(f"{path} {message}", read_list, path)
    with pytest.raises(SystemExit, match=r"^[^\n]+\Z"):
        MiniPlaces(tmp_path, "train", None)


@pytest.mark.parametrize(
    "name", [r"\etc\passwd", r"..\x.jpg", r"train\..\..\x.jpg", r"C:\x.jpg", r"\\host\share\x.jpg"]
)
def test_a_list_of_windows_does_not_lead_out(tmp_path, name):
    path = write(tmp_path / "train.txt", f"{name} 0\n")
    with pytest.raises(LabError, match="outside the data folder"):
        read_list(path)
    with pytest.raises(SystemExit, match="line 1"):
        MiniPlaces(tmp_path, "train", None)


def test_a_long_line_is_cut_and_another_encoding_refused(tmp_path):
    with pytest.raises(LabError) as caught:
        read_list(write(tmp_path / "train.txt", "x" * 10_000))
    assert len(str(caught.value)) < 300 + len(str(tmp_path))
    path = write(tmp_path / "train.txt", "x.jpg 0\n".encode("utf-16"))
    with pytest.raises(LabError, match=rf"^{re.escape(str(path))} cannot be read: .*utf-8; save it as UTF-8$"):
        read_list(path)
    for encoding in ("utf-16", "utf-16-be"):
        write(tmp_path / "train.txt", "\ufeffx.jpg 0\n".encode(encoding))
        with pytest.raises(SystemExit, match=r"train.txt is UTF-16; save it as UTF-8$"):
            MiniPlaces(tmp_path, "train", None)


def test_class_names_are_whatever_the_folder_says_in_valid_unicode(tmp_path):
    for name in (b"caf\xe9", b"caf\xe8", "é".encode(), "e\u0301".encode(), b'a,"b"', b"=1", b"A", b"a"):
        touch(tmp_path / os.fsdecode(name), "1.jpg", "2.jpg")
    expected = {"caf\\xe9", "caf\\xe8", "é", "e\u0301", 'a,"b"', "=1", "A", "a"}
    listing = read_tree(tmp_path, "train")
    assert set(listing.categories) == expected
    assert all(listing.file(row).is_file() for row in range(8))
    write(tmp_path / "categories.txt", b"\xef\xbb\xbf/c/caf\xe9 0\r\n/a/two, words 1\r\n")
    write(tmp_path / "train.txt", "x 1\n")
    assert read_split(tmp_path, "train").categories == ("caf\\xe9", "two, words")


def test_categories_lose_their_letter_and_keep_their_parts(tmp_path):
    content = "/a/abbey 0\n/b/bedroom 2\n/a/apartment_building/outdoor 1\nplain 5\n\n/two words 4\n/x 3\n"
    write(tmp_path / "categories.txt", content)
    expected = ("abbey", "apartment_building/outdoor", "bedroom", "x", "two words", "plain")
    assert read_categories(tmp_path) == expected


def test_without_categories_the_classes_of_both_lists_are_numbered(tmp_path):
    """A val list without the last class must not make the model one class smaller."""
    write(tmp_path / "train.txt", "a 0\nb 3\n")
    write(tmp_path / "val.txt", "c 1\n")
    for split in ("train", "val"):
        assert read_split(tmp_path, split).categories == ("class 0", "class 1", "class 2", "class 3")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("/a/abbey 0\n/b/beach 2\n", "must number its categories 0, 1, 2, … without gaps"),
        ("/a/abbey 1\n", "must number its categories 0, 1, 2, … without gaps"),
        ("/a/abbey 0\n/b/beach 0\n", "must number its categories 0, 1, 2, … without gaps"),
        ("/a/abbey 0\n/b/abbey 1\n", "lists the category 'abbey' more than once; give each label its own name"),
        ("\n", "is empty; get it again, or remove it to number the classes"),
        *((f"/a/abbey 0\n{line}\n", f"line 2 is {line!r}; expected '/a/abbey 0'") for line in ("/a", "/a x", "// 0")),
    ],
)
def test_invalid_categories_are_refused(tmp_path, content, message):
    path = write(tmp_path / "categories.txt", content)
    assert_refused(f"{path} {message}", read_categories, tmp_path)


def test_a_split_of_miniplaces_lists_existing_files(scenes):
    listing = read_split(scenes, "val")
    assert (listing.split, listing.root, len(listing), len(listing.categories)) == ("val", scenes / "images", 36, 12)
    assert sorted(set(listing.labels)) == list(range(12))
    assert all(listing.file(index) == scenes / "images" / path for index, path in enumerate(listing.paths))
    assert all(listing.file(index).is_file() for index in range(len(listing)))


def test_a_label_without_a_category_is_refused_and_one_list_is_enough(tmp_path):
    write(tmp_path / "categories.txt", "/a/abbey 0\n/b/beach 1\n")
    source = write(tmp_path / "train.txt", "x.jpg 1\ny.jpg 2\n")
    message = f"{source} gives y.jpg the label 2; expected 0 to 1, as there are 2 categories"
    assert_refused(message, read_split, tmp_path, "train")
    write(source, "x.jpg 1\n")
    assert is_miniplaces(tmp_path)
    assert len(read_split(tmp_path, "train")) == 1
    with pytest.raises(LabError, match=r"val\.txt does not exist"):
        read_split(tmp_path, "val")


def test_test_images_are_sorted_by_name(tmp_path):
    touch(tmp_path / "images" / "test", "00000010.jpg", "00000002.jpg", "notes.txt")
    assert list_test(tmp_path) == ["test/00000002.jpg", "test/00000010.jpg"]
    with pytest.raises(LabError, match=r"images/test has no \.jpg files"):
        list_test(tmp_path / "elsewhere")


def test_a_flat_tree_is_split_into_disjoint_and_complete_parts(tmp_path):
    make_tree(tmp_path, beach=40, abbey=25, cave=2)
    train, val = read_tree(tmp_path, "train"), read_tree(tmp_path, "val")
    assert train.categories == val.categories == ("abbey", "beach", "cave")
    assert not set(train.paths) & set(val.paths)
    assert {*train.paths, *val.paths} == {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg")}
    for listing in (train, val):
        names = [listing.categories[label] for label in listing.labels]
        assert names == [path.partition("/")[0] for path in listing.paths]
    assert [val.labels.count(label) for label in range(3)] == [2, 4, 1]


def test_the_split_does_not_depend_on_the_order_of_listing(tmp_path, monkeypatch):
    make_tree(tmp_path, beach=30, abbey=30)
    before = read_tree(tmp_path, "val")

    def shuffled(folder, **options):
        names = list(files_below(folder, **options))
        return iter(random.Random(1).sample(names, len(names)))

    monkeypatch.setattr(image_files, "files_below", shuffled)
    assert read_tree(tmp_path, "val") == before


def test_the_split_never_changes(tmp_path):
    """It is fixed by SHA-256 of the names: a change would leak val images into a resumed training."""
    assert val_paths([f"beach/{index}.jpg" for index in range(30)]) == {"beach/2.jpg", "beach/26.jpg", "beach/15.jpg"}
    make_tree(tmp_path, abbey=20, beach=20)
    before = {path for path in read_tree(tmp_path, "val").paths if path.startswith("abbey")}
    make_tree(tmp_path, beach=50, cave=9)  # other classes that grow move no image
    assert {path for path in read_tree(tmp_path, "val").paths if path.startswith("abbey")} == before


def test_nested_images_are_listed_and_hidden_and_other_files_are_not(tmp_path):
    touch(tmp_path, "abbey/1.JPG", "abbey/old/2.jpeg", "abbey/3.webp", "abbey/notes.txt", "abbey/.hidden.jpg")
    touch(tmp_path, "abbey/.thumbnails/1.jpg", "my beach/1.png", "my beach/2.gif", ".cache/1.jpg", ".cache/2.jpg")
    touch(tmp_path, "packed/train-128/images.npy", "empty/readme.txt", "loose.jpg")
    train, val = read_tree(tmp_path, "train"), read_tree(tmp_path, "val")
    assert train.categories == ("abbey", "my beach")
    expected = ["abbey/1.JPG", "abbey/3.webp", "abbey/old/2.jpeg", "my beach/1.png", "my beach/2.gif"]
    assert sorted(train.paths + val.paths) == expected


def test_names_need_not_be_utf8(tmp_path):
    for name in (b"abbey/caf\xe9.jpg", b"abbey/2.jpg", b"beach/1.jpg", b"beach/2.jpg"):
        write(tmp_path / name.decode(errors="surrogateescape"), b"x")
    assert len(read_tree(tmp_path, "train")) + len(read_tree(tmp_path, "val")) == 4


@pytest.mark.parametrize(
    ("names", "split", "message"),
    [
        ("", "train", "{root} has 0 folders with images; expected train.txt or one folder per class"),
        (
            "loose.jpg a/1.txt",
            "train",
            "{root} has 0 folders with images; expected train.txt or one folder per class; folders passed over: a",
        ),
        ("a/1.jpg a/2.jpg", "train", "{root} has 1 folder with images; expected train.txt or one folder per class"),
        (
            "a/1.jpg a/2.jpg b/1.jpg b/2.jpg c/1.nef c/2.NEF",
            "train",
            "class 'c' in {root} would be lost: 2 files that look like images are not used, first c/1.nef "
            f"({image_files.READ}); convert them to JPEG",
        ),
        ("a/1.jpg a/2.jpg b/1.jpg", "val", "class 'b' in {root} has 1 image; at least 2 are needed to split it"),
        ("train/a/1 train/b/1 val/c/1", "val", "{root}/val has the class 'c', which is missing in {root}/train"),
        ("train/a/1", "val", "{root} has a train folder but no val folder; add one, or remove the train level"),
        ("train/a/1.jpg val/a/1.jpg", "train", "{root}/train has 1 class folders; at least 2 are needed"),
        (
            "train/a/1.jpg train/b/1.txt val/a/1.jpg",
            "train",
            "class 'b' in {root}/train has no images; add some, or remove the folder",
        ),
        (
            "train/a/1.jpg train/b/1.jpg val/a/1.jpg val/b/1.jxl",
            "val",
            "class 'b' in {root}/val would be lost: 1 file that looks like an image is not used, first val/b/1.jxl "
            f"({image_files.READ}); convert them to JPEG",
        ),
        ("train/a/1.jpg train/b/1.jpg val/a/1.txt", "val", "{root}/val has no images in its class folders"),
    ],
)
def test_a_tree_that_cannot_be_split_is_refused(tmp_path, names, split, message):
    touch(tmp_path, *names.split())
    assert_refused(message.format(root=tmp_path), read_tree, tmp_path, split)


def test_a_tree_with_train_and_val_is_taken_as_it_is(tmp_path):
    touch(tmp_path, "train/abbey/1.jpg", "train/beach/1.jpg", "train/beach/2.jpg", "val/beach/9.jpg", "other/1.jpg")
    train, val = read_tree(tmp_path, "train"), read_tree(tmp_path, "val")
    assert train.paths == ("train/abbey/1.jpg", "train/beach/1.jpg", "train/beach/2.jpg")
    assert (train.labels, train.categories) == ((0, 1, 1), ("abbey", "beach"))
    assert (val.paths, val.labels, val.categories) == (("val/beach/9.jpg",), (1,), ("abbey", "beach"))


def test_open_split_reads_both_kinds_of_folder_and_refuses_others(scenes, tmp_path):
    assert open_split(scenes, "train") == read_split(scenes, "train")
    make_tree(tmp_path / "tree", abbey=2, beach=2)
    assert open_split(tmp_path / "tree", "val") == read_tree(tmp_path / "tree", "val")
    path, file = tmp_path / "data", write(tmp_path / "file", "")
    assert_refused(f"data folder {path} does not exist; check the path", open_split, path, "train")
    assert_refused(f"data folder {file} is a file; check the path", open_split, file, "train")
    url = "https://example.org/places"
    assert_refused(f"data is the URL {url}; expected a folder, download it first", open_split, Path(url), "train")


@pytest.mark.parametrize("kind", ["tree", "test"])
def test_a_folder_that_cannot_be_listed_is_an_error_not_empty(tmp_path, unreadable, kind):
    touch(tmp_path, "images/test/1.jpg", "a/1.jpg", "a/more/2.jpg", "b/1.jpg", "b/2.jpg")
    unreadable(tmp_path / ("images/test" if kind == "test" else "a/more"))
    with pytest.raises(OSError, match="Input/output error"):
        list_test(tmp_path) if kind == "test" else read_tree(tmp_path, "train")
