"""Lists of images: MiniPlaces' text files and trees with a folder for each class."""

import random
import re
from pathlib import Path

import pytest

from scenelab.data import folder as tree
from scenelab.data.folder import held_out, read_tree
from scenelab.data.miniplaces import is_miniplaces, read_categories, read_list, read_split, read_test
from scenelab.data.splits import open_split
from scenelab.errors import LabError
from scenelab.io import files_below


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def touch(root: Path, *names: str) -> Path:
    for name in names:
        write(root / name, b"x")
    return root


def refused(message: str, call, *args) -> None:
    """The call raises this one line and nothing else."""
    with pytest.raises(LabError) as caught:
        call(*args)
    assert str(caught.value) == message


# Lists


@pytest.mark.parametrize(
    "content",
    [
        "train/a/x.jpg 0\ntrain/b/y.jpg 12\n",
        "train/a/x.jpg 0\ntrain/b/y.jpg 12",
        "train/a/x.jpg 0\r\ntrain/b/y.jpg 12\r\n",
        "\ufefftrain/a/x.jpg 0\ntrain/b/y.jpg 12\n",
        "\n  \ntrain/a/x.jpg 0\n\n\ttrain/b/y.jpg   12 \n\n",
    ],
    ids=["plain", "no newline at the end", "CRLF", "BOM", "blank lines and stray spaces"],
)
def test_a_list_in_any_dress(tmp_path, content):
    assert read_list(write(tmp_path / "train.txt", content)) == [("train/a/x.jpg", 0), ("train/b/y.jpg", 12)]


def test_names_may_hold_spaces_and_any_letter(tmp_path):
    content = "my photos/sea side/1 of 2.jpg 3\nBäume/山 1.jpg 4\n"
    expected = [("my photos/sea side/1 of 2.jpg", 3), ("Bäume/山 1.jpg", 4)]
    assert read_list(write(tmp_path / "train.txt", content)) == expected


def test_a_list_keeps_its_order_and_its_repetitions(tmp_path):
    assert read_list(write(tmp_path / "val.txt", "b 1\na 0\nb 1\n")) == [("b", 1), ("a", 0), ("b", 1)]


@pytest.mark.parametrize(
    "line",
    ["train/a/x.jpg", "0", "x.jpg -1", "x.jpg 1.5", "x.jpg one", "x.jpg ²", "x.jpg ٣", "x.jpg\t1", "x.jpg 1000000"],
)
def test_a_bad_line_is_named(tmp_path, line):
    path = write(tmp_path / "train.txt", f"good.jpg 0\n\n{line}\n")
    refused(
        f"{path} line 3 is {line!r}; expected 'path label' with a label from 0 to 999999",
        read_list, path,
    )  # fmt: skip


def test_a_nul_in_a_name_is_a_bad_line(tmp_path):
    with pytest.raises(LabError, match="line 1 is 'a\\\\x00b.jpg 0'"):
        read_list(write(tmp_path / "train.txt", "a\0b.jpg 0\n"))


def test_a_long_bad_line_is_cut(tmp_path):
    with pytest.raises(LabError) as caught:
        read_list(write(tmp_path / "train.txt", "x" * 10_000))
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.jpg", "train/../../x.jpg", "train/.."])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, name):
    path = write(tmp_path / "train.txt", f"good.jpg 0\n{name} 1\n")
    refused(
        f"{path} line 2 names {name!r}, which leaves the data folder; use a path below images/",
        read_list, path,
    )  # fmt: skip


def test_two_dots_inside_a_name_are_fine(tmp_path):
    assert read_list(write(tmp_path / "train.txt", "a..b/c...jpg 0\n")) == [("a..b/c...jpg", 0)]


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_list(tmp_path, content):
    path = write(tmp_path / "train.txt", content)
    refused(
        f"{path} lists no images; get it again with 'scenelab data download' or 'scenelab data import'",
        read_list, path,
    )  # fmt: skip


def test_a_missing_list(tmp_path):
    path = tmp_path / "train.txt"
    refused(
        f"{path} does not exist; give a folder made by 'scenelab data download', 'import' or 'synth'",
        read_list, path,
    )  # fmt: skip


def test_a_list_that_is_no_text(tmp_path):
    path = write(tmp_path / "train.txt", "x.jpg 0\n".encode("utf-16"))
    with pytest.raises(LabError, match=rf"^{re.escape(str(path))} cannot be read: .*utf-8"):
        read_list(path)
    with pytest.raises(LabError, match="is not a regular file"):
        read_list(tmp_path)


# Categories


def test_categories_lose_their_letter_and_keep_their_parts(tmp_path):
    content = "/a/abbey 0\n/b/bedroom 2\n/a/apartment_building/outdoor 1\nplain 5\n\n/two words 4\n/x 3\n"
    write(tmp_path / "categories.txt", content)
    expected = ("abbey", "apartment_building/outdoor", "bedroom", "x", "two words", "plain")
    assert read_categories(tmp_path) == expected


def test_without_categories_the_classes_of_both_lists_are_numbered(tmp_path):
    """A val list that happens not to show the last class must not make the network one class smaller."""
    write(tmp_path / "train.txt", "a 0\nb 3\n")
    write(tmp_path / "val.txt", "c 1\n")
    for split in ("train", "val"):
        assert read_split(tmp_path, split).categories == ("class 0", "class 1", "class 2", "class 3")


@pytest.mark.parametrize("content", ["/a/abbey 0\n/b/beach 2\n", "/a/abbey 1\n", "/a/abbey 0\n/b/beach 0\n"])
def test_categories_with_a_gap(tmp_path, content):
    path = write(tmp_path / "categories.txt", content)
    refused(f"{path} must number its categories 0, 1, 2, … without gaps", read_categories, tmp_path)


def test_a_category_named_twice(tmp_path):
    path = write(tmp_path / "categories.txt", "/a/abbey 0\n/b/abbey 1\n")
    refused(
        f"{path} names the category 'abbey' more than once; give each label a name of its own",
        read_categories, tmp_path,
    )  # fmt: skip


def test_no_categories(tmp_path):
    path = write(tmp_path / "categories.txt", "\n")
    refused(
        f"{path} names no categories; get it again, or remove it to have the classes numbered",
        read_categories, tmp_path,
    )  # fmt: skip


@pytest.mark.parametrize("line", ["/a/abbey", "/a/abbey x", "// 0", "7"])
def test_a_bad_category_line_is_named(tmp_path, line):
    path = write(tmp_path / "categories.txt", f"/a/abbey 0\n{line}\n")
    refused(f"{path} line 2 is {line!r}; expected '/a/abbey 0'", read_categories, tmp_path)


# Splits of MiniPlaces


def test_a_split(scenes):
    listing = read_split(scenes, "val")
    assert (listing.split, listing.root, len(listing)) == ("val", scenes / "images", 36)
    assert len(listing.categories) == 12
    assert sorted(set(listing.labels)) == list(range(12))
    assert listing.file(0) == scenes / "images" / listing.paths[0]
    assert all(listing.file(index).is_file() for index in range(len(listing)))


def test_a_label_without_a_category(tmp_path):
    write(tmp_path / "categories.txt", "/a/abbey 0\n/b/beach 1\n")
    source = write(tmp_path / "train.txt", "x.jpg 1\ny.jpg 2\n")
    refused(
        f"{source} gives y.jpg the label 2, but there are 2 categories; labels run from 0 to 1",
        read_split, tmp_path, "train",
    )  # fmt: skip


def test_a_folder_with_one_list_only(tmp_path):
    write(tmp_path / "val.txt", "x.jpg 0\n")
    assert is_miniplaces(tmp_path)
    assert len(read_split(tmp_path, "val")) == 1
    with pytest.raises(LabError, match=r"train\.txt does not exist"):
        read_split(tmp_path, "train")


def test_test_images_come_in_the_order_of_their_names(tmp_path):
    touch(tmp_path / "images" / "test", "00000010.jpg", "00000002.jpg", "notes.txt")
    listing = read_test(tmp_path)
    assert listing.paths == ("test/00000002.jpg", "test/00000010.jpg")
    assert (listing.labels, listing.split) == ((-1, -1), "test")
    assert len(read_test(tmp_path / "elsewhere")) == 0


# Trees


def flat_tree(root: Path, **counts: int) -> Path:
    return touch(root, *(f"{name}/{index}.jpg" for name, count in counts.items() for index in range(count)))


def test_a_flat_tree_is_split_into_disjoint_and_complete_halves(tmp_path):
    flat_tree(tmp_path, beach=40, abbey=25, cave=2)
    train, val = read_tree(tmp_path, "train"), read_tree(tmp_path, "val")
    assert train.categories == val.categories == ("abbey", "beach", "cave")
    assert not set(train.paths) & set(val.paths)
    assert sorted(train.paths + val.paths) == sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg")
    )
    for listing in (train, val):
        named = [listing.categories[label] for label in listing.labels]
        assert named == [path.partition("/")[0] for path in listing.paths]
    assert [val.labels.count(label) for label in range(3)] == [2, 4, 1]


def test_the_split_does_not_depend_on_the_order_of_listing(tmp_path, monkeypatch):
    flat_tree(tmp_path, beach=30, abbey=30)
    before = read_tree(tmp_path, "val")

    def shuffled(folder, **options):
        found = list(files_below(folder, **options))
        random.Random(1).shuffle(found)
        return iter(found)

    monkeypatch.setattr(tree, "files_below", shuffled)
    assert read_tree(tmp_path, "val") == before


def test_the_split_is_what_it_has_always_been():
    """Fixed by SHA-256 of the names: a change would leak held-out images into a resumed training."""
    names = [f"beach/{index}.jpg" for index in range(30)]
    assert held_out(names) == {"beach/2.jpg", "beach/26.jpg", "beach/15.jpg"}
    assert held_out(names[::-1]) == held_out(names)


def test_an_image_keeps_its_side_when_another_class_grows(tmp_path):
    flat_tree(tmp_path, abbey=20, beach=20)
    before = {path for path in read_tree(tmp_path, "val").paths if path.startswith("abbey")}
    flat_tree(tmp_path, beach=50, cave=9)
    assert {path for path in read_tree(tmp_path, "val").paths if path.startswith("abbey")} == before


def test_suffixes_nested_folders_and_what_is_skipped(tmp_path):
    touch(tmp_path, "abbey/1.JPG", "abbey/old/2.jpeg", "abbey/3.webp", "abbey/notes.txt", "abbey/.hidden.jpg")
    touch(
        tmp_path, "abbey/.thumbnails/1.jpg", "packed lunch/1.png", "packed lunch/2.gif", ".cache/1.jpg", ".cache/2.jpg"
    )
    touch(tmp_path, "packed/train-128/images.npy", "empty/readme.txt", "loose.jpg")
    train, val = read_tree(tmp_path, "train"), read_tree(tmp_path, "val")
    assert train.categories == ("abbey", "packed lunch")
    assert sorted(train.paths + val.paths) == [
        "abbey/1.JPG", "abbey/3.webp", "abbey/old/2.jpeg", "packed lunch/1.png", "packed lunch/2.gif",
    ]  # fmt: skip


def test_names_that_are_no_utf8(tmp_path):
    folder = tmp_path / "tree"
    for name in (b"abbey/caf\xe9.jpg", b"abbey/2.jpg", b"beach/1.jpg", b"beach/2.jpg"):
        path = bytes(folder) + b"/" + name
        Path(path.decode(errors="surrogateescape")).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"x")
    assert len(read_tree(folder, "train")) + len(read_tree(folder, "val")) == 4


@pytest.mark.parametrize("names", [(), ("abbey/1.jpg", "abbey/2.jpg"), ("loose.jpg",), ("abbey/1.txt", "beach/1.txt")])
def test_too_few_classes(tmp_path, names):
    touch(tmp_path, *names)
    found = len({name.partition("/")[0] for name in names if name.endswith(".jpg") and "/" in name})
    refused(
        f"{tmp_path} has {found} folders with images; expected train.txt or one folder a class",
        read_tree, tmp_path, "train",
    )  # fmt: skip


def test_a_class_of_one_image_cannot_be_split(tmp_path):
    flat_tree(tmp_path, abbey=3, beach=1)
    refused(
        f"class 'beach' in {tmp_path} has 1 image; at least 2 are needed to split it",
        read_tree, tmp_path, "val",
    )  # fmt: skip


def test_a_tree_with_its_own_split(tmp_path):
    touch(tmp_path, "train/abbey/1.jpg", "train/beach/1.jpg", "train/beach/2.jpg", "val/beach/9.jpg", "other/1.jpg")
    train, val = read_tree(tmp_path, "train"), read_tree(tmp_path, "val")
    assert train.paths == ("train/abbey/1.jpg", "train/beach/1.jpg", "train/beach/2.jpg")
    assert (train.labels, train.categories) == ((0, 1, 1), ("abbey", "beach"))
    assert (val.paths, val.labels, val.categories) == (("val/beach/9.jpg",), (1,), ("abbey", "beach"))


def test_a_val_class_that_train_has_not(tmp_path):
    touch(tmp_path, "train/abbey/1.jpg", "train/beach/1.jpg", "val/cave/1.jpg")
    refused(
        f"{tmp_path / 'val'} has the class 'cave', which {tmp_path / 'train'} has not",
        read_tree, tmp_path, "val",
    )  # fmt: skip


def test_a_tree_with_train_and_no_val(tmp_path):
    touch(tmp_path, "train/abbey/1.jpg", "train/beach/1.jpg")
    refused(
        f"{tmp_path} has a train folder but no val folder; make one, or drop the train level",
        read_tree, tmp_path, "val",
    )  # fmt: skip


def test_a_tree_with_its_own_split_and_one_class(tmp_path):
    touch(tmp_path, "train/abbey/1.jpg", "val/abbey/1.jpg")
    refused(
        f"{tmp_path / 'train'} has 1 class folders; at least 2 are needed to tell them apart",
        read_tree, tmp_path, "train",
    )  # fmt: skip


def test_a_val_folder_without_images(tmp_path):
    touch(tmp_path, "train/abbey/1.jpg", "train/beach/1.jpg", "val/abbey/notes.txt")
    refused(f"{tmp_path / 'val'} holds no images below its class folders", read_tree, tmp_path, "val")


# Either kind


def test_either_kind_of_folder(scenes, tmp_path):
    assert open_split(scenes, "train") == read_split(scenes, "train")
    flat_tree(tmp_path, abbey=2, beach=2)
    assert open_split(tmp_path, "val") == read_tree(tmp_path, "val")


def test_a_folder_that_does_not_exist(tmp_path):
    missing = tmp_path / "data"
    refused(
        f"data folder {missing} does not exist; make one with 'scenelab data download {missing}'",
        open_split, missing, "train",
    )  # fmt: skip
    with pytest.raises(LabError, match="does not exist"):
        open_split(write(tmp_path / "file", ""), "train")


def test_the_share_held_out_is_a_tenth():
    assert tree.VAL_SHARE == 0.1


@pytest.mark.parametrize("kind", ["tree", "test"])
def test_a_folder_that_cannot_be_listed(tmp_path, unreadable, kind):
    """It is not a class, or a test split, with fewer images."""
    for name in ("images/test/1.jpg", "a/1.jpg", "a/more/2.jpg", "b/1.jpg", "b/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    unreadable(tmp_path / ("images/test" if kind == "test" else "a/more"))
    with pytest.raises(OSError, match="Input/output error"):
        read_test(tmp_path) if kind == "test" else read_tree(tmp_path, "train")
