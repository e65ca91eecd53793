"""Each wrong answer loses the points of what is wrong with it, and nothing that a hostile file does earns a point."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mutants import ATTACK, CHECKS, HOSTILE, MUTANTS, mutate, part, solution, together, write
from scenelab.course.grading.batch import Batch
from scenelab.course.grading.rubric import default_text, parse, read_rubric
from scenelab.course.grading.sandbox import best, measure

QUICK = default_text().replace("seconds = 20.0 ", "seconds = 6.0 ").replace("memory_mib = 3072", "memory_mib = 1536")
"""The memory is for three processes of a hand-in that forks, each of which counts in full what it shares: torch, 0.4 GB."""


def grade_all(folder, submissions):
    for name, handed in submissions.items():
        write(folder / "in" / name, handed)
    batch = Batch(folder / "out", parse(QUICK, "test"), best(folder / "out" / ".work"))
    return {grade.entry.student: grade for grade in batch.run([folder / "in"], jobs=2)}


def slug(name):
    return name.replace(" ", "-").replace("'", "").replace(",", "")


def require_bubblewrap(folder):
    """Hostile code is run in the whole sandbox or not at all: some of it kills whatever it can reach."""
    found = measure("bubblewrap", folder)
    if found is None or not found.whole:
        pytest.skip("no bubblewrap here: hostile code is not run")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    require_bubblewrap(folder)
    graded = grade_all(folder, {slug(change.name): mutate(change) for change in HOSTILE})
    time.sleep(0.5)
    return graded, processes_of(folder)


def processes_of(folder):
    """Command lines of processes that work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words:
            found.append(words)
    return found


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Results by the name of the mutant; one submission holds one of each part of the assignment."""
    rows = together()
    assert sorted(change.name for row in rows.values() for change in row) == sorted(change.name for change in MUTANTS)
    grades = grade_all(tmp_path_factory.mktemp("mutants"), {name: mutate(*row) for name, row in rows.items()})
    return {change.name: grades[name].result for name, row in rows.items() for change in row}


def test_there_are_enough():
    assert len(MUTANTS) >= 40
    assert {name for change in MUTANTS for name in change.loses} == set(CHECKS), (
        "a check that no mutant fails proves nothing"
    )
    assert ATTACK


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
    wanted = "all" if change in HOSTILE else part(change)
    own = [each for each in result.outcomes if wanted in ("all", each.name.partition("_")[0])]
    lost = {outcome.name: outcome.reason for outcome in own if outcome.status != "passed"}
    assert set(lost) == set(change.loses), lost
    shares = dict(change.earned)
    rubric = read_rubric()
    for outcome in own:
        share = 1.0 if outcome.name not in change.loses else shares.get(outcome.name, 0.0)
        assert outcome.earned == pytest.approx(share * rubric.checks[outcome.name], abs=1e-4), outcome
    assert all(lost.values()), "every check that is lost says why"
    told = " ".join([*lost.values(), result.problem])
    assert change.says in told, told
    assert change.review in " ".join(result.review), result.review
    assert result.faults == []


@pytest.mark.slow
def test_nothing_is_left_of_hostile_code(hostile):
    assert hostile[1] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    kits = {"solution-2019": solution(2019), "solution-2022": solution(2022)}
    for year in (2019, 2022):
        from scenelab.course.kit import files

        bare = {name: text.encode() for name, text in files(year).items() if name.startswith("code/")}
        kits[f"kit-{year}"] = bare
    return grade_all(tmp_path_factory.mktemp("whole"), kits)


@pytest.mark.parametrize("year", [2019, 2022])
def test_the_solution_gets_all_points(whole, year):
    grade = whole[f"solution-{year}"]
    assert [(outcome.name, outcome.reason) for outcome in grade.result.outcomes if outcome.status != "passed"] == []
    assert grade.penalties == []
    assert grade.score == grade.rubric.automatic == 8.0
    assert grade.result.review == []
    assert grade.result.remarks != []


@pytest.mark.parametrize("year", [2019, 2022])
def test_the_bare_kit_gets_none_and_says_why(whole, year):
    grade = whole[f"kit-{year}"]
    assert grade.score == grade.earned == 0
    for outcome in grade.result.outcomes:
        if outcome.name == "conv_by_hand":
            continue  # no points: there is no foreign convolution in it
        expected = {"conv": "not written yet", "atta": "not written yet", "atte": "not written yet"}.get(
            outcome.name[:4]
        )
        assert outcome.reason
        assert (expected or "") in outcome.reason, outcome
    assert "still the kit's SimpleNet" in " ".join(outcome.reason for outcome in grade.result.outcomes)


def test_again_gives_the_same_bytes(tmp_path):
    handed = {"right": solution(), "wrong": mutate(MUTANTS[0])}
    contents = []
    for name in ("a", "b"):
        grade_all(tmp_path / name, handed)
        out = tmp_path / name / "out"
        contents.append({str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]
    assert "students/right/grade.html" in contents[0]


def test_an_interrupted_batch_goes_on(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "in" / name, mutate(MUTANTS[0]))
    command = [sys.executable, "-m", "scenelab", "grade", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    stored = tmp_path / "out" / "students" / "a" / "result.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if stored.exists():
            outcomes = json.loads(stored.read_text())["outcomes"]
            if sum(outcome["status"] != "not run" for outcome in outcomes) >= 3:
                break
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = json.loads(stored.read_text())
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    after = json.loads(stored.read_text())
    kept = [outcome for outcome in before["outcomes"] if outcome["status"] != "not run"]
    assert len(kept) >= 3
    assert kept == after["outcomes"][: len(kept)]
    assert after["complete"]
    assert not (tmp_path / "out" / ".work").exists()
