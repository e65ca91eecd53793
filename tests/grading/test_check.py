"""check.py of the kit gives the grader's verdicts, names the mistakes, and holds no answer."""

import ast
import json
import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from mutants import MUTANTS, mutate, part, solution, write
from scenelab.cli import main
from scenelab.course.grading.checks.mistakes import HINTS, MISTAKES
from scenelab.course.grading.rubric import read_rubric
from scenelab.course.grading.static_checks import examine
from scenelab.course.kit import files
from scenelab.course.kit.make import check_files
from scenelab.course.kit.strip_solutions import YEARS

PROGRAM = Path(__file__).parents[1] / "programs" / "check_submissions.py"
CODE = "code/student_code.py"
PART = {"conv": "convolution", "attack": "attack", "attention": "attention", "model": "network"}
ALL = ",".join(PART.values())


def run_program(folder, submissions, parts):
    """Results of the checks on submissions (files by path) by name; `parts` holds those to check."""
    write(folder, {name: text.encode() for name, text in check_files().items()})
    for name, handed in submissions.items():
        write(folder / name, handed)
    arguments = [f"{name}={parts[name]}" for name in submissions]
    done = subprocess.run([sys.executable, str(PROGRAM), str(folder), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lost(result):
    return {name for name, (status, _, _) in result["verdicts"].items() if status != "passed"}


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    names = {change.name: f"m{number}" for number, change in enumerate(MUTANTS)}
    parts = {names[change.name]: PART.get(part(change), ALL) for change in MUTANTS}
    submissions = {names[change.name]: mutate(change) for change in MUTANTS}
    results = run_program(tmp_path_factory.mktemp("checked"), submissions, parts)
    return {change.name: results[names[change.name]] for change in MUTANTS}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("change", MUTANTS, ids=lambda change: change.name)
def test_a_mutant_gets_the_graders_verdicts(checked, change):
    result = checked[change.name]
    assert lost(result) == set(change.loses)
    shares = {name: share for name, (_, share, _) in result["verdicts"].items() if name in change.loses and share}
    assert shares == dict(change.earned)
    assert change.says in result["printed"]
