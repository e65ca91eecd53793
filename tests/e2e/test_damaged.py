"""A run over a folder with damaged images: refused, or trained without them, and the report names them."""

import json
import shutil

from scenelab.cli import main
from scenelab.data.splits import open_split

FLAGS = ["--model", "residual-small", "--epochs", "1", "--batch-size", "32", "--threads", "1"]


def test_damaged_images_are_counted_and_named(scenes, tmp_path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(scenes, data, ignore=shutil.ignore_patterns("packed"))
    train, val = open_split(data, "train"), open_split(data, "val")
    train.file(2).write_bytes(train.file(2).read_bytes()[:300])
    train.file(9).unlink()
    val.file(0).write_bytes(b"")
    command = ["train", "demo", "--data", str(data), "--out", str(run), *FLAGS]
    assert main.run(command) == 1
    assert "1 of 72 listed images are missing" in capsys.readouterr().err
    assert not run.exists() or not (run / "config.json").exists()
    assert main.run([*command, "--damaged", "skip"]) == 0
    said = capsys.readouterr()
    assert "train: 2 listed images could not be read and were skipped (results/training.json)" in said.out
    accounting = json.loads((run / "results" / "training.json").read_text())
    assert accounting["images_seen"] == 70
    assert [path for path, _ in accounting["skipped"]["train"]] == [train.paths[2], train.paths[9]]
    assert "No such file" in accounting["skipped"]["train"][1][1]
    assert [path for path, _ in accounting["skipped"]["val"]] == [val.paths[0]]
    assert main.run(["evaluate", str(run)]) == 0
    assert json.loads((run / "results" / "val.json").read_text())["images"] == 35
    assert main.run(["report", str(run), "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Left out of the train list: 2 unreadable images" in page
    assert "Left out of the val list: 1 unreadable image" in page
    assert train.paths[2] in page
