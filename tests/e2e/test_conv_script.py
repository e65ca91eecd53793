"""python ./test_conv.py, as a student runs it: what it prints, and that it never passes a wrong convolution."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CODE = Path(__file__).parents[2] / "code"
LAST = "All passed! End of testing."


@pytest.fixture
def code(tmp_path) -> Path:
    """A student's own copy of the front door."""
    return Path(shutil.copytree(CODE, tmp_path / "code", ignore=shutil.ignore_patterns("__pycache__")))


def run(code: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "./test_conv.py"], cwd=code, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_it_passes(code):
    status, text = run(code)
    assert text.splitlines()[0] in ("Using device: cpu", "Using device: cuda")
    checks = ["Check Fprop ...", "Fprop testing passed", "Check Bprop ...", "Bprop testing passed"]
    assert text.splitlines()[1:] == [*checks, "Check nn.module wrapper ...", LAST]
    assert status == 0


OUTPUT, RETURN = "output = convolve(", "return *gradients(ctx, grad_output), None, None"
GRADS = "grads = gradients(ctx, grad_output); "
PASSED, FAILED = ("Fprop testing passed", "Bprop testing passed"), ("Fprop testing failed", "Bprop testing failed")
MODULE = "nn.module wrapper testing failed"
BACKWARD = [PASSED[0], FAILED[1]]
MISTAKES = {  # of a student, and what the script prints
    "wrong output": (OUTPUT, "output = 1.0001 * convolve(", [FAILED[0], PASSED[1]]),
    "output unlike the gradients": (OUTPUT, "output = 1.01 * convolve(", [*FAILED, MODULE]),
    "wrong gradients": (RETURN, f"{GRADS}return *grads[:2], grads[2] * 1.01, None, None", [*BACKWARD, MODULE]),
    "no gradient of the bias": (RETURN, f"{GRADS}return *grads[:2], None, None, None", [*BACKWARD, MODULE]),
    "wrong module": ("input, self.weight, self.bias,", "input, self.weight, None,", [*PASSED, MODULE]),
    "one gradient of hundreds": (
        RETURN,
        f"{GRADS}grads[1].view(-1)[47].mul_(1.001); return *grads, None, None",
        BACKWARD,
    ),
}


def mistake(code: Path, right: str, wrong: str) -> None:
    answers = code / "student_code.py"
    text = answers.read_text()
    assert text.count(right) == 1
    answers.write_text(text.replace(right, wrong))


@pytest.mark.parametrize(("right", "wrong", "printed"), MISTAKES.values(), ids=MISTAKES)
def test_it_finds_a_mistake(code, right, wrong, printed, monkeypatch, capsys):
    mistake(code, right, wrong)
    monkeypatch.syspath_prepend(code)
    for name in ("student_code", "test_conv"):
        monkeypatch.setitem(sys.modules, name, None)  # restored afterwards
        del sys.modules[name]
    script = importlib.import_module("test_conv")
    script.OUT_CHANNELS = 2  # where gradcheck finds a mistake it takes all gradients one by one
    status = script.main()
    text = capsys.readouterr().out
    assert status == 1
    assert LAST not in text
    assert [line for line in text.splitlines() if "testing" in line] == printed


@pytest.mark.parametrize("grads", ["[None] * 3", "[1.01 * grad for grad in gradients(ctx, grad_output)]", "missing()"])
def test_its_exit_status_is_one(code, grads):
    mistake(code, "return *gradients(ctx, grad_output), None", f"grads = {grads}; return *grads, None")
    status, text = run(code)
    assert status == 1
    assert LAST not in text
    assert ("NameError" in text) == ("Bprop testing failed" not in text)
