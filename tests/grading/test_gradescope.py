"""Gradescope: due dates, earlier submissions, results.json, the zip file, and the emulated container."""

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from mutants import write
from scenelab.cli import main
from scenelab.course.grading import dry_run, rubric
from scenelab.course.grading.discovery import Entry
from scenelab.course.grading.outputs.gradescope import Metadata, gradescope, read_metadata, read_results
from scenelab.course.grading.results import Grade, Outcome, Result
from scenelab.course.kit import files
from scenelab.course.kit.gradescope import NEEDS, RUN, make_gradescope
from scenelab.errors import LabError
from scenelab.extras import GRADING
from scenelab.schema import parse

DUE = "2026-10-01T23:59:00-07:00"
RESULTS = '{"score": 1, "output": "", "output_format": "md", "visibility": "visible", "stdout_visibility": "hidden", "extra_data": {}, "tests": []}'
FINISH = f"echo '{RESULTS}' > /autograder/results/results.json\n"
PYTHON = "/autograder/venv/bin/python -c"
bubblewrap = pytest.mark.skipif(not dry_run.shutil.which("bwrap"), reason="needs bubblewrap")


def given(created="2026-10-01T20:00:00-07:00", due=DUE, users=(), earlier=()):
    users = [{"name": "ann", "assignment": {"due_date": date}} for date in users]
    values = {"id": 1, "created_at": created, "assignment": {"due_date": due, "title": "x"}, "users": users}
    return values | {"previous_submissions": [{"score": "1.0", "results": each} for each in earlier]}


LATE = """
2026-10-01T23:59:00-07:00 | |
2026-10-01T23:59:01-07:00 | | 1 min
2026-10-02T07:00:00+00:00 | | 1 min
2026-10-04T01:58:30-07:00 | | 2 d 2 h
2026-10-02T20:00:00-07:00 | 2026-10-03T23:59:00-07:00 |
2026-10-04T00:59:00-07:00 | 2026-10-03T23:59:00-07:00 | 1 h
"""


@pytest.mark.parametrize("line", LATE.strip().splitlines())
def test_late_is_after_the_due_date_or_the_students_extension(line):
    created, extension, late = (part.strip() for part in line.split("|"))
    metadata = parse(Metadata, given(created, users=[extension] if extension else [None]))
    assert metadata.late == late
    assert parse(Metadata, given(created, due=None)).late == ""


def graded(passed, *, hidden=()):
    points = rubric.parse(rubric.default_text().replace("hidden = []", f"hidden = {json.dumps(list(hidden))}"), "test")
    outcomes = []
    for name in ("conv_forward", "conv_stride"):
        is_passed = name in passed
        outcomes.append(
            Outcome(name, "convolution", "text", 1.0, "passed" if is_passed else "failed", float(is_passed))
        )
        outcomes[-1].hidden = name in hidden
    return Grade(Entry("ann", ()), Result("key", "d", "process", outcomes=outcomes), points)


def test_a_late_submission_loses_the_rubrics_share():
    grade = graded(["conv_forward", "conv_stride"])
    late = gradescope(grade, parse(Metadata, given("2026-10-02T00:59:00-07:00")))
    assert gradescope(grade, parse(Metadata, given()))["score"] == 2.0
    assert late["score"] == 1.25  # 5 % of 15 points less
    assert "- 1 h after the due date" in late["output"].splitlines()


def test_the_output_says_what_changed():
    before = gradescope(graded(["conv_stride"]))
    after = gradescope(graded(["conv_forward"]), parse(Metadata, given(earlier=[before, None])))["output"]
    assert "- passed since the one before: conv\\_forward" in after
    assert "- no longer passed: conv\\_stride" in after
    assert "- this is submission 3" in after
    assert "submission" not in gradescope(graded([]), parse(Metadata, given()))["output"].replace("process", "")


def test_odd_metadata_leaves_due_date_and_score(tmp_path):
    values = given("2026-10-02T00:59:00-07:00", earlier=["x", {"tests": [3, {"name": None}, {"status": "passed"}]}])
    values["users"] = [{"name": "ann", "assignment": None}]
    (tmp_path / "metadata.json").write_text(json.dumps(values))
    results = gradescope(graded(["conv_forward"]), read_metadata(tmp_path / "metadata.json"))
    assert (results["score"], "1 h after the due date" in results["output"]) == (0.25, True)


def test_hidden_checks_are_not_in_the_output():
    grade = graded(["conv_forward"], hidden=["conv_stride"])
    grade = replace(
        grade,
        rubric=grade.rubric.model_copy(
            update={"visibility": grade.rubric.visibility.model_copy(update={"gradescope": "after_published"})}
        ),
    )
    values = gradescope(grade, parse(Metadata, given(earlier=[gradescope(graded(["conv_stride"]))])))
    assert [test["visibility"] for test in values["tests"]] == ["visible", "after_published"]
    assert "| Convolution | 1 of 1 |" in values["output"]
    assert "stride" not in values["output"]


def test_invalid_metadata_does_not_stop_the_grading(tmp_path, capsys):
    path = tmp_path / "metadata.json"
    path.write_text('{"created_at": "yesterday"}')
    assert read_metadata(path) is None
    assert "late submissions are not recognized" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"md"', '"pdf"', "output_format"),
        ('"score"', '"points"', "score"),
        ("[]", '[], "x": 1', "x is an unknown key"),
        ("{", "{{", "results.json"),
    ],
)
def test_results_that_gradescope_would_not_understand_are_refused(tmp_path, old, new, message):
    path = tmp_path / "results.json"
    path.write_text(RESULTS)
    assert read_results(path).score == 1
    path.write_text(RESULTS.replace(old, new, 1))
    with pytest.raises(LabError, match=message):
        read_results(path)


def test_the_zip_has_all_that_the_container_needs(tmp_path):
    checks = write(tmp_path / "hidden", {"mine.py": b"", "images/a.jpg": b"x"})
    for name in ("a.zip", "b.zip"):
        assert main.run(["kit", "--gradescope", str(tmp_path / name), "--seed", "7", "--hidden", str(checks)]) == 0
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        texts = {info.filename: archive.read(info) for info in archive.infolist()}
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    for name in ("setup.sh", "run_autograder"):
        assert modes[name] == 0o755
        assert subprocess.run(["bash", "-n"], input=texts[name]).returncode == 0
        assert b"http" not in texts[name]
    assert texts["seed"] == b"7\n"
    assert {"hidden/mine.py", "hidden/images/a.jpg", "rubric.toml"} < set(texts)
    assert b"--hidden /autograder/source/hidden" in texts["run_autograder"]
    assert b"--torch-backend cpu" in texts["setup.sh"]
    assert not [name for name in texts if name.endswith((".safetensors", ".jpg")) and "hidden" not in name]
    answers = files(2019, solution=True)["code/student_code.py"].encode()
    assert answers[-500:] not in b"".join(texts.values())
    project = texts["scenelab/pyproject.toml"].decode()
    assert ['"torch>=' in project, '"scipy>=' in project, "starlette" in project] == [True, True, False]


@pytest.mark.parametrize(
    ("year", "points"), [(2019, "points = 15.0"), (2022, "points = 15.0"), (2024, "points = 13.0")]
)
def test_the_zip_has_the_rubric_of_the_year(tmp_path, year, points):
    assert main.run(["kit", "--gradescope", str(tmp_path / "a.zip"), "--year", str(year)]) == 0
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        text = archive.read("rubric.toml").decode()
    assert (f"handout of {year}" in text, points in text) == (True, True)


def test_a_check_of_the_course_and_a_hidden_one_have_different_files(tmp_path, capsys):
    course = write(tmp_path / "course", {"checks/mine.py": b"", "rubric.toml": rubric.default_text().encode()})
    hidden, command = write(tmp_path / "hidden", {"mine.py": b""}), ["kit", "--gradescope", str(tmp_path / "a.zip")]
    assert main.run([*command, "--from", str(course), "--hidden", str(hidden)]) == 1
    assert f"{course / 'checks'} and {hidden} both have mine.py; rename one" in capsys.readouterr().err
    assert main.run([*command, "--from", str(course), "--year", "2022"]) == 1
    assert "--year is 2022 together with the rubric" in capsys.readouterr().err


def test_results_are_closed_to_the_user_who_runs_students_code(tmp_path):
    """They are written while the checks run, with the reasons of hidden ones."""
    (line,) = [line for line in RUN.splitlines() if line.startswith("mkdir")]
    (tmp_path / "seed").touch()
    for old, new in (("/autograder/source", tmp_path), ("/autograder", tmp_path)):
        line = line.replace(old, str(new))
    subprocess.run(["bash", "-c", line], check=True)
    modes = {name: (tmp_path / "work" / name).stat().st_mode & 0o077 for name in ("", "students", "seed")}
    assert modes["students"] == modes["seed"] == 0
    assert modes[""] & 0o001, "submissions are extracted below it"


def test_the_kit_takes_either_a_folder_or_a_zip(tmp_path, capsys):
    (tmp_path / "a.zip").touch()
    for arguments, message in [
        ([], "give either"),
        (["x", "--seed", "1"], "go with --gradescope"),
        (["--gradescope", str(tmp_path / "a.zip")], "exists"),
    ]:
        assert main.run(["kit", *arguments]) == 1
        assert message in capsys.readouterr().err


def test_the_grader_imports_only_what_the_image_has():
    """Packages of the core that the zip's pyproject.toml leaves out cannot be imported."""
    code = f"""if True:
    import sys
    left_out = {{"platformdirs", "requests", "safetensors"}}
    assert not left_out & set({[*NEEDS, *GRADING.packages]})
    sys.modules.update(dict.fromkeys(left_out))
    import scenelab.cli.main, scenelab.cli.grade, scenelab.course.grading.batch, scenelab.course.grading.outputs
    import scenelab.data.decode, scenelab.course.grading.extract, scenelab.course.grading.submission_reader
    """
    core = {re.split(r"[^\w-]", need)[0] for need in metadata.requires("scenelab") if "extra ==" not in need}
    assert core - set(NEEDS) == {
        "platformdirs",
        "requests",
        "safetensors",
        "mpmath",
        "markdown-it-py",
    }  # two that others need
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def autograder(path, script, setup="apt-get install -y python3\n"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("setup.sh", f"#!/bin/bash\n{setup}")
        archive.writestr("run_autograder", f"#!/bin/bash\nset -e\n{script}")
    return path


def run(tmp_path, script, **options):
    submission = write(tmp_path / "ann", {"code/student_code.py": b""})
    return dry_run.run_gradescope(
        autograder(tmp_path / "a.zip", script), submission, tmp_path / "autograder", **options
    )


@bubblewrap
def test_the_container_is_as_gradescope_makes_it(tmp_path):
    script = (
        f'test "$PWD" = /autograder && test -f submission/code/student_code.py && test -f source/setup.sh\n'
        f"grep -q due_date submission_metadata.json && test $(id -u) = 0 && ! touch /usr/x && ! bwrap --version\n"
        f'{PYTHON} "import torch, os; assert not os.path.exists({str(Path(__file__))!r})"\n'
        f'! {PYTHON} "import socket; socket.create_connection((\\"127.0.0.1\\", 9), 1)"\n{FINISH}'
    )
    done = run(tmp_path, script)
    assert done.results.score == 1
    assert "not run: apt-get install -y python3" in (tmp_path / "autograder" / "results" / "stdout").read_text()


LIMITS = [
    (f"{PYTHON} 'x = bytearray(200 << 20); import time; time.sleep(60)'\n", "MEMORY", 100 << 20, "was killed: it took"),
    ("sleep 60\n", "SECONDS", 1, "run_autograder timed out after 1 seconds"),
]


@bubblewrap
@pytest.mark.parametrize(("script", "name", "value", "message"), LIMITS)
def test_the_containers_limits_hold(tmp_path, monkeypatch, script, name, value, message):
    monkeypatch.setattr(dry_run, name, value)
    monkeypatch.setattr(dry_run, "CUDA", 0)
    with pytest.raises(LabError, match=message):
        run(tmp_path, script + FINISH)


@bubblewrap
def test_the_container_has_half_a_processor(tmp_path):
    loop = "import time\nwhile time.process_time() < 1.5: pass"
    done = run(tmp_path, f"{PYTHON} '{loop}'\n{FINISH}")
    assert done.seconds > 2.5
    assert done.cpu_seconds > 1.3


@bubblewrap
@pytest.mark.parametrize(
    ("script", "message"), [("echo oh no; exit 3\n", "(?s)status 3: .*oh no"), ("", "results.json")]
)
def test_a_failing_autograder_is_an_error(tmp_path, script, message):
    with pytest.raises(LabError, match=message):
        run(tmp_path, script)


@bubblewrap
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_submission_from_set_up_to_results(tmp_path, capsys):
    hidden = write(
        tmp_path / "hidden",
        {
            "mine.py": b'from scenelab.course.grading.checks import check\n\n\n@check("model")\ndef always(context):\n    """It is there."""\n'
        },
    )
    text = (
        rubric.default_text()
        .replace("points = 15.0", "points = 16.0")
        .replace("[visibility]\nhidden = []", 'always = 1.0\n\n[visibility]\nhidden = ["always"]')
    )
    (tmp_path / "rubric.toml").write_text(text)
    (tmp_path / "late.json").write_text(json.dumps(given("2026-10-02T00:59:00-07:00")))
    make_gradescope(tmp_path / "a.zip", rubric=tmp_path / "rubric.toml", seed=3, checks=[hidden])
    solved = write(tmp_path / "ann", {name: text.encode() for name, text in files(2019, solution=True).items()})
    command = [
        "grade",
        "--dry-run",
        "gradescope",
        str(tmp_path / "a.zip"),
        str(solved),
        "--metadata",
        str(tmp_path / "late.json"),
        "--json",
    ]
    assert main.run(command) == 0
    results = json.loads(capsys.readouterr().out)
    lost = [test for test in results["tests"] if test["score"] < test["max_score"]]
    assert results["score"] == 8.2, lost  # 8 and 1, less 5 % of 16
    assert [test["visibility"] for test in results["tests"]].count("hidden") == 1
    assert "- 1 h after the due date" in results["output"]
