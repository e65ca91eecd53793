"""Every broken rule is reported, no zip is written until all are fixed, and the same files give the same bytes."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scenelab.cli import main
from scenelab.course import submission
from scenelab.course.submission import check, check_and_zip, check_source, write_zip

ROOT = Path(__file__).parents[2]


@pytest.fixture
def homework(tmp_path) -> Path:
    """A hand-in that follows all rules; its test passes in no time."""
    root = tmp_path / "homework"
    files = {
        "code/student_code.py": b'"""/home/me/notes has more."""\nURL = "https://example.org/home/x"\n',
        "code/test_conv.py": b"print('All passed! End of testing.')\n",
        "code/models/net.py": b"WIDTH = 64\n",
        "writeup/report.pdf": b"%PDF-1.7\n",
        "results/curves.png": b"png",
        "results/model_best.pth.tar": bytes(1000),
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def said(root: Path, **options) -> list[str]:
    return [str(problem) for problem in check(root, **options)]


def test_a_valid_submission_is_zipped(homework, capsys):
    assert said(homework) == []
    assert check_and_zip(homework, homework / "submission.zip") == 0
    assert "6 files" in capsys.readouterr().out
    with zipfile.ZipFile(homework / "submission.zip") as file:
        assert file.testzip() is None
        assert {name.split("/")[0] for name in file.namelist()} == {"code", "writeup", "results"}
        assert file.read("results/model_best.pth.tar") == bytes(1000)
    again = main.run(["submit", str(homework)])
    assert again == 0


def test_the_same_files_make_the_same_bytes(homework, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(homework, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o700)
    write_zip(homework, tmp_path / "a.zip")
    write_zip(copy, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_leftovers_of_editors_and_git_are_ignored(homework, tmp_path):
    for name in ("code/__pycache__/x.pyc", "code/.git/config", "writeup/.DS_Store", "results/__MACOSX/x"):
        (homework / name).parent.mkdir(parents=True, exist_ok=True)
        (homework / name).write_bytes(b"x")
    (homework / "data").mkdir()
    (homework / "data" / "huge").write_bytes(b"beside the three folders")
    assert said(homework) == []
    write_zip(homework, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert len(file.namelist()) == 6


BROKEN = {
    "no report": ("writeup/report.pdf", None, "writeup/: the report must be a PDF; found nothing"),
    "a report in Word": ("writeup/report.docx", b"PK", None),
    "no PDF": ("writeup/report.pdf", b"hello", "writeup/report.pdf: this file is named .pdf but is not a PDF"),
    "no answers": ("code/student_code.py", None, "code/student_code.py: is missing; it must contain your answers"),
    "no test": ("code/test_conv.py", None, "code/test_conv.py: is missing; copy it from"),
    "images": ("results/data/x.jpg", b"x", "results/data/: data, logs and models must not be submitted; remove data/"),
    "logs": ("code/logs/events", b"x", "code/logs/: data, logs and models must not be submitted; remove logs/"),
    "a model among code": ("code/best.pth", b"x", "code/best.pth: models are only submitted for the challenge"),
    "a large model": (
        "results/model_best.pth.tar", bytes(10_000_001), "has 10,000,001 bytes; the challenge allows 10,000,000",
    ),
    "an absolute path": (
        "code/main.py", b'import sys\nROOT = f"/home/ada/{sys.argv[1]}"\n',
        "code/main.py, line 2: has the absolute path '/home/ada/'; use a path relative to code/",
    ),
    "a Windows path": ("code/main.py", b'ROOT = "C:\\\\Users\\\\ada"\n', "code/main.py, line 1: has the absolute path"),
    "a syntax error": ("code/main.py", b"x = 1\ndef f(:\n", "code/main.py, line 2: does not parse: "),
    "a null byte": ("code/main.py", b"x = '\0'\n", "code/main.py, line 1: does not parse: "),
    "a failing test": (
        "code/test_conv.py", b"print('Fprop testing failed')\nraise SystemExit(1)\n",
        "code/test_conv.py: fails; its last line is: Fprop testing failed",
    ),
    "a test that praises itself": (
        "code/test_conv.py", b"print('Fprop testing failed\\nAll passed!')\n", "code/test_conv.py: fails",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_reported_and_no_zip_is_written(homework, name, capsys):
    path, content, message = BROKEN[name]
    if content is None:
        (homework / path).unlink()
    else:
        (homework / path).parent.mkdir(parents=True, exist_ok=True)
        (homework / path).write_bytes(content)
    found = said(homework)
    if message is None:
        assert found == []  # a PDF is there as well
        return
    assert len(found) == 1
    assert message in found[0]
    assert check_and_zip(homework, homework / "submission.zip") == 1
    assert "1 problem to fix; no zip written. Use --anyway" in capsys.readouterr().out
    assert not (homework / "submission.zip").exists()
    assert check_and_zip(homework, homework / "submission.zip", anyway=True, test=False) == 0


def test_missing_folders(tmp_path, capsys):
    assert check_and_zip(tmp_path, tmp_path / "submission.zip", anyway=True) == 1
    assert capsys.readouterr().out.count("is missing; make it in") == 3


def test_large_files_and_links(homework, monkeypatch):
    monkeypatch.setattr(submission, "MAX_FILE_BYTES", 1200)
    monkeypatch.setattr(submission, "MAX_BYTES", 2000)
    (homework / "results" / "video.mp4").write_bytes(bytes(1500))
    (homework / "results" / "link").symlink_to("/etc/passwd")
    found = said(homework, test=False)
    assert found[0] == "results/link: is a link, which a zip cannot hold; put the file itself there"
    assert "results/video.mp4: has 1,500 bytes, more than 1,200" in found[1]
    assert "together, more than 2,000" in found[2]
    assert len(found) == 3


def test_a_test_that_hangs_is_reported(homework, monkeypatch):
    monkeypatch.setattr(submission, "TEST_SECONDS", 1)
    (homework / "code" / "test_conv.py").write_text("while True: pass\n")
    assert said(homework) == ["code/test_conv.py: did not finish within 1 seconds"]


def test_a_full_disk_leaves_the_earlier_zip(homework, monkeypatch, capsys):
    target = homework / "submission.zip"
    assert check_and_zip(homework, target, test=False) == 0
    before = target.read_bytes()

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    assert check_and_zip(homework, target, test=False) == 1
    assert "No space left on device; choose another with --out" in capsys.readouterr().out
    assert target.read_bytes() == before
    assert [path.name for path in homework.iterdir() if path.name.endswith(".part")] == []


def test_it_runs_as_a_standalone_script(homework):
    """The file itself, copied out of the package: it needs nothing but Python."""
    shutil.copy(submission.__file__, homework / "zip_submission.py")
    done = subprocess.run(
        [sys.executable, "-I", "./zip_submission.py"], cwd=homework, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (homework / "submission.zip").exists()


def test_the_front_doors_code_passes_its_own_rules(tmp_path, monkeypatch, capsys):
    """The front door's code passes its own rules, test_conv.py included."""
    shutil.copytree(ROOT / "code", tmp_path / "code", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "writeup").mkdir()
    (tmp_path / "writeup" / "report.pdf").write_bytes(b"%PDF-1.7\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "curves.png").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert submission.main([]) == 0, capsys.readouterr().out
    assert (tmp_path / "submission.zip").exists()


@pytest.mark.parametrize("name", ["code/models", "results", "results/curves.png"])
def test_an_unreadable_file_is_an_error(homework, unreadable, capsys, name):
    unreadable(homework / name)
    assert check_and_zip(homework, homework / "submission.zip", test=False) == 1
    assert f"cannot read {homework / name}: Input/output error; fix that" in capsys.readouterr().out
    assert not list(homework.glob("*submission*"))


def test_an_ignored_folder_need_not_be_readable(homework, unreadable):
    (homework / "code" / "__pycache__").mkdir()
    unreadable(homework / "code" / "__pycache__")
    assert check_and_zip(homework, homework / "submission.zip", test=False) == 0


def test_a_file_in_the_place_of_a_folder(homework):
    shutil.rmtree(homework / "results")
    (homework / "results").write_text("here")
    assert said(homework, test=False) == [f"results/: is missing; make it in {homework}"]


TEXTS = """
f"{root}/data/train.txt"
root + "/data/x"
f"{server}/media/{n}"
root + f"/data/{n}/x"
"%s" % "/home/me/x"
name.replace("/data/images/", "/")
name.startswith("/home/me")
"/data/x" in name
"/data/"
"/data/{name}".format(name=1)
"https://x.org/home/me"
print("put the images into /data/x")
flag("--data", help="/data/x for all")
"s3://data/x"
"/data/<id>/x"
"http://data/x"
"""
PATHS = r"""
"/home/me/logs/"
"/data/train.txt"
f"/home/{name}/x"
"/data/x" + name
open("/tmp/x")
os.path.join("/mnt/d", name)
"C:\\Users\\me\\data"
"D:/data"
"/Users/Jane Doe/hw3"
"/content/drive/MyDrive"
dict(root="/scratch/me")
"""


def paths_in(folder, line):
    path = folder / "student_code.py"
    path.write_text(f"x = {line}\n")
    return [str(each) for each in check_source(path, "code/student_code.py")]


@pytest.mark.parametrize("line", TEXTS.strip().splitlines())
def test_strings_that_are_not_absolute_paths(tmp_path, line):
    assert paths_in(tmp_path, line) == []


@pytest.mark.parametrize("line", PATHS.strip().splitlines())
def test_these_are_absolute_paths(tmp_path, line):
    assert len(paths_in(tmp_path, line)) == 1
