"""Every broken rule is reported, no zip is written until all are fixed, and the same files give the same bytes."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mutants import write
from scenelab.cli import main
from scenelab.course import submission
from scenelab.course.submission import check, check_and_zip, check_source, write_zip

ROOT = Path(__file__).parents[2]
FILES = {
    "code/student_code.py": b'"""/home/me/notes has more."""\nURL = "https://example.org/home/x"\n',
    "code/test_conv.py": b"print('All passed! End of testing.')\n",
    "code/models/net.py": b"WIDTH = 64\n",
    "writeup/report.pdf": b"%PDF-1.7\n",
    "results/curves.png": b"png",
    "results/model_best.pth.tar": bytes(1000),
}


@pytest.fixture
def homework(tmp_path) -> Path:
    """A submission that follows all rules; its test passes in no time."""
    return write(tmp_path / "homework", FILES)


def messages(root: Path, **options) -> list[str]:
    return [str(problem) for problem in check(root, **options)]


def names_in(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        return file.namelist()


def test_a_valid_submission_is_zipped(homework, capsys):
    assert messages(homework) == []
    assert check_and_zip(homework, homework / "submission.zip") == 0
    assert "6 files" in capsys.readouterr().out
    assert set(names_in(homework / "submission.zip")) == set(FILES)
    assert main.run(["submit", str(homework)]) == 0


def test_the_same_files_give_the_same_bytes(homework, tmp_path):
    copy = shutil.copytree(homework, tmp_path / "copy")
    for path in copy.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o700)
    for folder, name in ((homework, "a.zip"), (copy, "b.zip")):
        write_zip(folder, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_leftovers_of_editors_and_git_are_ignored(homework, tmp_path, unreadable):
    leftovers = "code/__pycache__/x.pyc code/.git/config writeup/.DS_Store results/__MACOSX/x data/huge".split()
    write(homework, dict.fromkeys(leftovers, b"x"))
    unreadable(homework / "code" / "__pycache__")
    assert messages(homework) == []
    write_zip(homework, tmp_path / "a.zip")
    assert set(names_in(tmp_path / "a.zip")) == set(FILES)


REPORT, TEST, MAIN, FORBIDDEN = (
    "writeup/report.pdf",
    "code/test_conv.py",
    "code/main.py",
    "data, logs and models must not be submitted",
)
FAILING = b"print('Fprop testing failed')\nraise SystemExit(1)\n"
BROKEN = {
    "no report": (REPORT, None, "writeup/: the report must be a PDF; found nothing"),
    "no PDF": (REPORT, b"hello", f"{REPORT}: this file is named .pdf but is not a PDF"),
    "no answers": ("code/student_code.py", None, "code/student_code.py: is missing; it must contain your answers"),
    "no test": (TEST, None, f"{TEST}: is missing; copy it from"),
    "images": ("results/data/x.jpg", b"x", f"results/data/: {FORBIDDEN}; remove data/"),
    "logs": ("code/logs/events", b"x", f"code/logs/: {FORBIDDEN}; remove logs/"),
    "a model among code": ("code/best.pth", b"x", "code/best.pth: models are only submitted for the challenge"),
    "a large model": ("results/model_best.pth.tar", bytes(10_000_001), "the challenge allows 10,000,000"),
    "an absolute path": (MAIN, b'R = f"/home/ada/{x}"\n', f"{MAIN}, line 1: has the absolute path '/home/ada/'"),
    "a Windows path": (MAIN, b'ROOT = "C:\\\\Users\\\\ada"\n', f"{MAIN}, line 1: has the absolute path"),
    "a syntax error": (MAIN, b"x = 1\ndef f(:\n", f"{MAIN}, line 2: does not parse: "),
    "a null byte": (MAIN, b"x = '\0'\n", f"{MAIN}, line 1: does not parse: "),
    "a failing test": (TEST, FAILING, f"{TEST}: fails; its last line is: Fprop testing failed"),
    "a test that praises itself": (TEST, b"print('Fprop testing failed\\nAll passed!')\n", f"{TEST}: fails"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_reported_and_no_zip_is_written(homework, name, capsys):
    path, content, message = BROKEN[name]
    if content is None:
        (homework / path).unlink()
    else:
        write(homework, {path: content})
    (problem,) = messages(homework)
    assert message in problem
    assert check_and_zip(homework, homework / "submission.zip") == 1
    assert "1 problem to fix; no zip written. Use --anyway" in capsys.readouterr().out
    assert not (homework / "submission.zip").exists()
    assert check_and_zip(homework, homework / "submission.zip", anyway=True, test=False) == 0


def test_missing_folders_are_reported(homework, capsys):
    shutil.rmtree(homework / "results")
    (homework / "results").write_text("a file in the place of a folder")
    assert messages(homework, test=False) == [f"results/: is missing; make it in {homework}"]
    empty = write(homework / "empty", {"x": b""})
    assert check_and_zip(empty, empty / "submission.zip", anyway=True) == 1
    assert capsys.readouterr().out.count("is missing; make it in") == 3


def test_large_files_and_links_are_reported(homework, monkeypatch):
    monkeypatch.setattr(submission, "MAX_FILE_BYTES", 1200)
    monkeypatch.setattr(submission, "MAX_BYTES", 2000)
    (homework / "results" / "video.mp4").write_bytes(bytes(1500))
    (homework / "results" / "link").symlink_to("/etc/passwd")
    link, large, total = messages(homework, test=False)
    assert link == "results/link: is a link, which a zip cannot hold; put the file itself there"
    assert "results/video.mp4: has 1,500 bytes, more than 1,200" in large
    assert "together, more than 2,000" in total


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"a\nb\x1b.png", "\u202egpj.png".encode(), "\u200b.png".encode()])
def test_names_that_the_grader_leaves_out_are_reported(homework, capsys, name):
    write(homework, {f"results/{os.fsdecode(name)}": b"x"})
    assert check_and_zip(homework, homework / "out.zip") == 1
    shown = submission.visible(os.fsdecode(name))
    assert f"results/{shown}: has invisible characters in its name" in capsys.readouterr().out
    assert check_and_zip(homework, homework / "out.zip", anyway=True) == 0
    assert f"results/{shown}" in names_in(homework / "out.zip")


def test_names_in_any_script_are_zipped(homework):
    names = {
        f"results/{name}": b"x" for name in ("Shot 3.05\u202fPM.png", "図 é e\u0301 😀.png", "=1,$x$'\"%.png", "-rf")
    }
    assert messages(write(homework, names)) == []
    write_zip(homework, homework / "out.zip")
    assert set(names_in(homework / "out.zip")) == {*FILES, *names}


def test_a_test_that_hangs_is_reported(homework, monkeypatch):
    monkeypatch.setattr(submission, "TEST_SECONDS", 1)
    write(homework, {TEST: b"while True: pass\n"})
    assert messages(homework) == [f"{TEST}: did not finish within 1 seconds"]


def test_a_full_disk_leaves_the_earlier_zip(homework, monkeypatch, capsys):
    target = homework / "submission.zip"
    assert check_and_zip(homework, target, test=False) == 0
    before = target.read_bytes()

    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    assert check_and_zip(homework, target, test=False) == 1
    assert "No space left on device; choose another with --out" in capsys.readouterr().out
    assert target.read_bytes() == before
    assert [path.name for path in homework.iterdir() if path.name.endswith(".part")] == []


def test_it_runs_as_a_standalone_script(homework):
    shutil.copy(submission.__file__, homework / "zip_submission.py")
    command = [sys.executable, "-I", "./zip_submission.py"]
    done = subprocess.run(command, cwd=homework, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (homework / "submission.zip").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "utf-8"])
def test_names_outside_the_encoding_are_shown_escaped(homework, encoding):
    (homework / "code" / "ü✓.py").write_text("FOLDER = '/home/me/data'\n", encoding="utf-8")
    command = [sys.executable, submission.__file__, "--no-test", "--anyway"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    options = {"cwd": homework, "env": environment, "capture_output": True, "check": False}
    assert subprocess.run(command, **options).returncode == 0
    with open(os.fsencode(homework / "results") + b"/caf\xe9.png", "wb"):
        done = subprocess.run(command, **options)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"results/caf?.png: has invisible characters in its name and would not be graded; rename it" in done.stdout


def test_the_front_doors_code_passes_its_own_rules(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "code", tmp_path / "code", ignore=shutil.ignore_patterns("__pycache__"))
    write(tmp_path, {name: FILES[name] for name in (REPORT, "results/curves.png")})
    monkeypatch.chdir(tmp_path)
    assert submission.main([]) == 0, capsys.readouterr().out
    assert (tmp_path / "submission.zip").exists()


@pytest.mark.parametrize("name", ["code/models", "results", "results/curves.png"])
def test_an_unreadable_file_is_an_error(homework, unreadable, capsys, name):
    unreadable(homework / name)
    assert check_and_zip(homework, homework / "submission.zip", test=False) == 1
    assert f"cannot read {homework / name}: Input/output error; fix that" in capsys.readouterr().out
    assert not list(homework.glob("*submission*"))


TEXTS = """
f"{root}/data/train.txt" | root + "/data/x" | f"{server}/media/{n}" | root + f"/data/{n}/x" | "%s" % "/home/me/x" |
name.replace("/data/images/", "/") | name.startswith("/home/me") | "/data/x" in name | "/data/" | "s3://data/x" |
"/data/{name}".format(name=1) | "https://x.org/home/me" | print("put the images into /data/x") | "/data/<id>/x" |
flag("--data", help="/data/x for all") | "http://data/x"
"""
PATHS = r"""
"/home/me/logs/" | "/data/train.txt" | f"/home/{name}/x" | "/data/x" + name | open("/tmp/x") |
os.path.join("/mnt/d", name) | "C:\\Users\\me\\data" | "D:/data" | "/Users/Jane Doe/hw3" |
"/content/drive/MyDrive" | dict(root="/scratch/me")
"""
CASES = [(text.strip(), count) for table, count in ((TEXTS, 0), (PATHS, 1)) for text in table.split("|")]


@pytest.mark.parametrize(("text", "count"), CASES)
def test_absolute_paths_are_told_from_other_strings(tmp_path, text, count):
    path = tmp_path / "student_code.py"
    path.write_text(f"x = {text}\n")
    assert len(check_source(path, "code/student_code.py")) == count
