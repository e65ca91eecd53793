"""Correct answers in many styles earn every point; PyTorch's convolution in many disguises never passes unseen."""

import csv

import pytest

from mutants import solution, write
from scenelab.course.grading.batch import Batch
from scenelab.course.grading.checks import CHECKS
from scenelab.course.grading.grade import PYTHON
from scenelab.course.grading.rubric import read_rubric
from scenelab.course.grading.sandbox import best
from styles import CODE, GPU, HONEST, NATIVE, changed, lost

FLAGGED = {"registry", "words that hide nothing"}
"""Honest styles that are flagged for review, for words in them that could hide a call."""
OUTPUT = "        return output.unflatten(2, (height, width)).clone()\n"
BROKEN = {
    "rules": {**solution(), "data/train.txt": b"x", "results/model_big.pth": bytes(10_000_001)},
    "syntax": {**solution(), CODE: b"class CustomConv2d:\n    def forward(self\n"},
    "import": {**solution(), CODE: b"CustomConv2d = 1\nraise ValueError('no')\n"},
    "einops": changed(
        (OUTPUT, "        return rearrange(output, 'n c (h w) -> n c h w', h=height)\n"),
        top="from einops_exts import rearrange\n",
    ),
    "no PDF": {name: content for name, content in solution().items() if not name.startswith("writeup")},
    "absolute": changed(top="LOGS = '/home/me/logs/'\n"),
    "slow": changed(top="import time\ntime.sleep(100)\n"),
}


def grade_all(folder, submissions):
    names = {f"s{number:02}": name for number, name in enumerate(submissions)}
    for short, name in names.items():
        write(folder / "in" / short, submissions[name])
    batch = Batch(folder / "out", read_rubric(), best(folder / "out" / ".work"), seed=0)
    return {names[grade.entry.student]: grade for grade in batch.run([folder / "in"], jobs=2)}


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest")
    return grade_all(folder, {**HONEST, **GPU, **BROKEN}), folder / "out"


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    return grade_all(tmp_path_factory.mktemp("native"), NATIVE)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*HONEST, *GPU])
def test_an_honest_style_earns_every_point(honest, name):
    grade = honest[0][name]
    assert lost(grade) == {}
    assert grade.result.problem == ""
    assert grade.earned == grade.rubric.automatic == 8.0
    assert [points for _, points in grade.penalties if points] == ([0.75] if name in GPU else [])
    assert all("GPU" in text for text, points in grade.penalties if points)
    assert bool(grade.review) is (name in FLAGGED), grade.review
    assert grade.result.faults == []
    assert "/stage-" not in str(grade.result), "a folder of the grader's is named"


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
        assert "4 of your points are on hold until then" in text
    plain = rows[grades["vectorized"].entry.student]
    assert plain["review"] == ""
    assert float(plain["held"]) == 0


REMARKS = {
    "self-test": "costs nothing as long as yours does not call it",
    "notebook": "hw3.ipynb is a notebook: its code cells were graded as a file",
    "attack on data": "still require gradients",
    "backward": "leaves gradients in the model's parameters",
    "habits": "get_device_name",
    "debug prints and stray imports": "custom_transforms, cv2, tensorboardX, utils",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REMARKS)
def test_habits_that_cost_no_points_are_remarked_on(honest, name):
    result = honest[0][name].result
    assert REMARKS[name] in " ".join([*result.remarks, *result.notes, *result.gpu])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("syntax", f"{PYTHON} cannot parse student_code.py, line 2: '(' was never closed"),
        ("import", "raised ValueError: no (student_code.py, line 2"),
        ("slow", "did not end within 20 seconds"),
    ],
)
def test_a_file_that_cannot_run_says_why(honest, name, message):
    grade = honest[0][name]
    assert grade.score == 0
    assert message in grade.result.problem
    assert {outcome.status for outcome in grade.result.outcomes} == {"not run"}


@pytest.mark.slow
def test_a_missing_package_is_not_a_wrong_answer(honest):
    grade = honest[0]["einops"]
    outcome = next(each for each in grade.result.outcomes if each.name == "conv_forward")
    assert outcome.status == "not run"
    assert "einops_exts" in outcome.reason
    assert set(lost(grade)) == {name for name in CHECKS if name.startswith("conv_")} - {"conv_by_hand"}


@pytest.mark.slow
def test_the_first_broken_rule_is_free(honest):
    rules = honest[0]["rules"]
    assert set(rules.result.violations) == {"forbidden folders", "sizes"}
    assert [points for _, points in rules.penalties] == [0.0, 0.75]
    assert set(lost(rules)) == {"model_small"}
    assert [points for _, points in honest[0]["no PDF"].penalties] == [0.0]
    assert honest[0]["no PDF"].score == 8.0
    assert "/home/me/logs/" in honest[0]["absolute"].penalties[0][0]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NATIVE)
def test_native_convolution_never_passes_in_silence(native, name):
    grade = native[name]
    earned = sum(outcome.earned for outcome in grade.result.outcomes if outcome.group == "convolution")
    assert "not its own" in grade.result.outcomes[0].reason or grade.review, "nobody would see it"
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
    "a custom operator": "line 5: registers an operator or a kernel of torch (mine)",
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


WATCHED = (
    "a custom operator|a thread|a pickle|vmap|behind forty imports|frames|the public kernel|another key|deformable"
)
WATCHED += "|a list of operators|a record that is closed|the garbage collector"


@pytest.mark.slow
@pytest.mark.parametrize("name", WATCHED.split("|"))
def test_calls_in_the_watched_process_are_caught(native, name):
    assert "not its own" in native[name].result.outcomes[0].reason
