"""Every command on images and classes whose names other programs find hard."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import make_untrained
from scenelab import app
from scenelab.cli import main
from scenelab.evaluation.mistakes import read_mistakes
from scenelab.io import read_json
from scenelab.runs.loading import open_run
from scenelab.runs.run import Run

CLASSES = [b"caf\xe9", b"caf\xe8", "$x^2$_y\u4e2d\u202e\U0001f600".encode(), b'=1,"q"\t\n\x1b[31m', b"-l" + b"ong" * 80]
FILES = [
    b"caf\xe9-1.png",
    b"$a$ $b^c\n\x1b.png",
    b'=1,"q".png',
    "\u202e\U0001f600\u4e2d.png".encode(),
    b"n" * 240 + b".png",
]
LATIN1 = os.fsdecode(b"caf\xe9-1.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("names") / os.fsdecode(b"d\xe9")
    for row, kind in enumerate(CLASSES):
        (data / os.fsdecode(kind)).mkdir(parents=True)
        for name in FILES:
            pixels = np.random.default_rng(row).integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(data / os.fsdecode(kind + b"/" + name))
    return data


@pytest.fixture(scope="module")
def run(data) -> Run:
    return make_untrained(data.parent / "run $x$", data)


def test_the_commands_work_on_names_of_any_bytes(run, data, capsys, monkeypatch):
    monkeypatch.chdir(data)
    images = [f"{os.fsdecode(CLASSES[0])}/{os.fsdecode(name)}" for name in FILES]
    where = str(run.folder)
    for command in (
        ["evaluate", where, "--split", "train"],
        ["evaluate", where],
        ["explain", where, "--methods", "gradient", "--per-class"],
        ["explain", where, "--methods", "gradient", "--images", *images],
        ["attack", where, "--steps", "1", "--limit", "5", "--json"],
        ["predict", where, *images, "--json"],
        ["report", where, "--out", str(data.parent / "report")],
    ):
        assert main.run(command) == 0, (command, capsys.readouterr().err)
    capsys.readouterr()
    assert main.run(["attack", where, "--steps", "1", "--images", *images, "--json"]) == 0
    attacked = json.loads(capsys.readouterr().out)["images"]
    assert [entry["image"] for entry in attacked] == [os.fsdecode(name) for name in FILES]
    assert all((run.results / "attack" / entry["file"]).is_file() for entry in attacked)
    explained = read_json(run.results / "attribution-files.json")["galleries"]["images"]
    assert [entry["image"] for entry in explained] == [entry["image"] for entry in attacked]
    evaluation = read_json(run.results / "val.json")
    assert set(evaluation["per_class"]) > {"caf\\xe9", "caf\\xe8", '=1,"q"\t\n\x1b[31m'}
    assert evaluation["source"] == str(data)
    for page in ("attention-files/attention.html", "attention/attention.html"):
        text = (run.results / page).read_bytes().decode()
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "caf\ufffd-1.png" in (run.results / "attention-files/attention.html").read_text("utf-8")
    (report,) = (data.parent / "report").glob("*.html")
    assert "\x1b" not in report.read_bytes().decode()


def test_an_attack_writes_its_files_in_an_old_locale(data, run):
    where = os.fsencode(data) + b"/" + CLASSES[0] + b"/"
    images = [where + name for name in FILES if b"\n" not in name]
    command = [sys.executable, "-m", "scenelab", "attack", str(run.folder), "--steps", "1", "--images", *images]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stderr
    assert (run.results / "attack" / "001-caf_-1.png").is_file()


READ_BOTH = """
import sys
from pathlib import Path
from scenelab.data.splits import open_dataset
sys.path.insert(0, sys.argv[2])
from miniplaces import MiniPlaces
folder = Path(sys.argv[1])
kit = MiniPlaces(folder, "val", lambda image: image.size)
assert [kit[0], kit[1]] == [((20, 20), 0), ((20, 20), 1)]
assert len(open_dataset(folder, None, "val", 16)) == 2
"""


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}])
def test_the_kit_and_the_package_find_files_in_an_old_locale(tmp_path, locale):
    (tmp_path / "images").mkdir()
    for name in (b"\xc3\xa9 1.png", b"\xe9.png"):
        Image.new("RGB", (20, 20)).save(tmp_path / "images" / os.fsdecode(name))
    (tmp_path / "val.txt").write_bytes(b"\xef\xbb\xbf\xc3\xa9 1.png 0\r\n\xe9.png 1\r\n")
    environment = {**os.environ, **locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    kit = Path(app.__file__).parents[1] / "course" / "kit" / "files" / "code"
    subprocess.run([sys.executable, "-c", READ_BOTH, str(tmp_path), str(kit)], env=environment, check=True)


def test_the_predictions_name_the_files_without_loss(run, data):
    if not (run.results / "val_predictions.csv").exists():
        assert main.run(["evaluate", str(run.folder)]) == 0
    opened = open_run(run.folder)
    dataset = opened.dataset
    with open(run.results / "val_predictions.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert [data / row["path"] for row in rows] == [data / path for path in dataset.paths]
    assert all((data / row["path"]).is_file() for row in rows)
    assert not any(row["path"].startswith(("=", "-")) for row in rows)
    mistakes = read_mistakes(opened)
    assert [str(guess) for guess in mistakes["guesses"]] == [row["guess1"] for row in rows]
