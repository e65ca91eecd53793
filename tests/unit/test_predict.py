"""Prediction of folders, patterns and files, with a row per image, copies per class, and from Python."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import scenelab
from folders import tree
from scenelab.cli import main
from scenelab.models.registry import create_model
from scenelab.runs.checkpoint import save_checkpoint
from scenelab.runs.network import to_values

NAMES = ("a/b", "Küste & Meer", "=50 %", "..")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "model.pth.tar"
    torch.manual_seed(0)
    model = create_model("residual-small", num_classes=4)
    model.network.fc.weight.data *= 10
    save_checkpoint(path, to_values(model, arch="residual-small", categories=NAMES, size=32, epoch=1))
    return path


def test_prediction_does_not_wait_for_torchvision():
    """Its import takes almost as long as torch's."""
    code = "import sys, scenelab.evaluation.predict; sys.exit('torchvision' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def pictures(tmp_path):
    folder, generator = tmp_path / "my pics", np.random.default_rng(0)
    for name in ("1.png", "2.PNG", "sub/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / name, "PNG")
    (folder / "sub" / "notes.txt").write_text("text")
    (folder / "broken.jpg").write_bytes(b"junk")
    (folder / "3.nef").write_bytes(b"junk")
    return folder


def test_a_folder_is_predicted_to_csv_and_json_and_goes_on_after_a_broken_file(network, pictures, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert main.run(["predict", str(network), str(pictures), "--csv", str(out), "--json", "--top", "2"]) == 1
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert f"{pictures}: 1 file that looks like an image is not used, first 3.nef" in lines[0]
    assert lines[-2] == "3 of 4 images are predicted"
    assert lines[-1].endswith(
        "broken.jpg is not an image file; replace it or remove it from the list; 1 of 4 images are left out"
    )
    entries = json.loads(said.out)
    assert [entry["image"] for entry in entries] == [str(pictures / name) for name in ("1.png", "2.PNG", "sub/1.png")]
    head, *rows = csv.reader(out.read_text().splitlines())
    assert head == ["image", "none of these", "class", "probability", "class2", "probability2", "error"]
    assert rows[2][:6] == [str(pictures / "broken.jpg"), "", "", "", "", ""]
    assert "is not an image file" in rows[2][6]
    for row, entry in zip([rows[0], rows[1], rows[3]], entries, strict=True):
        guesses = [(guess["category"], f"{guess['probability']:.4f}") for guess in entry["guesses"]]
        assert row[:2] == [entry["image"], ""]
        assert [(row[2].removeprefix("./"), row[3]), (row[4].removeprefix("./"), row[5])] == guesses


def test_images_are_copied_into_a_folder_per_class(network, pictures, tmp_path, capsys):
    (pictures / "broken.jpg").unlink()
    (pictures / "2.PNG").unlink()
    shutil.copy(pictures / "1.png", pictures / "sub" / "1.png")
    copies = tmp_path / "copies"
    assert main.run(["predict", str(network), str(pictures), "--copy-into", str(copies)]) == 0
    [(category, _), *_] = scenelab.load(network)(pictures / "1.png")
    name = {"a/b": "a_b", "..": "_"}.get(category, category)
    content = (pictures / "1.png").read_bytes()
    assert tree(copies) == {f"{name}/1.png": content, f"{name}/1-2.png": content}
    assert capsys.readouterr().err.splitlines()[-1] == "2 of 2 images are predicted"
    assert main.run(["predict", str(network), str(pictures), "--copy-into", str(copies)]) == 1
    assert "which is there already; name a new or empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["*.png"], ["1.png"]), (["**/*"], ["1.png", "2.PNG", "sub/1.png"]), (["sub", "1.png"], ["sub/1.png", "1.png"])],
)
def test_patterns_and_folders_are_expanded(network, pictures, names, expected, capsys):
    for name in ("broken.jpg", "3.nef"):
        (pictures / name).unlink()
    assert main.run(["predict", str(network), *(str(pictures / name) for name in names), "--json", "--top", "1"]) == 0
    assert [entry["image"] for entry in json.loads(capsys.readouterr().out)] == [
        str(pictures / name) for name in expected
    ]


@pytest.mark.parametrize("first", ["{folder}", "{folder}/*.png"])
def test_a_folder_or_pattern_without_a_network_before_it_is_images(pictures, first, capsys, monkeypatch):
    monkeypatch.setattr("scenelab.runs.pretrained.FOLDER", pictures / "none")
    assert main.run(["predict", first.format(folder=pictures)]) == 1
    assert "the network miniplaces is missing from this installation" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["empty", "*.jpeg"])
def test_nothing_to_predict_is_an_error(network, tmp_path, name, capsys):
    (tmp_path / "empty").mkdir()
    assert main.run(["predict", str(network), str(tmp_path / name), "--json"]) == 1
    said = capsys.readouterr()
    assert f"{tmp_path / name} has no images; name image files, a folder of them, or a pattern" in said.err


def test_load_gives_a_function_of_paths_images_and_arrays(network, pictures):
    classify = scenelab.load(str(network))
    expected = classify(pictures / "1.png")
    assert [name for name, _ in classify(str(pictures / "1.png"), top=2)] == [name for name, _ in expected[:2]]
    assert sum(share for _, share in expected) == pytest.approx(1)
    with Image.open(pictures / "1.png") as image:
        assert classify(image) == expected == classify(np.asarray(image))
        turned = image.transpose(Image.Transpose.ROTATE_90)
        turned.getexif()[0x0112] = 6  # upright after a quarter turn to the right
        assert classify(turned) == expected
    for array in (np.zeros((4, 4)), np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4, 3))):
        with pytest.raises(scenelab.LabError, match=r"expected height, width, 3 of uint8, RGB$"):
            classify(array)
    with pytest.raises(scenelab.LabError, match=r"did you mean"):
        scenelab.load(network.parent / "modle.pth.tar")
