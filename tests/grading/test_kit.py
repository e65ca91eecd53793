"""The kit: cut from the solution, whole without scenelab, trains and fails where it should."""

import subprocess
import sys

import pytest
import torch
from PIL import Image

from mutants import write
from scenelab.cli import main
from scenelab.course.kit import files
from scenelab.course.kit.strip_solutions import cut
from scenelab.errors import LabError
from scenelab.models.simplenet import SimpleNet, SimpleNetSmall


def test_marks_are_cut():
    source = "a\n# ONLY 2022\nb\n# END ONLY\n    # ANSWER name\n    # | do it\n    c\n    # END\nd\n# ANSWER x\n# KIT e = 1\nf\n# END\n"
    kit = cut(source, 2019)
    assert "b" not in kit.splitlines()
    assert "    c" not in kit.splitlines()
    assert "f" not in kit.splitlines()
    assert '    raise NotImplementedError("name is yours to write")' in kit.splitlines()
    assert "e = 1" in kit.splitlines()
    assert "    # do it" in kit.splitlines()
    assert cut(source, 2022, solution=True) == "a\nb\n    c\nd\nf\n"


@pytest.mark.parametrize(
    "source", ["# ANSWER a\nx\n", "# ONLY 2019\nx\n", "# END\n", "# | x\n", "# ANSWER a\n# ANSWER b\n# END\n"]
)
def test_marks_that_do_not_fit_are_refused(source):
    with pytest.raises(LabError):
        cut(source, 2019)
    with pytest.raises(LabError, match="year is 2020"):
        cut("", 2020)


@pytest.mark.parametrize("year", [2019, 2022])
@pytest.mark.parametrize("solution", [False, True])
def test_no_mark_is_left_and_everything_compiles(year, solution):
    for name, text in files(year, solution=solution).items():
        if name.endswith(".py"):
            compile(text, name, "exec")
            assert not any(mark in text for mark in ("# ANSWER", "# KIT", "# ONLY", "# END", "# |")), name
        assert "scenelab" not in text, name
    text = files(year, solution=solution)["code/student_code.py"]
    assert ("yours to write" in text) is not solution
    assert ("default_vit_model" in text) is (year == 2022)


@pytest.fixture
def homework(tmp_path):
    return write(tmp_path / "hw", {name: text.encode() for name, text in files(2019, solution=True).items()})


def run(homework, *arguments):
    """Run in code/ without scenelab: what the kit needs are torch, torchvision, numpy and tensorboard."""
    block = "import sys; sys.modules['scenelab'] = None; import runpy; sys.argv = sys.argv[1:]; sys.path[0] = '.'; "
    code = block + "runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=homework / "code", capture_output=True, text=True
    )


def test_the_solution_passes_its_own_test(homework):
    done = run(homework, "./test_conv.py")
    assert done.returncode == 0, done.stderr
    assert "All passed! End of testing." in done.stdout


def test_the_bare_kit_says_what_is_missing(tmp_path):
    assert main.run(["kit", str(tmp_path / "hw")]) == 0
    done = run(tmp_path / "hw", "./test_conv.py")
    assert done.returncode != 0
    assert "CustomConv2DFunction.forward is yours to write" in done.stderr
    assert (tmp_path / "hw" / "writeup").is_dir()
    assert (tmp_path / "hw" / "download_dataset.sh").stat().st_mode & 0o100
    assert main.run(["kit", str(tmp_path / "hw")]) == 1


@pytest.mark.parametrize("year", [2019, 2022])
def test_the_given_network_is_the_handouts(year):
    module = {}
    exec(compile(files(year)["code/student_code.py"], "student_code.py", "exec"), module)
    ours = SimpleNet() if year == 2019 else SimpleNetSmall()
    given = module["default_model"]()
    assert [tuple(p.shape) for p in given.parameters()] == [tuple(p.shape) for p in ours.parameters()]
    given.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(given(images), ours(images))


@pytest.mark.slow
@pytest.mark.parametrize("year", [2019, 2022])
def test_the_kit_trains_evaluates_attacks(tmp_path, year):
    homework = write(tmp_path / "hw", {name: text.encode() for name, text in files(year, solution=True).items()})
    data = homework / "data"
    (data / "images" / "train").mkdir(parents=True)
    lines = []
    for number in range(6):
        Image.new("RGB", (128, 128), (40 * number, 90, 200)).save(data / "images" / "train" / f"{number}.jpg")
        lines.append(f"train/{number}.jpg {number % 2}")
    for name in ("train", "val"):
        (data / f"{name}.txt").write_text("\n".join(lines) + "\n")
    flags = ["../data", "--gpu=-1", "-j", "0", "-b", "3"]
    done = run(homework, "./main.py", *flags, "--epochs=1", "--use-custom-conv")
    assert done.returncode == 0, done.stderr
    assert "******Acc@1" in done.stdout
    assert any((homework / "logs").iterdir())
    best = homework / "models" / "checkpoint.pth.tar"
    stored = torch.load(best, weights_only=True)
    assert set(stored) == {"epoch", "model_arch", "state_dict", "best_acc1", "optimizer"}
    done = run(homework, "./main.py", *flags, f"--resume={best}", "-e", "-a", "-v")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("******Acc@1") == 2
    done = run(homework, "./main.py", *flags, f"--resume={best}", "--epochs=2")
    assert done.returncode == 0, done.stderr
    assert torch.load(best, weights_only=True)["epoch"] == 2
    assert run(homework, "./main.py", *flags, "-e").returncode == 1
    if year == 2022:
        assert run(homework, "./main.py", *flags, "--epochs=1", "--use-vit").returncode == 0


def test_gradescopes_folder(tmp_path):
    assert main.run(["kit", str(tmp_path / "gs"), "--gradescope"]) == 0
    for name in ("setup.sh", "run_autograder"):
        assert (tmp_path / "gs" / name).stat().st_mode & 0o100
        assert subprocess.run(["bash", "-n", tmp_path / "gs" / name]).returncode == 0
    text = (tmp_path / "gs" / "scenelab" / "pyproject.toml").read_text()
    assert "torch" in text
    assert "gradio" not in text
    assert "http" not in text
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import scenelab.course.grading.batch as b; print(b.__file__)",
         str(tmp_path / "gs" / "scenelab" / "src")], capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert str(tmp_path / "gs") in done.stdout, done.stderr
    assert main.run(["kit", str(tmp_path / "x"), "--rubric", "r.toml"]) == 1
