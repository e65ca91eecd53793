"""A whole class from a Canvas download: team mates, hidden checks, the challenge, what the command prints."""

import csv
import io
import json
import os
import pickle
import zipfile

import pytest
import torch
from PIL import Image

from mutants import MUTANTS, mutate, solution, write, write_as_zip
from scenelab.cli import main
from scenelab.course.grading.checks import CHECKS
from scenelab.course.grading.rubric import default_text

HIDDEN = '''
from scenelab.course.grading.checks import CheckContext, CheckFailed, check


@check("hidden")
def hidden_knows_depth(context: CheckContext) -> None:
    """The convolution has a helper."""
    if "helper" not in next(context.root.rglob("student_code.py")).read_text():
        raise CheckFailed("there is no helper")
'''


def weights(bias: int) -> bytes:
    """A checkpoint of the solution's network that always guesses one class."""
    module: dict = {}
    exec(compile(solution()["code/student_code.py"], "student_code.py", "exec"), module)
    torch.manual_seed(0)
    network = module["default_model"]()
    with torch.no_grad():
        network.fc.weight.zero_()
        network.fc.bias.copy_(-(torch.arange(100) - bias).abs().float())
    file = io.BytesIO()
    torch.save({"epoch": 1, "state_dict": network.state_dict(), "best_acc1": 1.0, "model_arch": "ResidualNet"}, file)
    return file.getvalue()


class Boom:
    def __reduce__(self):
        return os.system, ("touch /tmp/scenelab-canary",)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hidden")
    (folder / "checks.py").write_text(HIDDEN)
    (folder / "images" / "test").mkdir(parents=True)
    lines = []
    for number, label in enumerate((3, 3, 5, 90)):
        Image.new("RGB", (128, 128), (number * 50, 10, 10)).save(folder / "images" / "test" / f"{number}.jpg")
        lines.append(f"test/{number}.jpg {label}")
    (folder / "test.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
def test_a_class(tmp_path, hidden, capsys):
    checkpoints = [weights(3), weights(3), weights(90), b"not a checkpoint", pickle.dumps(Boom())]
    names = "annlee_101_1 bobray_102_2 cyfox_LATE_103_3 dankim_104_4 evehall_105_5".split()
    submissions = {
        f"{name}_submission.zip": {**solution(), "results/model_best.pth.tar": checkpoint}
        for name, checkpoint in zip(names, checkpoints, strict=True)
    }
    submissions["cyfox_LATE_103_3_submission.zip"] |= mutate(MUTANTS[0])
    with zipfile.ZipFile(tmp_path / "submissions.zip", "w") as bulk:
        for name, files in submissions.items():
            bulk.write(write_as_zip(tmp_path / name, files, tmp_path / name.removesuffix(".zip")), name)
    rubric = tmp_path / "rubric.toml"
    text = default_text().replace("model_small = 0.25", "model_small = 0.125\nhidden_knows_depth = 0.125")
    rubric.write_text(text.replace("hidden = []", 'hidden = ["hidden_knows_depth"]'))
    out = tmp_path / "out"
    command = ["grade", str(tmp_path / "submissions.zip"), "--out", str(out), "--jobs", "2"]
    command += ["--rubric", str(rubric), "--hidden", str(hidden)]
    try:
        assert main.run(command) == 0
        printed = capsys.readouterr().out
        assert "sandbox: " in printed
        assert "annlee: 7.875 of 8" in printed
        rows = {row["student"]: row for row in csv.DictReader((out / "grades.csv").read_text().splitlines())}
        assert set(rows) == {"annlee", "bobray", "cyfox", "dankim", "evehall"}
        assert rows["annlee"]["team"] == "bobray"
        assert rows["bobray"]["team"] == "annlee"
        assert rows["cyfox"]["late"] == "late"
        assert float(rows["cyfox"]["score"]) < 6
        assert float(rows["annlee"]["challenge_top5_error"]) == 25.0
        assert float(rows["cyfox"]["challenge_top5_error"]) == 75.0
        board = list(csv.DictReader((out / "leaderboard.csv").read_text().splitlines()))
        assert [(row["rank"], row["team"]) for row in board] == [("1", "annlee bobray"), ("2", "cyfox")]
        assert not os.path.exists("/tmp/scenelab-canary")
        for name in ("dankim", "evehall"):
            page = (out / "students" / name / "grade.md").read_text()
            assert "Your model was not evaluated" in page
        page = (out / "students" / "annlee" / "grade.html").read_text()
        assert "a hidden check" in page
        assert "no helper" not in page
        assert "submitted together with bobray" in page
        before = (out / "students" / "annlee" / "result.json").stat().st_mtime_ns
        assert main.run([*command, "--json"]) == 0
        assert (out / "students" / "annlee" / "result.json").stat().st_mtime_ns == before, "nothing anew"
        assert len(json.loads(capsys.readouterr().out)) == 5
    finally:
        CHECKS.pop("hidden_knows_depth", None)


def test_one_submission_for_gradescope_and_autolab(tmp_path, capsys, monkeypatch):
    """Two folders in one upload are one submission; a relative folder for the grades lies where one stands."""
    monkeypatch.chdir(tmp_path)
    code = solution()["code/student_code.py"]
    write(tmp_path / "submission", {"hw/student_code.py": code, "more/other.py": b"x = 1\n"})
    results = tmp_path / "results" / "results.json"
    command = ["grade", "submission", "--out", "grades", "--gradescope", str(results), "--autolab"]
    assert main.run(command) == 0
    assert json.loads(results.read_text())["score"] == 8.0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["scores"]["convolution"] == 4.0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--jobs", "0"], "--jobs is 0"),
        (["--hidden", "/no"], "--hidden /no is not a folder"),
        (["--rubric", "/no"], "--rubric /no cannot be read"),
    ],
)
def test_invalid_flags_are_refused(tmp_path, capsys, flags, message):
    write(tmp_path / "in" / "a", {"code/student_code.py": b"x = 1\n"})
    assert main.run(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *flags]) == 1
    assert message in capsys.readouterr().err
