"""Data sets listed in a CSV file, and the command that lists folders in one."""

import pytest

from folders import write_tree
from scenelab.cli import main
from scenelab.data.cache_folder import default_cache
from scenelab.data.splits import ALL, existing_splits, open_split
from scenelab.errors import LabError


def write(path, text: str):
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "path,label,split\na/1.jpg,cat,train\n b/2.jpg , dog ,Training\n\nc.jpg,cat,valid\n/d/4.jpg,dog,TEST\n",
        "\ufeffsplit;Class;File\r\ntrain;cat;a/1.jpg\r\ntrain;dog;b\\2.jpg\r\nval;cat;c.jpg\r\ntest;dog;/d/4.jpg\r\n",
        'set\tcategory\timage\ntrain\tcat\t"a/1.jpg"\ntrain\tdog\tb/2.jpg\ndev\tcat\tc.jpg\ntesting\tdog\t/d/4.jpg',
    ],
)
def test_a_csv_file_names_paths_labels_and_splits(tmp_path, text):
    path = write(tmp_path / "list.CSV", text)
    train, val, test = (open_split(path, split) for split in existing_splits(path))
    assert (train.root, train.categories) == (tmp_path, ("cat", "dog")) == (val.root, test.categories)
    assert [(part.paths, part.labels) for part in (train, val, test)] == [
        (("a/1.jpg", "b/2.jpg"), (0, 1)),
        (("c.jpg",), (0,)),
        (("/d/4.jpg",), (1,)),
    ]
    assert len(open_split(path, ALL)) == 4


def test_without_a_column_split_a_tenth_of_each_class_is_val(tmp_path):
    rows = [f"{name}/{index}.jpg,{name}" for name in ("cat", "dog") for index in range(20)]
    path = write(tmp_path / "a.csv", "\n".join(["image,class", *rows]))
    write_tree(tmp_path / "tree", {f"{row.partition(',')[0]}": b"x" for row in rows})
    for split in ("train", "val"):
        assert set(open_split(path, split).paths) == set(open_split(tmp_path / "tree", split).paths)
    with pytest.raises(LabError, match=r"a\.csv has no rows with the split test; choose another split$"):
        open_split(path, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{path} has no column path; its first line must name them, such as: path,label,split"),
        ("a.jpg,cat\n", "{path} has no column path; its first line must name them, such as: path,label,split"),
        (
            "path,kind\na.jpg,cat\n",
            "{path} has no column label; its first line must name them, such as: path,label,split",
        ),
        ("path,label\n\n", "{path} lists no images; add a line per image"),
        ("path,label\na.jpg,\n", "{path} line 2 has no label; fill it in, or remove the line"),
        ("path,label\na.jpg\n", "{path} line 2 has no label; fill it in, or remove the line"),
        ("path,label,split\na.jpg,x,trian\n", "{path} line 2 has the split 'trian'; expected train, val, test"),
        ("path,label\na.jpg,x\nb.jpg,x\n", "{path} has 1 class; at least 2 are needed"),
        (
            "path,label,split\na,x,train\nb,y,val\n",
            "class 'y' in {path} has no train images; add some, or remove its rows",
        ),
        ("path,label\na,x\nb,x\nc,y\n", "class 'y' in {path} has 1 image; at least 2 are needed to split it"),
    ],
)
def test_a_csv_file_that_cannot_be_used_is_refused(tmp_path, text, message):
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(LabError) as caught:
        open_split(path, "train")
    assert str(caught.value) == message.format(path=path)


def images(*names: str) -> dict[str, bytes]:
    return {f"{name}/{index}.jpg": b"x" for name in names for index in range(3)}


def test_several_folders_become_one_data_set(tmp_path, capsys):
    write_tree(tmp_path / "one", images("Küste & Meer", '50 %, "x"'))
    write_tree(
        tmp_path / "two", images("train/cat", 'train/50 %, "x"', "valid/cat", "test/cat") | {"train/cat/1.nef": b"x"}
    )
    out = tmp_path / "out" / "all.csv"
    assert main.run(["data", "list", *map(str, (tmp_path / "one", tmp_path / "two", "--out", out))]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}: 18 images of 3 classes, 3 test, 10 train, 5 val\n"
    assert "1 file that looks like an image is not used, first train/cat/1.nef" in said.err
    assert existing_splits(out) == ["train", "val", "test"]
    train = open_split(out, "train")
    assert train.categories == ('50 %, "x"', "Küste & Meer", "cat")
    assert all(train.file(row).is_file() for row in range(len(train)))
    assert {open_split(out, "test").categories[label] for label in open_split(out, "test").labels} == {"cat"}


def test_nested_folders_are_classes_by_choice(tmp_path, capsys):
    write_tree(tmp_path / "data", images("birds/owl", "birds/tit", "dogs", "birds") | {"loose.jpg": b"x"})
    assert open_split(tmp_path / "data", ALL).categories == ("birds", "dogs")
    out = tmp_path / "all.csv"
    assert main.run(["data", "list", str(tmp_path / "data"), "--out", str(out), "--nested"]) == 0
    assert "first loose.jpg" in capsys.readouterr().err
    assert open_split(out, "train").categories == ("birds", "birds/owl", "birds/tit", "dogs")
    write_tree(tmp_path / "data", {"cats/1.nef": b"x"})
    assert main.run(["data", "list", str(tmp_path / "data"), "--out", str(out), "--nested"]) == 1
    assert "class 'cats' in" in capsys.readouterr().err


def test_nothing_is_written_among_a_users_images(tmp_path, scenes, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, second = default_cache(tmp_path / "my pics"), default_cache(tmp_path / "other" / "my pics")
    assert first.parent == second.parent == tmp_path / "cache" / "scenelab"
    assert first.name.startswith("my-pics-")
    assert first != second
    assert default_cache(scenes) == scenes / "packed"
