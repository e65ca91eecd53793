"""What strangers tried: hand-ins that impersonate, leak, print and pretend; each was seen to succeed once."""

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
from mutants import ATTENTION_END, CALL, RETURN, solution, write
from ordinary_user import as_ordinary_user
from scenelab.cli import main
from scenelab.course.grading.batch import Batch, seed_of
from scenelab.course.grading.checks import CheckContext
from scenelab.course.grading.rubric import default_text, parse
from scenelab.course.grading.runner.wire import WireError
from scenelab.course.grading.sandbox import best
from scenelab.course.grading.submission_error import sanitize
from scenelab.runtime import python_command
from styles import CODE, changed, native

SOURCE = Path(scenelab.__file__).parent
GRADING = "course/grading"
STARTERS = {
    "runtime.py", f"{GRADING}/sandbox.py", f"{GRADING}/bubblewrap.py", f"{GRADING}/processes.py",
    f"{GRADING}/similarity.py", "studies/apart.py", "bench/child.py", "runs/run.py", "course/submission.py",
}  # fmt: skip


def grade(folder, submissions, **options):
    for name, handed in submissions.items():
        write(folder / "in" / name, handed)
    batch = Batch(folder / "out", parse(default_text(), "test"), best(folder / "out" / ".work"), **options)
    return {each.entry.student: each for each in batch.run([folder / "in"], jobs=2)}


def lost(grade):
    return {outcome.name: outcome.reason for outcome in grade.result.outcomes if outcome.status != "passed"}


# --- code of a stranger's folder does not run in our processes


def test_every_process_that_we_start_is_known():
    """A new place that starts a process has to be looked at: what it imports, and where it stands."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Attribute)}
        if (
            names & {"Popen", "check_output", "check_call", "execv", "execvp", "posix_spawn"}
            or "subprocess.run" in path.read_text()
        ):
            found.add(path.relative_to(SOURCE).as_posix())
    assert found - {f"{GRADING}/launch.py", f"{GRADING}/runner/audit.py"} == STARTERS


def test_python_is_started_in_one_way():
    """`runtime.python_command` gives -P; only what a student runs on their own code goes without."""
    users = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute) and node.attr == "executable"
    }
    assert users == {"runtime.py", "course/submission.py", f"{GRADING}/bubblewrap.py"}
    assert "-P" in subprocess.list2cmdline(python_command([]))


@pytest.mark.parametrize("start", [["-m", "scenelab"], [str(Path(sys.executable).parent / "scenelab")]])
def test_a_module_beside_the_submission_is_not_imported(tmp_path, start):
    """`cd alice; scenelab grade .`: her hashlib.py ran as the instructor, in a process that was to read her files."""
    evil = "import os\nopen(os.environ['CANARY'], 'a').write(__name__)\nraise SystemExit\n"
    alice = write(
        tmp_path / "alice",
        {**solution(), **{f"{name}.py": evil.encode() for name in ("hashlib", "json", "numpy", "torch")}},
    )
    command = [sys.executable, *start] if start[0] == "-m" else start
    done = subprocess.run([*command, "grade", ".", "--out", str(tmp_path / "out")], cwd=alice, check=False, capture_output=True,
                          text=True, env={**os.environ, "CANARY": str(tmp_path / "canary")})  # fmt: skip
    assert not (tmp_path / "canary").exists(), (tmp_path / "canary").read_text()
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/students/alice/result.json").read_text())["problem"] == ""


# --- seeds


def context(seed, name="conv_forward"):
    made = CheckContext(None, None, seed)  # type: ignore[arg-type]
    made.name = name
    return made


def test_what_the_students_process_is_seeded_with_tells_nothing_of_the_seed():
    assert context(1).own_seed == context(2).own_seed
    assert context(1).own_seed != context(1, "conv_dtype").own_seed
    draws = [torch.rand(4, generator=context(seed, name).generator()) for seed, name in ((1, "a"), (2, "a"), (1, "b"))]
    assert not any(torch.equal(draws[0], each) for each in draws[1:])
    assert torch.equal(draws[0], torch.rand(4, generator=context(1, "a").generator()))


def test_a_seed_is_drawn_and_kept_with_the_grades(tmp_path):
    seed = seed_of(tmp_path / "a")
    assert seed == seed_of(tmp_path / "a")
    assert seed != seed_of(tmp_path / "b")
    assert seed.bit_length() > 64
    assert (tmp_path / "a" / "seed").stat().st_mode & 0o077 == 0


# --- points for nothing, and for what pretends to leave things alone

PGD_BODY = "        original = input.detach()\n"
CONSTANT = {
    "zeros": ("torch.zeros_like(input)", "torch.zeros(len(input), 1, *input.shape[2:])"),
    "the input": ("input.clone()", "input[:, :1].clone()"),
    "a step the same everywhere": ("input + self.num_steps * self.step_size", "torch.ones(len(input), 1, *input.shape[2:])"),
    "clipped": ("input + min(self.epsilon, self.num_steps * self.step_size)", "input.mean() * torch.ones(len(input), 1, *input.shape[2:])"),
}  # fmt: skip


@pytest.mark.slow
def test_constants_earn_nothing(tmp_path):
    handed = {}
    for name, (attack, attention) in CONSTANT.items():
        output = "        output = weight.flatten(1) @ windows * 0\n"
        handed[name.replace(" ", "-")] = changed(
            (CALL, output), (PGD_BODY, f"        return {attack}\n{PGD_BODY}"),
            ("        images = input.detach().clone()", f"        return {attention}\n        images = input.detach().clone()"),
        )  # fmt: skip
    for name, grade_ in grade(tmp_path, handed).items():
        earned = {
            each.name: each.earned
            for each in grade_.result.outcomes
            if each.earned and each.group in ("attack", "attention")
        }
        assert earned == {}, name
        conv = {each.name for each in grade_.result.outcomes if each.earned and each.group == "convolution"}
        assert not conv & {"conv_dtype", "conv_leaves_input", "conv_forward"}, name


@pytest.mark.slow
def test_float64_is_not_left_alone(tmp_path):
    handed = {
        "ann": changed((ATTENTION_END, "        model.double()\n" + ATTENTION_END)),
        "bob": changed((ATTENTION_END, "        input.data = input.data.double()\n" + ATTENTION_END)),
        "cat": changed((RETURN, "        weight.data = weight.data.half().to(weight.dtype)\n" + RETURN)),
    }
    grades = grade(tmp_path, handed)
    assert set(lost(grades["ann"])) == set(lost(grades["bob"])) == {"attention_leaves_model"}
    assert "dtype" in lost(grades["ann"])["attention_leaves_model"]
    assert "conv_leaves_input" in lost(grades["cat"])


# --- what a submission says


ODD = {
    "deep": changed((ATTENTION_END, "        x = []\n        for _ in range(600):\n            x = [x]\n        self.loss_fn.x = x\n        return x\n")),
    "bools": changed((ATTENTION_END, ATTENTION_END.replace("keepdim=True)", "keepdim=True) > 0"))),
    "ints": changed((CALL, CALL.replace("windows  #", "windows).long()  #").replace("= weight", "= (weight"))),
    "mute": changed(
        (ATTENTION_END, "        raise Mute\n"),
        end="\n\nclass Mute(Exception):\n    def __str__(self):\n        raise RuntimeError('no')\n",
    ),
    "markup": changed((ATTENTION_END, "        raise type('[/b][red]', (Exception,), {})('[link=http://x]x[/link]')\n")),
    "escapes": changed((ATTENTION_END, "        raise ValueError('\\x1b]0;owned\\x07\\x1b[31mred')\n")),
    "names": {**solution(), "code/[/b].py": b"x = 1\n", "results/[red]x.pth": bytes(10_000_001), "code/=1+1.py": b"y = 2\n"},
    "only-names": {"code/[/b].py": b"x = 1\n"},
    "syntax": {**solution(), CODE: b"custom_conv2d = '\x1b]0;owned\x07' = 3 +\n"},
}  # fmt: skip


@pytest.mark.slow
def test_what_a_submission_says_is_text_everywhere(tmp_path, capsys):
    for name, handed in ODD.items():
        write(tmp_path / "in" / name, handed)
    write(tmp_path / "in" / "[bold]x", {"code/student_code.py": b"x = 1\n"})
    assert main.run(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--jobs", "2"]) == 0
    printed = capsys.readouterr()
    files = [path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for text in (printed.out + printed.err, *files):
        assert "\x1b]" not in text
        assert "\\u001b" not in text
        assert "\x07" not in text
    results = {
        path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "out").glob("students/*/result.json")
    }
    assert {name for name, result in results.items() if result["faults"]} == set(), (
        "the student's fault is the student's"
    )
    reasons = {name: {each["name"]: each["reason"] for each in result["outcomes"]} for name, result in results.items()}
    assert "returned list" in reasons["deep"]["attention_map"]
    assert "torch.bool" in reasons["bools"]["attention_map"]
    assert "__str__ raised RuntimeError" in reasons["mute"]["attention_map"]
    assert "[/b][red]" in reasons["markup"]["attention_map"]
    assert "is not this assignment's" in results["only-names"]["problem"]
    assert "line 1" in results["syntax"]["problem"]


def test_deeply_nested_values_are_refused(tmp_path):
    deep: list = []
    for _ in range(600):
        deep = [deep]
    with pytest.raises(WireError, match="too deep"):
        sanitize({"x": deep}, tmp_path)
    assert sanitize({"x": "a\x1b[31m\nb\u202e"}, tmp_path) == {"x": "a [31m\nb "}


# --- nothing inside a hand-in makes another student


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
def test_time_is_counted_for_each_part(tmp_path):
    """A convolution that is slow everywhere leaves the attack, the attention map and the network their time."""
    text = (
        default_text()
        .replace("seconds = 20.0 ", "seconds = 2.0 ")
        .replace("budget_seconds = 90.0 ", "budget_seconds = 4.0 ")
    )
    slow = native("F.conv2d", top="import time\n")
    slow[CODE] = slow[CODE].replace(b"        output = F.conv2d", b"        time.sleep(1.5)\n        output = F.conv2d")
    slow[CODE] = slow[CODE].replace(
        b"F.conv2d(input_feats, weight, None, stride, padding).flatten(2)", b"weight.flatten(1) @ windows"
    )
    write(tmp_path / "in", slow)
    batch = Batch(tmp_path / "out", parse(text, "test"), best(tmp_path / "out" / ".work"))
    (grade_,) = batch.run([tmp_path / "in"])
    assert all(name.startswith("conv_") for name in lost(grade_))
    assert any("was not run: the checks of the part 'convolution'" in reason for reason in lost(grade_).values())


KERNEL = """
        import os
        tried = []
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness", "/proc/sysrq-trigger"):
            try:
                handle = os.open(path, os.O_WRONLY)
                tried.append(path)
            except OSError:
                pass
        if tried:
            raise ValueError(f"could write {tried}")
"""
GRADE_AS = """
import sys
from scenelab.cli import main
sys.exit(main.run(["grade", sys.argv[1], "--out", sys.argv[2], "--json"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("who", ["root", "ordinary"])
def test_the_kernels_settings_are_out_of_reach_in_explain(tmp_path, who):
    handed = changed(("        images = input.detach().clone()", KERNEL + "        images = input.detach().clone()"))
    place = Path(f"/tmp/scenelab-kernel-{who}-{os.getpid()}")
    try:
        write(place / "in", handed)
        place.chmod(0o777)
        arguments = [str(place / "in"), str(place / "out")]
        if who == "root":
            done = subprocess.run(
                [sys.executable, "-c", GRADE_AS, *arguments], capture_output=True, text=True, check=False
            )
        else:
            done = as_ordinary_user(GRADE_AS, *arguments)
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)
        assert row["score"] == 8.0
        assert row["sandbox"] == "bubblewrap"
    finally:
        subprocess.run(["rm", "-rf", str(place)], check=True)
