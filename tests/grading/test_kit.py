"""The kit is cut from the solution, works without scenelab, trains, and fails where code is missing."""

import http.server
import io
import subprocess
import sys
import tarfile
import threading
from importlib import resources

import jupytext
import nbformat
import pytest
import torch
from PIL import Image

from mutants import write
from scenelab.cli import main
from scenelab.course.kit import files
from scenelab.course.kit.strip_solutions import cut
from scenelab.course.submission import list_files
from scenelab.data.splits import open_dataset
from scenelab.errors import LabError
from scenelab.models.simplenet import SimpleNet, SimpleNetSmall

CODE = "student_code.py main.py test_conv.py check.py miniplaces.py".split()
NOTEBOOKS = "1_convolution 2_attention 3_attack".split()
YEARS = pytest.mark.parametrize("year", [2019, 2022])
MARKED = "a\n# ONLY 2022\nb\n# END ONLY\n    ### BEGIN SOLUTION name\n    # | do it\n    c\n    ### END SOLUTION\nd\n### BEGIN SOLUTION x\n# KIT e = 1\nf\n### END SOLUTION\n"
INVALID = """
### BEGIN SOLUTION a;x
# ONLY 2019;x
### END SOLUTION
# | x
### BEGIN SOLUTION a;### BEGIN SOLUTION b;### END SOLUTION
""".strip().splitlines()


def write_kit(folder, year):
    return write(folder, {name: text.encode() for name, text in files(year, solution=True).items()})


def run(homework, *arguments, status=0):
    """Run in code/ without scenelab and return the output: the kit needs torch, torchvision, numpy and tensorboard."""
    block = "import sys; sys.modules['scenelab'] = None; import runpy; sys.argv = sys.argv[1:]; sys.path[0] = '.'; "
    code = block + "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=homework / "code", capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_marked_regions_are_cut():
    kit = cut(MARKED, 2019).splitlines()
    assert not {"b", "    c", "f"} & set(kit)
    assert {'    raise NotImplementedError("name is yours to write")', "e = 1", "    # do it"} <= set(kit)
    assert cut(MARKED, 2022, "solution") == "a\nb\n    c\nd\nf\n"


@pytest.mark.parametrize("source", INVALID)
def test_invalid_marks_are_errors(source):
    with pytest.raises(LabError):
        cut(source.replace(";", "\n"), 2019)
    with pytest.raises(LabError, match="year is 2020"):
        cut("", 2020)


@YEARS
@pytest.mark.parametrize("solution", [False, True])
def test_no_mark_is_left_and_everything_compiles(year, solution):
    texts = files(year, solution=solution)
    for name, text in texts.items():
        if name.endswith(".py"):
            compile(text, name, "exec")
            assert not any(mark in text for mark in ("SOLUTION", "# KIT", "# ONLY", "# END", "# |")), name
        assert "scenelab" not in text.replace('OURS = "scenelab"', ""), name  # a package that submissions may not use
    assert ("yours to write" in texts["code/student_code.py"]) is not solution
    assert ("default_vit_model" in texts["code/student_code.py"]) is (year == 2022)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_have_the_cells_that_jupytext_reads(name):
    ours = nbformat.reads(files(2019)[f"notebooks/{name}.ipynb"], as_version=4)
    nbformat.validate(ours)
    source = resources.files("scenelab.course.kit") / "files" / "notebooks" / f"{name}.py"
    theirs = jupytext.reads(source.read_text("utf-8"), fmt="py:percent")
    assert [(c.cell_type, c.source) for c in ours.cells] == [(c.cell_type, c.source) for c in theirs.cells]
    assert files(2022)[f"notebooks/{name}.ipynb"] == files(2019, solution=True)[f"notebooks/{name}.ipynb"]


def test_a_submission_holds_no_notebooks_of_the_kit(tmp_path):
    names = {path.as_posix() for path in list_files(write_kit(tmp_path, 2019))}
    assert names == {f"code/{name}" for name in CODE}


def test_the_solution_passes_its_own_test(tmp_path):
    assert "All passed! End of testing." in run(write_kit(tmp_path, 2019), "./test_conv.py")


def test_the_bare_kit_names_what_is_missing(tmp_path):
    assert main.run(["kit", str(tmp_path / "hw")]) == 0
    assert "CustomConv2DFunction.forward is yours to write" in run(tmp_path / "hw", "./test_conv.py", status=1)
    assert (tmp_path / "hw" / "writeup").is_dir()
    assert (tmp_path / "hw" / "download_dataset.sh").stat().st_mode & 0o100
    assert main.run(["kit", str(tmp_path / "hw")]) == 1


@YEARS
def test_the_given_network_is_the_handouts(year):
    module = {}
    exec(compile(files(year)["code/student_code.py"], "student_code.py", "exec"), module)
    ours, given = SimpleNet() if year == 2019 else SimpleNetSmall(), module["default_model"]()
    assert [tuple(p.shape) for p in given.parameters()] == [tuple(p.shape) for p in ours.parameters()]
    given.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(given(images), ours(images))


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_the_kit_works_with_closed_streams(tmp_path, closed):
    command = ["bash", "-c", f'exec "$@" {closed}', "bash", sys.executable, "main.py", "../data", "-e", "--gpu=-1"]
    done = subprocess.run(command, cwd=write_kit(tmp_path, 2022) / "code", capture_output=True, text=True)
    assert (done.returncode, "AttributeError" in done.stderr) == (1, False)
    assert "2>" in closed or "-e and -a judge a model" in done.stderr


@pytest.mark.slow
@YEARS
def test_the_kit_trains_evaluates_and_attacks(tmp_path, year):
    homework = write_kit(tmp_path, year)
    folder = homework / "data" / "images" / "train"
    folder.mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (128, 128), (40 * number, 90, 200)).save(folder / f"{number}.jpg")
    for name in ("train", "val"):
        lines = (f"train/{number}.jpg {number % 2}\n" for number in range(6))
        (homework / "data" / f"{name}.txt").write_text("".join(lines))
    command = ["./main.py", "../data", "--gpu=-1", "-j", "0", "-b", "3"]
    output = run(homework, *command, "--epochs=1", "--use-custom-conv")
    assert "******Acc@1" in output
    assert "  Left 0:0" in output
    (run_folder,) = (path.name for path in (homework / "logs").iterdir())
    best = homework / "models" / "checkpoint.pth.tar"
    assert best.read_bytes() == (homework / "models" / run_folder / "checkpoint.pth.tar").read_bytes()
    keys = {"epoch", "model_arch", "state_dict", "best_acc1", "optimizer"}
    assert set(torch.load(best, weights_only=True)) == keys
    assert run(homework, *command, f"--resume={best}", "-e", "-a", "-v").count("******Acc@1") == 2
    run(homework, *command, f"--resume={best}", "--epochs=2")
    assert torch.load(best, weights_only=True)["epoch"] == 2
    run(homework, *command, "-e", status=1)
    if year == 2022:
        run(homework, *command, "--epochs=1", "--use-vit")


def test_the_readme_is_that_of_its_year():
    early, late = (files(year)["README.md"] for year in (2019, 2022))
    assert ["--use-vit" in text for text in (early, late)] == [False, True]
    assert ["SimpleNet is deeper" in text for text in (early, late)] == [True, False]
    assert not any(mark in early + late for mark in ("# ONLY", "# END"))


@pytest.mark.parametrize("name", ["toy_data.py", "download_dataset.py", "zip_submission.py"])
def test_a_script_of_the_kit_asked_for_help_does_nothing_else(tmp_path, name):
    write(tmp_path, {name: files(2019)[name].encode()})
    done = subprocess.run([sys.executable, name, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ")
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == [name]


def test_the_toy_set_is_drawn_on_the_spot(tmp_path):
    code = "import toy_data as toy, pathlib; toy.TRAIN, toy.VAL = 2, 1; toy.main(pathlib.Path('toy'))"
    write(tmp_path, {"toy_data.py": files(2019)["toy_data.py"].encode()})
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    train, val = (open_dataset(tmp_path / "toy", None, split, 128) for split in ("train", "val"))
    assert (len(train), len(val), len(train.categories)) == (24, 12, 12)
    images = val.gather(slice(0, 12)).float()
    assert images.flatten(1).unique(dim=0).shape[0] == 12
    assert images.std(dim=(1, 2, 3)).min() > 20


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with `content` from the place that is asked for; at the first time it breaks off in the middle."""

    content, requests = b"", []

    def do_GET(self):
        begin = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.requests.append((self.path, begin))
        rest = self.content[begin:] if self.path == "/data.tar.gz" else b"train/a.jpg 0\n"
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if len(self.requests) == 1 else rest)

    def log_message(self, *_):
        pass


def test_a_download_goes_on_after_a_break(tmp_path):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as archive:
        for name in ("images/train/a.jpg", "../outside.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 5
            archive.addfile(info, io.BytesIO(b"image"))
    Handler.content, Handler.requests = memory.getvalue(), []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    write(tmp_path / "hw", {"download_dataset.py": files(2019)["download_dataset.py"].encode()})
    code = (
        "import download_dataset as d, pathlib; "
        f"d.ARCHIVES, d.LISTS = ({address!r} + 'data.tar.gz',), {address!r}; d.main(pathlib.Path('data'))"
    )
    command, options = [sys.executable, "-c", code], {"cwd": tmp_path / "hw", "capture_output": True, "text": True}
    first = subprocess.run(command, **options)
    assert (first.returncode, "no address answers; run it again" in first.stderr) == (1, True), first.stderr
    subprocess.run(command, **options, check=True)
    server.shutdown()
    server.server_close()
    assert [begin for path, begin in Handler.requests if path == "/data.tar.gz"] == [0, len(Handler.content) // 2]
    assert (tmp_path / "hw" / "data" / "images" / "train" / "a.jpg").read_bytes() == b"image"
    assert (tmp_path / "hw" / "data" / "train.txt").read_text() == "train/a.jpg 0\n"
    assert not (tmp_path / "hw" / "outside.jpg").exists()
