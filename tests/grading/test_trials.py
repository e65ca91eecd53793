"""Submissions that impersonate, leak, print and pretend; each was seen to succeed once."""

import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import scenelab
import scenelab_runner
from mutants import ATTENTION_END, CALL, RETURN, solution, write
from scenelab.cli import main
from scenelab.course.grading.batch import Batch, seed_of
from scenelab.course.grading.checks import CheckContext
from scenelab.course.grading.monitor import Monitor
from scenelab.course.grading.rubric import default_text, parse
from scenelab.course.grading.sandbox import best
from scenelab.course.grading.submission_error import sanitize
from scenelab.runtime import python_command
from scenelab_runner.wire import WireError
from styles import CODE, ORIGINAL, changed, lost

PACKAGES = [Path(package.__file__).parent for package in (scenelab, scenelab_runner)]
GRADING = "scenelab/course/grading"
STARTERS = {
    f"scenelab/{name}.py" for name in ("runtime", "runs/provenance", "studies/worker", "course/submission", "cli/train")
}
STARTERS |= {"scenelab/course/kit/make.py", "scenelab/course/grading/dry_run.py"}
STARTERS |= {f"{GRADING}/{name}.py" for name in ("sandbox", "bubblewrap", "processes", "similarity")}


def grade(folder, submissions, text=None):
    for name, files in submissions.items():
        write(folder / "in" / name, files)
    batch = Batch(folder / "out", parse(text or default_text(), "test"), best(folder / "out" / ".work"))
    return {each.entry.student: each for each in batch.run([folder / "in"], jobs=2)}


# --- code in a student's folder does not run in the grader's processes


def files_with(names, text="\0"):
    """Files of the package that use one of these attributes, or hold the text."""
    paths = [(path, package.parent) for package in PACKAGES for path in package.rglob("*.py")]
    sources = {path.relative_to(folder).as_posix(): path.read_text() for path, folder in paths}
    nodes = {name: ast.walk(ast.parse(source)) for name, source in sources.items()}
    used = {name: {node.attr for node in each if isinstance(node, ast.Attribute)} for name, each in nodes.items()}
    return {name for name, source in sources.items() if used[name] & names or text in source}


def test_every_file_that_starts_a_process_is_known():
    """A new one must be reviewed: what the process imports, and in which folder it runs."""
    files = files_with({"Popen", "check_output", "check_call", "execv", "execvp", "posix_spawn"}, "subprocess.run")
    assert files - {f"{GRADING}/launch.py", "scenelab_runner/audit.py", "scenelab/app/decoder.py"} == STARTERS


def test_python_is_started_with_safe_path():
    """`runtime.python_command` adds -P; only a student's own test run has none; demo and extras print the path."""
    assert files_with({"executable"}) == {
        "scenelab/runtime.py",
        "scenelab/cli/demo.py",
        "scenelab/extras.py",
        "scenelab/course/submission.py",
        f"{GRADING}/bubblewrap.py",
    }
    assert "-P" in python_command([]) or sys.version_info < (3, 11)


@pytest.mark.parametrize("start", [[sys.executable, "-m", "scenelab"], [str(Path(sys.executable).parent / "scenelab")]])
def test_a_module_beside_the_submission_is_not_imported(tmp_path, start):
    """`cd alice; scenelab grade .`: her hashlib.py ran as the instructor, in a process that was to read her files."""
    evil = b"import os\nopen(os.environ['CANARY'], 'a').write(__name__)\nraise SystemExit\n"
    files = dict.fromkeys(["hashlib.py", "json.py", "numpy.py", "torch.py"], evil)
    alice, canary = write(tmp_path / "alice", solution() | files), tmp_path / "canary"
    command, environment = [*start, "grade", ".", "--out", str(tmp_path / "out")], {**os.environ, "CANARY": str(canary)}
    done = subprocess.run(command, cwd=alice, check=False, capture_output=True, text=True, env=environment)
    assert not canary.exists(), canary.read_text()
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/students/alice/result.json").read_text())["problem"] == ""


# --- seeds


def context(seed, name="conv_forward"):
    result = CheckContext(None, None, seed)  # type: ignore[arg-type]
    result.name = name
    return result


def test_the_seed_of_the_students_process_does_not_reveal_the_graders():
    assert context(1).own_seed == context(2).own_seed
    assert context(1).own_seed != context(1, "conv_dtype").own_seed
    draws = [torch.rand(4, generator=context(seed, name).generator()) for seed, name in ((1, "a"), (2, "a"), (1, "b"))]
    assert not any(torch.equal(draws[0], each) for each in draws[1:])
    assert torch.equal(draws[0], torch.rand(4, generator=context(1, "a").generator()))


def test_the_seed_is_random_and_stored_with_the_grades(tmp_path):
    seed = seed_of(tmp_path / "a")
    assert seed == seed_of(tmp_path / "a")
    assert seed != seed_of(tmp_path / "b")
    assert seed.bit_length() > 64
    assert (tmp_path / "a" / "seed").stat().st_mode & 0o077 == 0


# --- points for nothing, and changes that go unnoticed

IMAGES = "        images = input.detach().clone()"
CONSTANT = {
    "zeros": ("torch.zeros_like(input)", "torch.zeros(len(input), 1, *input.shape[2:])"),
    "input": ("input.clone()", "input[:, :1].clone()"),
    "step": ("input + self.num_steps * self.step_size", "torch.ones(len(input), 1, *input.shape[2:])"),
    "clipped": (
        "input + min(self.epsilon, self.num_steps * self.step_size)",
        "input.mean() * torch.ones(len(input), 1, *input.shape[2:])",
    ),
}


@pytest.mark.slow
def test_constants_earn_nothing(tmp_path):
    submissions = {
        name: changed(
            (CALL, "        output = weight.flatten(1) @ windows * 0\n"),
            (ORIGINAL, f"        return {attack}\n{ORIGINAL}"),
            (IMAGES, f"        return {attention}\n{IMAGES}"),
        )
        for name, (attack, attention) in CONSTANT.items()
    }
    for name, result in grade(tmp_path, submissions).items():
        earned = {each.name: each.group for each in result.result.outcomes if each.earned}
        assert not {"attack", "attention"} & set(earned.values()), name
        assert not {"conv_dtype", "conv_leaves_input", "conv_forward"} & set(earned), name


@pytest.mark.slow
def test_a_change_of_dtype_is_noticed(tmp_path):
    submissions = {
        "ann": changed((ATTENTION_END, "        model.double()\n" + ATTENTION_END)),
        "bob": changed((ATTENTION_END, "        input.data = input.data.double()\n" + ATTENTION_END)),
        "cat": changed((RETURN, "        weight.data = weight.data.half().to(weight.dtype)\n" + RETURN)),
    }
    grades = grade(tmp_path, submissions)
    assert set(lost(grades["ann"])) == set(lost(grades["bob"])) == {"attention_leaves_model"}
    assert "dtype" in lost(grades["ann"])["attention_leaves_model"]
    assert "conv_leaves_input" in lost(grades["cat"])


# --- what a submission says

DEEP = """        x = []
        for _ in range(600):
            x = [x]
        self.loss_fn.x = x
        return x
"""
MUTE = "\n\nclass Mute(Exception):\n    def __str__(self):\n        raise RuntimeError('no')\n"
MARKUP = "        raise type('[/b][red]', (Exception,), {})('[link=http://x]x[/link]')\n"
LINKS = {"code/[/b].py": b"x = 1\n", "results/[red]x.pth": bytes(10_000_001), "code/=1+1.py": b"y = 2\n"}
ODD = {
    "deep": changed((ATTENTION_END, DEEP)),
    "bools": changed((ATTENTION_END, ATTENTION_END.replace("keepdim=True)", "keepdim=True) > 0"))),
    "ints": changed((CALL, CALL.replace("windows  #", "windows).long()  #").replace("= weight", "= (weight"))),
    "mute": changed((ATTENTION_END, "        raise Mute\n"), end=MUTE),
    "markup": changed((ATTENTION_END, MARKUP)),
    "escapes": changed((ATTENTION_END, "        raise ValueError('\\x1b]0;owned\\x07\\x1b[31mred')\n")),
    "names": solution() | LINKS,
    "only-names": {"code/[/b].py": b"x = 1\n"},
    "syntax": {**solution(), CODE: b"custom_conv2d = '\x1b]0;owned\x07' = 3 +\n"},
    "[bold]x": {CODE: b"x = 1\n"},
}


@pytest.mark.slow
def test_a_submissions_words_are_plain_text_everywhere(tmp_path, capsys):
    for name, files in ODD.items():
        write(tmp_path / "in" / name, files)
    assert main.run(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--jobs", "2"]) == 0
    printed = capsys.readouterr()
    files = [path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for text in (printed.out + printed.err, *files):
        assert not [control for control in ("\x1b]", "\\u001b", "\x07") if control in text]
    paths = (tmp_path / "out").glob("students/*/result.json")
    results = {path.parent.name: json.loads(path.read_text()) for path in paths}
    assert not [name for name, result in results.items() if result["faults"]], "a student's fault is not the grader's"
    reasons = {name: {each["name"]: each["reason"] for each in result["outcomes"]} for name, result in results.items()}
    messages = {
        "deep": "returned list",
        "bools": "torch.bool",
        "mute": "__str__ raised RuntimeError",
        "markup": "[/b][red]",
    }
    assert not [name for name, message in messages.items() if message not in reasons[name]["attention_map"]]
    assert "is not this assignment's" in results["only-names"]["problem"]
    assert "line 1" in results["syntax"]["problem"]


@pytest.mark.parametrize("ended", [False, True])
def test_a_record_closed_before_the_grader_ends_the_process_is_flagged(ended):
    flags = []
    monitor = Monitor(flags.append)
    with monitor.open():
        pass
    if not ended:
        monitor.read()
    monitor.close()
    assert flags == ([] if ended else ["the record of what the process does was closed"])


def test_the_counter_cannot_be_shrunk(tmp_path):
    """Reading a counter that was shrunk ended the grader with SIGBUS, and each grading after it."""
    top = "import os\nfor n in range(3, 64):\n    try:\n        os.ftruncate(n, 0)\n    except OSError:\n        pass\n"
    (result,) = grade(tmp_path, {"ann": changed(top=top)}).values()
    assert lost(result) == {}


def test_deeply_nested_values_are_refused(tmp_path):
    deep: list = []
    for _ in range(600):
        deep = [deep]
    with pytest.raises(WireError, match="too deep"):
        sanitize({"x": deep}, tmp_path)
    assert sanitize({"x": "a\x1b[31m\nb\u202e"}, tmp_path) == {"x": "a [31m\nb "}


# --- nothing in a submission makes another student, or takes another part's time


def test_one_students_archive_is_not_a_class(tmp_path, capsys):
    write(tmp_path / "b", solution())
    with zipfile.ZipFile(tmp_path / "bob.zip", "w") as archive:
        for path in sorted((tmp_path / "b").rglob("*")):
            archive.write(path, path.relative_to(tmp_path / "b"))
    with zipfile.ZipFile(tmp_path / "alice.zip", "w") as archive:
        archive.writestr("bob_LATE_77_999_submission.zip", b"PK\x05\x06" + bytes(18))
        archive.writestr("carol_LATE_78_998_submission.zip", (tmp_path / "bob.zip").read_bytes())
    out = tmp_path / "out"
    assert main.run(["grade", str(tmp_path / "alice.zip"), str(tmp_path / "bob.zip"), "--out", str(out), "--json"]) == 0
    rows = {row["student"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {"alice", "bob"}
    assert "holds what looks like the submission of others" in rows["alice"]["review"][0]
    assert rows["bob"]["review"] == []


@pytest.mark.slow
def test_each_part_has_its_own_time_budget(tmp_path):
    text = (
        default_text()
        .replace("budget_seconds = 90.0 ", "budget_seconds = 4.0 ")
        .replace("seconds = 20.0 ", "seconds = 2.0 ")
    )
    slow = changed((CALL, "        time.sleep(1.5)\n" + CALL), top="import time\n")
    (result,) = grade(tmp_path, {"ann": slow}, text).values()
    reasons = lost(result)
    assert all(name.startswith("conv_") for name in reasons)
    assert any("was not run: the checks of the part 'convolution'" in reason for reason in reasons.values())
