"""Course folders: marks, notebooks, and the tutorial of docs/grading.md, line by line."""

import csv
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mutants import write
from scenelab.cli import main
from scenelab.course.kit import files, make_course, make_kit
from scenelab.errors import LabError

ROOT = Path(__file__).parents[2]
MARKED = "def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION\n"


@pytest.mark.parametrize("year", [2019, 2022])
@pytest.mark.parametrize("solution", [False, True])
def test_the_course_folder_of_this_package_gives_its_kit(tmp_path, year, solution):
    make_course(tmp_path / "course", year=year)
    make_kit(tmp_path / "kit", course=tmp_path / "course", solution=solution)
    kit = {
        path.relative_to(tmp_path / "kit").as_posix(): path.read_text()
        for path in (tmp_path / "kit").rglob("*")
        if path.is_file()
    }
    assert kit == files(year, solution=solution)
    assert (tmp_path / "kit" / "download_dataset.sh").stat().st_mode & stat.S_IXUSR


def test_a_notebook_and_other_files(tmp_path):
    cell = {
        "cell_type": "code",
        "source": MARKED.splitlines(keepends=True),
        "outputs": [{"x": 1}],
        "execution_count": 3,
    }
    notebook = json.dumps({"cells": [{"cell_type": "markdown", "source": "### BEGIN SOLUTION"}, cell], "nbformat": 4})
    kit = {"a.ipynb": notebook.encode(), "b.png": b"\x89PNG\xff", "notebooks/c.py": b"# %%\n1\n"}
    write(tmp_path / "course" / "kit", kit)
    make_kit(tmp_path / "kit", course=tmp_path / "course")
    text, code = json.loads((tmp_path / "kit" / "a.ipynb").read_text())["cells"]
    assert text["source"] == "### BEGIN SOLUTION"
    assert 'raise NotImplementedError("yours to write")' in "".join(code["source"])
    assert (code["outputs"], code["execution_count"], "return x" in str(code)) == ([], None, False)
    assert (tmp_path / "kit" / "b.png").read_bytes() == kit["b.png"]
    assert json.loads((tmp_path / "kit" / "notebooks" / "c.ipynb").read_text())["cells"][0]["source"] == ["1"]


INVALID = [
    ({"kit/a.py": MARKED.replace("### END SOLUTION", "").encode()}, "a.py: the last region of the solution has no end"),
    ({"kit/a.py": b"\xff"}, "a.py: 'utf-8' codec"),
    ({"kit/a.ipynb": b"{}"}, "a.ipynb: 'cells'"),
    ({"other": b""}, "has no folder kit; 'scenelab kit"),
]


@pytest.mark.parametrize(("course", "message"), INVALID)
def test_an_invalid_course_folder_is_an_error(tmp_path, course, message):
    with pytest.raises(LabError, match=message):
        make_kit(tmp_path / "kit", course=write(tmp_path / "course", course))
    assert not (tmp_path / "kit").exists()


def test_a_missing_course_folder_is_an_error(tmp_path, capsys):
    write(tmp_path / "in" / "a", {"code/student_code.py": b"x = 1\n"})
    assert main.run(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--from", "/no"]) == 1
    assert "--from /no is not a folder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_works_word_for_word(tmp_path):
    text = (
        (ROOT / "docs" / "grading.md").read_text("utf-8").partition("## Your own assignment\n")[2].partition("\n## ")[0]
    )
    commands = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scenelab").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from scenelab.cli import entry_point; entry_point()" "$@"\n'
    )
    (tmp_path / "bin" / "scenelab").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
    }
    done = subprocess.run(["bash", "-euc", commands], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in ("ann: 8 of 8", "ben: 0 of 8", "cleo: 6.5 of 8"):
        assert line in done.stdout
        assert line in text
    with open(tmp_path / "grades" / "grades.csv", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert [rows[name]["max_pool"] for name in ("ann", "ben", "cleo")] == ["1.5", "0.0", "0.0"]
    assert "other values than the largest" in (tmp_path / "grades" / "students" / "cleo" / "grade.html").read_text()
    kit = (tmp_path / "homework" / "code" / "student_code.py").read_text()
    assert ["max_pool is yours to write" in kit, "GradAttention.explain is yours" in kit] == [True, False]
