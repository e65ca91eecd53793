"""scenelab data describe: counts, sizes, and duplicates within and across splits."""

import io
import json

import numpy as np
from PIL import Image

from scenelab.cli import main
from scenelab.cli.describe import WITHIN
from scenelab.data import describe as module


def photo(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A smooth random pattern, as unlike another as two photos."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def save(path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def described(capsys, *arguments) -> dict:
    assert main.run(["data", "describe", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def make(root) -> None:
    for split, count in (("train", 6), ("val", 3)):
        for label, name in enumerate(("Küste & Meer", "50 %")):
            for index in range(count):
                save(root / split / name / f"{index}.png", photo(100 * label + index + 50 * (split == "val")))


def pairs(result: dict) -> dict[str, tuple[str, bool]]:
    return {pair["path"]: (pair["of"], pair["is_exact"]) for pair in result["duplicates"]}


def test_different_images_are_no_duplicates(tmp_path, capsys):
    make(tmp_path)
    result = described(capsys, tmp_path)
    assert result["duplicates"] == []
    assert result["counts"]["train"] == {"50 %": 6, "Küste & Meer": 6}
    assert result["shapes"] == {"landscape": 18}
    assert result["sizes"]["median"] == [120, 90]


def test_duplicates_are_found_within_and_across_splits_and_classes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 5)  # several blocks
    make(tmp_path)
    train, val = tmp_path / "train", tmp_path / "val"
    image = photo(0)
    save(train / "Küste & Meer" / "again.png", image)
    save(val / "Küste & Meer" / "small.png", image.resize((60, 45)))
    recompressed = io.BytesIO()
    image.save(recompressed, "JPEG", quality=30)
    save(val / "Küste & Meer" / "jpeg.png", Image.open(recompressed))
    save(val / "50 %" / "bright.png", photo(1).point(lambda value: min(255, int(1.2 * value))))
    original = "train/Küste & Meer/0.png"
    found = pairs(described(capsys, tmp_path))
    assert found.pop("val/Küste & Meer/small.png")[1] is False
    assert found == {
        "train/Küste & Meer/again.png": (original, True),
        "val/Küste & Meer/jpeg.png": (found["val/Küste & Meer/jpeg.png"][0], False),
        "val/50 %/bright.png": ("train/Küste & Meer/1.png", False),
    }
    assert main.run(["data", "describe", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "duplicates across splits; remove them, or the accuracy is too high: 0 exact, 3 near" in said
    assert "val/50 %/bright.png (val) is almost train/Küste & Meer/1.png (train)" in said
    assert "duplicates of another class; one label is wrong: 0 exact, 1 near" in said
    assert f"{WITHIN}: 1 exact, 1 near" in said


def test_flat_images_are_duplicates_only_if_they_are_equal(tmp_path, capsys):
    for name in ("a", "b"):
        for index in range(3):
            color = (10 + index, 5 if name == "a" else 9, 7)
            save(tmp_path / name / f"{index}.png", Image.new("RGB", (20, 40), color))
    save(tmp_path / "b" / "9.png", Image.new("RGB", (20, 40), (10, 5, 7)))
    result = described(capsys, tmp_path)
    [(path, (of, is_exact))] = pairs(result).items()
    assert ({path, of}, is_exact) == ({"a/0.png", "b/9.png"}, True)
    assert result["shapes"] == {"portrait": 7}


def test_what_is_unreadable_or_missing_is_said_and_nothing_is_written_among_the_images(tmp_path, capsys):
    make(tmp_path / "data")
    (tmp_path / "data" / "train" / "50 %" / "broken.jpg").write_bytes(b"junk")
    (tmp_path / "data" / "train" / "50 %" / "raw.nef").write_bytes(b"junk")
    save(tmp_path / "data" / "train" / "lone" / "1.png", photo(900, (40, 40)))
    before = sorted(tmp_path.rglob("*"))
    assert main.run(["data", "describe", str(tmp_path / "data")]) == 0
    said = capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    for line in (
        f"{tmp_path / 'data'}: 20 images of 3 classes",
        "unbalanced: the largest class has 10 images, the smallest 1",
        "no val images: lone",
        "sizes: smallest 40×40, median 120×90, largest 120×90; 18 landscape, 1 square",
        "unreadable: 1, first: image ",
        "1 file that looks like an image is not used, first train/50 %/raw.nef",
        "duplicates: none found",
    ):
        assert line in said.replace("\n", "")  # a table's title may be wrapped
    sheet = tmp_path / "sheet.jpg"
    assert described(capsys, tmp_path / "data", "--sheet", sheet)["sheet"] == str(sheet)
    with Image.open(sheet) as image:
        assert image.size == (8 * 96, 3 * (96 + 16))
        assert np.asarray(image).std() > 30
