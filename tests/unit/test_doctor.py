"""scenelab doctor: what is missing is named with its command and its cure."""

import json
import sys

import pytest

from scenelab.cli import doctor, main
from scenelab.errors import LabError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No PDF is made and no sandbox is tried."""
    monkeypatch.setattr(doctor, "_pdf", lambda: iter(()))
    monkeypatch.setattr("scenelab.course.grading.sandbox.best", lambda folder: "bubblewrap")


def findings(capsys) -> dict[str, dict[str, str]]:
    assert main.run(["doctor", "--json"]) == 0
    return {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_what_is_there_is_named_and_needs_no_fix(capsys):
    found = findings(capsys)
    assert found["torch"]["found"].startswith("2.")
    assert found["device"]["found"] in ("cpu", "cuda", "mps")
    assert not any(found[name]["fix"] for name in ("Python", "torch", "device", "sandbox", "onnx"))


@pytest.mark.parametrize(
    ("module", "part", "fix"),
    [
        ("onnx", "onnx", "pip install 'scenelab[export]'"),
        ("starlette", "starlette", "pip install 'scenelab[app]'"),
        ("tensorboard", "tensorboard", "pip install tensorboard"),
        ("torchvision", "torch", "pip install torch torchvision"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(module, part, fix, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert findings(capsys)[part]["fix"].endswith(fix)
    assert main.run(["doctor"]) == 0
    assert fix in capsys.readouterr().out


def test_too_little_disk_and_a_missing_sandbox_are_named(monkeypatch, capsys):
    def no_sandbox(folder):
        raise LabError("no whole sandbox")

    monkeypatch.setattr("scenelab.course.grading.sandbox.best", no_sandbox)
    monkeypatch.setattr(doctor, "MIN_FREE", 1 << 60)
    found = findings(capsys)
    assert found["sandbox"]["fix"] == "no whole sandbox"
    assert found["disk"]["fix"].startswith("free ")
