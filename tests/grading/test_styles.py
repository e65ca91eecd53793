"""Correct answers in many styles earn every point; PyTorch's convolution in many disguises never passes unseen."""

import csv
import dataclasses

import pytest

from mutants import write
from scenelab.course.grading.batch import Batch
from scenelab.course.grading.rubric import default_text, parse
from scenelab.course.grading.sandbox import best
from styles import GPU_HABITS, HONEST, NATIVE, lost

FLAGGED = {"registry", "words that hide nothing"}
"""Honest styles that are flagged for review, for words in them that could hide a call."""


def grade_all(folder, submissions):
    names = {f"s{number:02}": name for number, name in enumerate(submissions)}
    for short, name in names.items():
        write(folder / "in" / short, submissions[name])
    rubric = parse(default_text(), "test")
    limits = dataclasses.replace(rubric.limits, budget_seconds=30.0)
    batch = Batch(folder / "out", dataclasses.replace(rubric, limits=limits), best(folder / "out" / ".work"), seed=0)
    grades = batch.run([folder / "in"], jobs=2)
    return {names[grade.entry.student]: grade for grade in grades}


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest")
    return grade_all(folder, {**HONEST, "GPU habits": GPU_HABITS}), folder / "out"


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    return grade_all(tmp_path_factory.mktemp("native"), NATIVE)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_style_earns_every_point(honest, name):
    grade = honest[0][name]
    assert lost(grade) == {}
    assert grade.result.problem == ""
    assert grade.score == grade.rubric.automatic
    assert all(points == 0 for _, points in grade.penalties)
    assert bool(grade.review) is (name in FLAGGED), grade.review
    assert grade.result.faults == []


@pytest.mark.slow
def test_gpu_habits_cost_the_one_deduction(honest):
    grade = honest[0]["GPU habits"]
    assert lost(grade) == {}
    assert [points for _, points in grade.penalties] == [0.75]
    assert "get_device_name" in grade.penalties[0][0]


@pytest.mark.slow
def test_review_flags_are_in_the_table_and_on_the_page(honest):
    grades, out = honest
    rows = {row["student"]: row for row in csv.DictReader((out / "grades.csv").read_text().splitlines())}
    grade = grades["words that hide nothing"]
    row = rows[grade.entry.student]
    assert "import of pickle" in row["review"]
    assert float(row["held"]) == 4.0
    for page in ("grade.html", "grade.md"):
        text = (out / "students" / grade.entry.student / page).read_text()
        assert "import of pickle" in text.replace("\\", "")
        assert "4 of the points count when that is done" in text
    plain = rows[grades["vectorized"].entry.student]
    assert plain["review"] == ""
    assert float(plain["held"]) == 0


@pytest.mark.slow
def test_a_self_test_and_a_notebook_are_remarked_on(honest):
    assert "costs nothing as long as yours does not call it" in " ".join(honest[0]["self-test"].result.remarks)
    notes = " ".join(honest[0]["notebook"].result.notes)
    assert "hw3.ipynb is a notebook: its code cells were graded as a file" in notes


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NATIVE)
def test_native_convolution_never_passes_in_silence(native, name):
    grade = native[name]
    earned = sum(outcome.earned for outcome in grade.result.outcomes if outcome.group == "convolution")
    caught = grade.result.outcomes[0].reason
    assert "not its own" in caught or grade.review, "nobody would see it"
    if earned:
        assert grade.held == pytest.approx(earned)
    assert grade.result.faults == []


UNREAD = {
    "a folder on sys.path": "extra/thing.py was imported and had not been read",
    "a long module": "code/long.py was imported and had not been read",
    "a zip on sys.path": "lib.zip/zipped.py was imported and had not been read",
    "a text made code": "code/made.py was imported and had not been read",
    "timeit": "line 6: runs code through timeit.py",
    "eval": "runs code that was made at run time",
    "a custom operator": "line 6: registers an operator or a kernel of torch (mine)",
    "a DataLoader's worker": "starts a process (os.fork)",
    "another process": "starts a process (subprocess.Popen)",
    "the garbage collector": "gc.get_objects",
    "frames": "sys._getframe",
    "another kernel": "registers an operator or a kernel of torch (aten)",
    "a record that is closed": "the record of what the process does was closed",
    "a process that stays": "starts a process (subprocess.Popen)",
    "a program called uname": "starts a process (subprocess.Popen)",
    "a quiet class": "import of modules from sys",
    "ONNX": "the convolution runs code of onnx, onnxruntime",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNREAD)
def test_code_that_is_not_read_or_not_watched_is_flagged(native, name):
    assert UNREAD[name] in "; ".join(native[name].review)


@pytest.mark.slow
def test_outputs_equal_to_the_last_bit_are_flagged(native):
    """In another process nothing is watched, but its sums come out as PyTorch's in twenty cases."""
    grade = native["a process that stays"]
    assert lost(grade) == {}
    assert "equal to PyTorch's to the last bit in 20 cases" in "; ".join(grade.review)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["a custom operator", "a thread", "a pickle", "vmap", "behind forty imports", "frames", "the public kernel", "another key",
     "a list of operators", "a record that is closed", "the garbage collector", "deformable"],
)  # fmt: skip
def test_calls_in_the_watched_process_are_caught(native, name):
    assert "not its own" in native[name].result.outcomes[0].reason
