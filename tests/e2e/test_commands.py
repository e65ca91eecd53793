"""The commands that a person types: what they print, write and refuse."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scenelab.cli import main
from scenelab.errors import LabError
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.training.recipes import RECIPES

SCENELAB = str(Path(sys.executable).with_name("scenelab"))


def scenelab(*arguments: object, status: int = 0) -> tuple[str, str]:
    """Run a command in this process, because starting one takes seconds; return what it prints."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        result = main.run([str(argument) for argument in arguments])
    assert result == status, stdout.getvalue() + stderr.getvalue()
    return stdout.getvalue(), stderr.getvalue()


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory) -> Path:
    """A short run of the demo recipe by command."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    output, _ = scenelab("train", "demo", "--data", scenes, "--out", folder, "--epochs", 1, "--threads", 2)
    assert f"next: scenelab evaluate {folder}" in output
    return folder


def test_the_entry_point_is_a_process_with_an_exit_status(tmp_path):
    good = subprocess.run([SCENELAB, "recipes", "--json"], capture_output=True, text=True, check=False)
    assert (good.returncode, set(json.loads(good.stdout))) == (0, set(RECIPES))
    bad = subprocess.run([SCENELAB, "evaluate", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith(f"scenelab: error: {tmp_path} is not a run folder")


def test_evaluate_writes_numbers_predictions_and_figures(run):
    result = json.loads(scenelab("evaluate", run, "--json")[0])
    assert result == json.loads((run / "results" / "val.json").read_text())
    assert (result["images"], sum(map(sum, result["confusion"]))) == (36, 36)
    rows = (run / "results" / "val_predictions.csv").read_text().splitlines()
    assert len(rows) == 37
    correct = sum(row.split(",")[1] == row.split(",")[3] for row in rows[1:])
    assert result["mirror"]["top1"] == pytest.approx(100 * correct / 36)
    for name in ("curves", "val_confusion", "val_per_class", "val_reliability"):
        assert (run / "results" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_predict_ranks_the_categories(run, scenes):
    image = scenes / "images" / "val" / "00000001.jpg"
    (entry,) = json.loads(scenelab("predict", run, image, "--json")[0])
    shares = [guess["probability"] for guess in entry["guesses"]]
    assert (entry["image"], len(shares)) == (str(image), 5)
    assert shares == sorted(shares, reverse=True)
    assert "%" in scenelab("predict", run / "model_best.pth.tar", image)[0]


def test_predict_names_each_broken_image_and_predicts_the_others(run, scenes, tmp_path):
    image, broken, missing = scenes / "images" / "val" / "00000001.jpg", tmp_path / "broken.jpg", tmp_path / "no.jpg"
    broken.write_bytes(image.read_bytes()[:300])
    output, error = scenelab("predict", run, broken, image, missing, image, status=1)
    assert output.count(f"{image}\n") == 2
    first, last = error.splitlines()
    assert first.startswith(f"scenelab: error: image {broken} cannot be decoded")
    assert re.match(f"scenelab: error: image {missing} .*; 2 of 4 images are left out", last)
    for command in ("attack {} --steps 1 --images", "explain {} --methods gradient --images"):
        output, error = scenelab(*command.format(run).split(), broken, image, status=1)
        assert "results/att" in output, error
        assert "1 of 2 images are left out" in error
    entries = json.loads(scenelab("predict", run, broken, image, "--json", status=1)[0])
    assert [entry["image"] for entry in entries] == [str(image)]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train nope --data {scenes} --out {new}", "there is no recipe 'nope'"),
        ("train demo --data {new} --out {new}/run", "data folder .* does not exist; check the path"),
        ("train demo --data {empty} --out {new}", "expected train.txt or one folder per class"),
        ("train demo --data {scenes} --out {run}", "holds a run already; resume it with"),
        ("train demo --data {scenes} --out {new} --epochs -1", "epochs: got -1.0; expected"),
        ("train demo --data {scenes} --out {new} --model vgg", "there is no model 'vgg'"),
        ("train demo --data {scenes} --out {file}/run", "cannot write run folder"),
        ("evaluate {empty}", "is not a run folder"),
        ("resume {empty}", "is not a run folder"),
        ("predict {run} {file}", "is not an image file; replace it"),
        ("predict {run} {new}.jpg", "cannot be read: No such file"),
        ("predict {folder}/runn {file}", r"run folder .* does not exist \(did you mean 'run'\?\); check the path"),
        ("evaluate {folder}/runn", r"run folder .* does not exist \(did you mean 'run'\?\); check the path"),
        ("evaluate https://x/run", "run folder is the URL https://x/run; expected a folder, download it first"),
        ("evaluate {file}", "run folder .* is a file; check the path"),
        ("train demo --data {folder}/emty --out {new}", r"does not exist \(did you mean 'empty'\?\); check the path"),
        ("train demo --data {file} --out {new}", "data folder .* is a file; check the path"),
        ("data verify {empty}", "expected train.txt or one folder per class"),
    ],
)
def test_errors_are_one_line_that_names_the_fix(command, message, run, scenes, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "file").write_text("no image")
    paths = {
        "scenes": scenes,
        "run": run,
        "folder": tmp_path,
        **{name: tmp_path / name for name in ("new", "empty", "file")},
    }
    _, error = scenelab(*(word.format(**paths) for word in command.split()), status=1)
    assert re.search(f"^scenelab: error: .*{message}", error.strip().splitlines()[-1])
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "before"),
    [
        (["predict", "run", ""], "run"),
        (["evaluate", "run", "--data", ""], "--data"),
        (["evaluate", "run", "--data="], "--data="),
        (["evaluate", ""], "evaluate"),
    ],
)
def test_an_empty_argument_is_named_and_is_not_this_folder(arguments, before, capsys):
    assert main.run(arguments) == 2
    assert re.fullmatch(f"scenelab: error: the argument after .*{before} is empty; give .*\n", capsys.readouterr().err)


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(LabError, match="is not a run folder"):
        scenelab("evaluate", tmp_path, "--debug")


def test_verify_prints_the_faults_of_a_data_folder(scenes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scenes, data, ignore=shutil.ignore_patterns("dataset"))
    assert "72 images in 12 classes, 6 to 6 per class" in scenelab("data", "verify", data)[0]
    (data / "images" / "val" / "00000001.jpg").unlink()
    assert "has 1 fault;" in scenelab("data", "verify", data, status=1)[1]
    damaged = next((data / "images" / "train").rglob("*.jpg"))
    damaged.write_bytes(damaged.read_bytes()[:500])
    output, error = scenelab("data", "verify", data, status=1)
    assert "missing: 1\n    val/00000001.jpg" in output
    assert "unreadable: 1" in output
    assert "has 2 faults;" in error


def test_pack_verify_finds_an_image_that_was_changed_under_its_old_time(scenes, tmp_path):
    data = Path(shutil.copytree(scenes, tmp_path / "data", ignore=shutil.ignore_patterns("packed")))
    image = data / "images" / (data / "val.txt").read_text().split()[0]
    scenelab("data", "pack", data, "--size", 16)
    status, content = image.stat(), bytearray(image.read_bytes())
    content[-100:-50] = bytes(50)
    image.write_bytes(content)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    for count in (1, 0):
        _, errors = scenelab("data", "pack", data, "--size", 16, "--verify")
        assert errors.count("val: 1 of 36 images differ from the cache, first val/") == count


def test_models_and_recipes_are_listed():
    assert json.loads(scenelab("models", "--json")[0])["simplenet"]["parameters"] == 1_368_676
    assert json.loads(scenelab("recipes", "--json")[0])["starter"]["optimizer"]["lr"] == 0.1


def test_a_folder_with_one_folder_per_class_is_trained_on_and_evaluated(scenes, tmp_path):
    shutil.copytree(scenes / "images" / "train" / "c", tmp_path / "photos")
    run = tmp_path / "run"
    scenelab("train", "demo", "--data", tmp_path / "photos", "--out", run, "--epochs", 1)
    table, _ = scenelab("evaluate", run)
    assert all(text in table for text in ("top-1 %", "image and mirror image", "most confused"))
    assert set(json.loads((run / "results" / "val.json").read_text())["per_class"]) == {"coast", "corridor"}


@pytest.mark.parametrize("text", ["[]", "null", "3"])
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("environment.json", "report {run} --html-only --out {out}"),
        ("results/training.json", "report {run} --html-only --out {out}"),
        ("results/val.json", "report {run} --html-only --out {out}"),
        ("results/robustness.json", "robustness {run} --images 2 --epsilons 1/255"),
        ("results/attribution.json", "explain {run} --limit 1 --methods gradient"),
        ("config.json", "evaluate {run}"),
    ],
)
def test_a_file_with_another_kind_of_json_is_named(untrained, tmp_path, name, command, text):
    run = tmp_path / "run"
    shutil.copytree(untrained.folder, run)
    (run / name).write_text(text)
    _, error = scenelab(*command.format(run=run, out=tmp_path / "out").split(), status=1)
    assert error.splitlines()[-1].startswith(f"scenelab: error: {run / name} ")
    assert error.endswith("expected an object\n") or "; expected an object, repeat" in error


def test_a_category_sends_nothing_to_the_terminal(untrained, scenes, tmp_path):
    values = load_checkpoint(untrained.best)
    evil = [f"\x1b[31m{name}\x07" for name in values["categories"]]
    torch.save({**values, "categories": evil}, tmp_path / "x.pth.tar")
    output, error = scenelab("predict", tmp_path / "x.pth.tar", scenes / "images" / "val" / "00000001.jpg")
    assert "[31m" in output
    assert all(text.isprintable() for text in (output + error).splitlines())
