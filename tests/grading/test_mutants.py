"""Each wrong answer loses the points of what is wrong with it, and nothing that a hostile file does earns a point."""

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mutants import CHECKS, HOSTILE, MUTANTS, inner_names, mutant, mutate, part, solution, together, write
from scenelab.course.grading.batch import Batch
from scenelab.course.grading.rubric import default_text, parse, read_rubric
from scenelab.course.grading.sandbox import best, measure
from scenelab.course.kit import files
from scenelab.course.kit.strip_solutions import YEARS

QUICK = default_text().replace("seconds = 20.0 ", "seconds = 12.0 ").replace("memory_mib = 3072", "memory_mib = 1536")
"""The memory is for three processes of a submission that forks; each counts in full what it shares: torch, 0.4 GB."""


def grade_all(folder, submissions):
    for name, texts in submissions.items():
        write(folder / "in" / name, texts)
    batch = Batch(folder / "out", parse(QUICK, "test"), best(folder / "out" / ".work"))
    return {grade.entry.student: grade for grade in batch.run([folder / "in"], jobs=2)}


def slug(name):
    return name.replace(" ", "-").replace("'", "").replace(",", "")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Grades of hostile code, in the whole sandbox or not at all, and the command lines of processes left behind."""
    folder = tmp_path_factory.mktemp("hostile")
    level = measure("bubblewrap", folder)
    if level is None or not level.whole:
        pytest.skip("no bubblewrap here: hostile code is not run")
    grades = grade_all(folder, {slug(change.name): mutate(change) for change in HOSTILE})
    time.sleep(0.5)
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            commands.append(path.read_bytes())
    return grades, [command for command in commands if str(folder).encode() in command]


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Results by the name of the mutant; one submission holds one of each part of the assignment."""
    rows = together()
    assert sorted(change.name for row in rows.values() for change in row) == sorted(change.name for change in MUTANTS)
    grades = grade_all(tmp_path_factory.mktemp("mutants"), {name: mutate(*row) for name, row in rows.items()})
    return {change.name: grades[name].result for name, row in rows.items() for change in row}


def test_every_check_has_a_mutant_that_fails_it():
    assert len(MUTANTS) >= 40
    assert {name for change in MUTANTS for name in change.loses} == set(CHECKS)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("change", MUTANTS, ids=lambda change: change.name)
def test_a_mutant_loses_its_own_points(graded, change):
    require_own_losses(graded[change.name], change)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.name)
def test_hostile_code_earns_nothing(hostile, change):
    require_own_losses(hostile[0][slug(change.name)].result, change)


def require_own_losses(result, change):
    group = "all" if change in HOSTILE else part(change)
    own = [outcome for outcome in result.outcomes if group in ("all", outcome.name.partition("_")[0])]
    lost = {outcome.name: outcome.reason for outcome in own if outcome.status != "passed"}
    assert set(lost) == set(change.loses), lost
    shares, points = {**dict.fromkeys(change.loses, 0.0), **dict(change.earned)}, read_rubric().checks
    for outcome in own:
        assert outcome.earned == pytest.approx(shares.get(outcome.name, 1.0) * points[outcome.name], abs=1e-4), outcome
    assert all(lost.values()), "every check that is lost says why"
    text = " ".join([*lost.values(), result.problem])
    assert change.says in text, text
    assert not inner_names().search(text), text
    assert change.review in " ".join(result.review), result.review
    assert result.faults == []


@pytest.mark.slow
def test_nothing_is_left_of_hostile_code(hostile):
    assert hostile[1] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Grades of the solutions and the bare kits."""
    kits = {f"solution-{year}": solution(year) for year in YEARS}
    for year in YEARS:
        texts = {name: text.encode() for name, text in files(year).items()}
        kits[f"kit-{year}"] = {name: text for name, text in texts.items() if name.startswith("code/")}
    return grade_all(tmp_path_factory.mktemp("whole"), kits)


@pytest.mark.parametrize("year", YEARS)
def test_the_solution_gets_all_points(whole, year):
    grade = whole[f"solution-{year}"]
    assert [(outcome.name, outcome.reason) for outcome in grade.result.outcomes if outcome.status != "passed"] == []
    assert grade.penalties == []
    assert grade.score == grade.rubric.automatic == 8.0
    assert grade.result.review == []
    assert grade.result.remarks != []


@pytest.mark.parametrize("year", YEARS)
def test_the_bare_kit_gets_none_and_says_why(whole, year):
    grade = whole[f"kit-{year}"]
    assert grade.score == grade.earned == 0
    for outcome in grade.result.outcomes:
        if outcome.name != "conv_by_hand":  # no points: it contains no convolution of a library
            expected = "not filled in yet" if outcome.name.startswith(("conv", "att")) else ""
            assert outcome.reason
            assert expected in outcome.reason, outcome
    assert "still the kit's SimpleNet" in " ".join(outcome.reason for outcome in grade.result.outcomes)


SUSPECTED = {
    "weights": (".sum(dim=0).view_as(weight)", ".sum(dim=0)"),
    "squares": ("unflatten(2, (height, width)).clone()", "unflatten(2, (int(windows.shape[2] ** 0.5),) * 2).clone()"),
    "dtype": ("        kernel = weight.shape[-1]\n", "        weight, kernel = weight.double(), weight.shape[-1]\n"),
}


def test_code_that_fails_in_some_cases_is_not_suspected(tmp_path):
    """Of fitting those in which nothing is watched: backward, images that are not square, and float32 may fail."""
    grades = grade_all(tmp_path, {name: mutate(mutant("", change)) for name, change in SUSPECTED.items()})
    assert [grade.result.review for grade in grades.values() if grade.result.review] == []
    assert all(grade.held == 0 < grade.earned for grade in grades.values())


def test_grading_again_gives_the_same_bytes(tmp_path):
    contents = []
    for name in ("a", "b"):
        grade_all(tmp_path / name, {"right": solution(), "wrong": mutate(MUTANTS[0])})
        out = tmp_path / name / "out"
        contents.append({str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]
    assert "students/right/grade.html" in contents[0]


def outcomes_of(path):
    result = json.loads(path.read_text()) if path.exists() else {"outcomes": []}
    return [outcome for outcome in result["outcomes"] if outcome["status"] != "not run"]


def test_an_interrupted_batch_resumes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "in" / name, mutate(MUTANTS[0]))
    command = [sys.executable, "-m", "scenelab", "grade", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    stored = tmp_path / "out" / "students" / "a" / "result.json"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(outcomes_of(stored)) < 3:
            time.sleep(0.01)
        process.kill()
    before = outcomes_of(stored)
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    assert len(before) >= 3
    assert before == outcomes_of(stored)[: len(before)]
    assert json.loads(stored.read_text())["complete"]
    assert not (tmp_path / "out" / ".work").exists()
