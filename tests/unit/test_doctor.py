"""scenelab doctor: what is missing is named with its command and its cure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement

from scenelab import extras
from scenelab.cli import doctor, main
from scenelab.errors import LabError
from scenelab.extras import APP, FEATURES


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No PDF is made and no sandbox is tried."""
    monkeypatch.setattr("scenelab.report.write.to_pdf", lambda html, paper: b"%PDF")
    monkeypatch.setattr("scenelab.course.grading.sandbox.best", lambda folder: "bubblewrap")


def findings(capsys) -> dict[str, dict[str, str]]:
    assert main.run(["doctor", "--json"]) == 0
    return {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_what_is_there_is_named_and_needs_no_fix(capsys):
    found = findings(capsys)
    assert found["torch"]["found"].startswith("2.")
    assert found["device"]["found"] in ("cpu", "cuda", "mps")
    assert not any(found[name]["fix"] for name in ("Python", "torch", "device", "sandbox", "starlette, uvicorn"))


@pytest.mark.parametrize(
    ("module", "part", "fix"),
    [
        ("onnx", "onnx, onnxruntime, onnxscript", 'pip install "scenelab[export]"'),
        ("starlette", "starlette, uvicorn", 'pip install "scenelab[app]"'),
        ("weasyprint", "weasyprint", 'pip install "scenelab[report]"'),
        ("tensorboard", "tensorboard", 'pip install "scenelab[tensorboard]"'),
        ("torchvision", "torch", "pip install torch torchvision"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(module, part, fix, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert findings(capsys)[part]["fix"].endswith(fix)
    assert main.run(["doctor"]) == 0
    assert fix in capsys.readouterr().out


def test_extras_install_what_their_features_need():
    project = tomli.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        name: {Requirement(need).name for need in needs} for name, needs in project["optional-dependencies"].items()
    }
    for feature in FEATURES:
        assert extras[feature.extra] >= {name.replace("_", "-") for name in feature.packages}
    [everything] = map(Requirement, project["optional-dependencies"]["all"])
    assert everything.extras == extras.keys() - {"all", "dev", "docs"} == {feature.extra for feature in FEATURES}


def test_an_environment_without_pip_is_one_of_uv(monkeypatch):
    assert APP.command.endswith('python -m pip install "scenelab[app]"')
    monkeypatch.setattr(extras.PathFinder, "find_spec", lambda module: None)
    assert APP.command == 'uv pip install "scenelab[app]"'


def test_the_command_that_installs_an_extra_leaves_setuptools_usable():
    """A look for pip by importlib.util.find_spec() made setuptools, and so torch.compile, fail in the same process."""
    code = "from scenelab.extras import APP; APP.command; import setuptools"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_package_that_cannot_be_imported_is_named_with_the_reason(monkeypatch, capsys):
    def broken(name):
        raise RuntimeError(f"{name} was built for another system\nmore")

    monkeypatch.setattr(doctor, "import_module", broken)
    assert (
        findings(capsys)["starlette, uvicorn"]["found"] == "cannot be imported: starlette was built for another system"
    )


def test_too_little_disk_and_a_missing_sandbox_are_named(monkeypatch, capsys):
    def no_sandbox(folder):
        raise LabError("no whole sandbox")

    monkeypatch.setattr("scenelab.course.grading.sandbox.best", no_sandbox)
    monkeypatch.setattr(doctor, "MIN_FREE", 1 << 60)
    found = findings(capsys)
    assert found["sandbox"]["fix"] == "no whole sandbox"
    assert found["disk"]["fix"].startswith("free ")
