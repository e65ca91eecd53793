"""The commands that a person types, as processes."""

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from scenelab.cli import main
from scenelab.errors import LabError
from scenelab.training.recipes import RECIPES

SCENELAB = str(Path(sys.executable).with_name("scenelab"))


@dataclass
class Done:
    stdout: str
    stderr: str


def scenelab(*arguments: object, status: int = 0) -> Done:
    """Run a command as the entry point does, in this process: starting one takes seconds."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            got = main.run([str(argument) for argument in arguments])
        except SystemExit as stop:
            got = stop.code or 0
    assert got == status, stdout.getvalue() + stderr.getvalue()
    return Done(stdout.getvalue(), stderr.getvalue())


def test_the_entry_point_is_a_process_with_an_exit_status(tmp_path):
    good = subprocess.run([SCENELAB, "recipes", "--json"], capture_output=True, text=True, check=False)
    assert (good.returncode, set(json.loads(good.stdout))) == (0, set(RECIPES))
    bad = subprocess.run([SCENELAB, "evaluate", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith(f"scenelab: error: {tmp_path} is not a run folder")
    wrong = subprocess.run([SCENELAB, "evaluate"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory) -> Path:
    """A short run of the demo recipe by command."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    done = scenelab("train", "demo", "--data", scenes, "--out", folder, "--epochs", 1, "--threads", 2)
    assert f"next: scenelab evaluate {folder}" in done.stdout
    return folder


def test_help_names_every_command_and_gives_an_example():
    text = scenelab("--help").stdout
    for command in ("demo", "data", "train", "resume", "evaluate", "predict", "models", "recipes", "bench"):
        assert f"\n  {command} " in text
    for command in (["train"], ["data", "synth"], ["predict"], ["evaluate"], ["resume"], ["bench", "conv"]):
        assert "Example: scenelab " in scenelab(*command, "--help").stdout


def test_evaluate_writes_numbers_predictions_and_figures(run):
    done = scenelab("evaluate", run, "--json")
    result = json.loads(done.stdout)
    assert result == json.loads((run / "results" / "val.json").read_text())
    assert result["images"] == 36
    assert sum(map(sum, result["confusion"])) == 36
    rows = (run / "results" / "val_predictions.csv").read_text().splitlines()
    assert len(rows) == 37
    correct = sum(row.split(",")[1] == row.split(",")[3] for row in rows[1:])
    assert result["mirror"]["top1"] == pytest.approx(100 * correct / 36)
    for name in ("curves", "val_confusion", "val_per_class", "val_reliability"):
        assert (run / "results" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_prints_a_table(run):
    text = scenelab("evaluate", run).stdout
    assert "top-1 %" in text
    assert "image and mirror image" in text
    assert "most confused" in text


def test_predict_ranks_the_categories(run, scenes):
    picture = scenes / "images" / "val" / "00000001.jpg"
    (entry,) = json.loads(scenelab("predict", run, picture, "--json").stdout)
    shares = [guess["probability"] for guess in entry["guesses"]]
    assert entry["image"] == str(picture)
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 5
    assert "%" in scenelab("predict", run / "model_best.pth.tar", picture).stdout


def test_predict_takes_pictures_as_people_have_them(run, scenes, tmp_path):
    from PIL import Image

    picture = Image.open(scenes / "images" / "val" / "00000001.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.convert("L").save(tmp_path / "gray.jpg")
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg")
    picture.rotate(90, expand=True).save(tmp_path / "rotated.jpg", exif=exif, quality=100, subsampling=0)
    picture.save(tmp_path / "upright.jpg", quality=100, subsampling=0)
    picture.resize((300, 200)).save(tmp_path / "wide.png")
    names = ["gray.jpg", "cmyk.jpg", "rotated.jpg", "upright.jpg", "wide.png"]
    entries = json.loads(scenelab("predict", run, *(tmp_path / name for name in names), "--json").stdout)
    assert len(entries) == 5
    rotated, upright = entries[2]["guesses"][0], entries[3]["guesses"][0]
    assert rotated["category"] == upright["category"]
    assert rotated["probability"] == pytest.approx(upright["probability"], abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nope", "--data", "{scenes}", "--out", "{new}"], "there is no recipe 'nope'"),
        (["train", "demo", "--data", "{new}", "--out", "{new}/run"], "data folder .* does not exist; make one with"),
        (["train", "demo", "--data", "{empty}", "--out", "{new}"], "expected train.txt or one folder per class"),
        (["train", "demo", "--data", "{scenes}", "--out", "{run}"], "holds a run already; resume it with"),
        (["train", "demo", "--data", "{scenes}", "--out", "{new}", "--epochs", "-1"], "epochs: got -1.0; expected"),
        (["train", "demo", "--data", "{scenes}", "--out", "{new}", "--model", "vgg"], "there is no model 'vgg'"),
        (["train", "demo", "--data", "{scenes}", "--out", "{file}/run"], "cannot write run folder"),
        (["evaluate", "{empty}"], "is not a run folder"),
        (["resume", "{empty}"], "is not a run folder"),
        (["predict", "{run}", "{file}"], "is not an image file; replace it"),
        (["predict", "{run}", "{new}.jpg"], "cannot be read: No such file"),
        (["data", "verify", "{empty}"], "expected train.txt or one folder per class"),
    ],
)
def test_errors_are_one_line_that_names_the_fix(arguments, message, run, scenes, tmp_path):
    import re

    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no image")
    places = {"scenes": scenes, "run": run, **{name: tmp_path / name for name in ("new", "empty", "file")}}
    done = scenelab(*(argument.format(**places) for argument in arguments), status=1)
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith("scenelab: error: ")
    assert re.search(message, lines[-1])
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(LabError, match="is not a run folder"):
        scenelab("evaluate", tmp_path, "--debug")


def test_verify_finds_a_broken_image(scenes, tmp_path):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(scenes, data, ignore=shutil.ignore_patterns("dataset"))
    assert "72 images in 12 classes, 6 to 6 per class" in scenelab("data", "verify", data).stdout
    (data / "images" / "val" / "00000001.jpg").unlink()
    victim = next((data / "images" / "train").rglob("*.jpg"))
    victim.write_bytes(victim.read_bytes()[:500])
    done = scenelab("data", "verify", data, status=1)
    assert "missing: 1\n    val/00000001.jpg" in done.stdout
    assert "unreadable: 1" in done.stdout
    assert "has 2 faults" in done.stderr


def test_models_and_recipes_are_listed():
    assert json.loads(scenelab("models", "--json").stdout)["simplenet"]["parameters"] == 1_368_676
    assert json.loads(scenelab("recipes", "--json").stdout)["starter"]["optimizer"]["lr"] == 0.1


def test_a_folder_per_class_tree_trains_too(scenes, tmp_path):
    import shutil

    shutil.copytree(scenes / "images" / "train" / "c", tmp_path / "photos")
    run = tmp_path / "run"
    scenelab("train", "demo", "--data", tmp_path / "photos", "--out", run, "--epochs", 1)
    assert set(json.loads(scenelab("evaluate", run, "--json").stdout)["per_class"]) == {"coast", "corridor"}
