"""What each level really holds back, by trying it; refusal where a whole sandbox is asked for and there is none."""

import shutil

import pytest

from mutants import solution, write
from scenelab.cli import app
from scenelab.errors import LabError
from scenelab.grading import sandbox
from scenelab.grading.child import Child, Trouble
from scenelab.grading.sandbox import Limits, Sandbox, best, make_stage, measure

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


@needs_bubblewrap
def test_bubblewrap_holds_everything_back(tmp_path):
    found = measure("bubblewrap", tmp_path)
    assert found is not None
    assert found.whole, found


@pytest.fixture
def ordinary(monkeypatch):
    """Measured as an ordinary user would: as root a plain process is refused where Python is closed to others."""
    monkeypatch.setattr(sandbox.os, "getuid", lambda: 1000)


def test_a_plain_process_is_called_what_it_is(tmp_path, ordinary):
    found = measure("process", tmp_path)
    assert found is not None
    assert not found.whole
    assert "network" in str(found)
    assert not list(tmp_path.iterdir()), "nothing is left of the try"


def test_namespaces(tmp_path):
    found = measure("namespaces", tmp_path)
    if found is None:
        pytest.skip("no user namespaces here")
    assert found.holds["network"]
    assert found.holds["signals"]


def test_root_runs_no_plain_process_that_would_be_root(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox.os, "getuid", lambda: 0)
    monkeypatch.setattr(sandbox, "_others_can_read", lambda: False)
    assert measure("process", tmp_path) is None
    with pytest.raises(LabError, match="as root it would be root"):
        best(tmp_path, levels=("process",))


def test_a_whole_sandbox_can_be_required(tmp_path, monkeypatch, capsys, ordinary):
    with pytest.raises(LabError, match="--require-sandbox"):
        best(tmp_path, required=True, levels=("process",))
    monkeypatch.setattr(sandbox, "_bubblewrap", lambda stage: ["/no/bwrap"])
    monkeypatch.setattr(sandbox, "_namespaces", lambda: ["/no/unshare"])
    assert best(tmp_path).level == "process"
    write(tmp_path / "in", solution())
    assert app.run(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--require-sandbox"]) == 1
    assert "install bubblewrap" in capsys.readouterr().err


@pytest.mark.parametrize("level", ["bubblewrap", "namespaces", "process"])
def test_code_runs_at_every_level(tmp_path, level, ordinary):
    found = measure(level, tmp_path)
    if found is None:
        pytest.skip(f"{level} cannot be had here")
    stage = make_stage(tmp_path)
    write(stage / "submission", {"code/student_code.py": solution()["code/student_code.py"]})
    child = Child(found, stage, stage / "submission" / "code" / "student_code.py", Limits())
    try:
        reply = child.ask("describe_model", names=["default_model"])
        assert reply.values["parameters"] > 10_000
        with pytest.raises(Trouble, match="has no nothing"):
            child.ask("describe_model", names=["nothing"])
    finally:
        child.close()


@needs_bubblewrap
@pytest.mark.parametrize("code", [
    "open('/etc/passwd').read()", "import os\nos.listdir('/home')", "open('/etc/x', 'w')", "open('/dev/shm/../x', 'w')",
    "import scenelab", "open(__file__, 'a')", "import socket\nsocket.create_connection(('1.1.1.1', 53), 2)",
    "import os\nos.setuid(0)", "import os\nos.chroot('/tmp')", "import os\nos.sethostname('x')",
    "open('/tmp/x', 'wb').write(bytes(70 << 20))", "open('/dev/shm/x', 'wb').write(bytes(70 << 20))",
])  # fmt: skip
def test_bubblewrap_has_nothing_to_take(tmp_path, code):
    stage = make_stage(tmp_path)
    write(stage / "submission", {"code/student_code.py": code.encode()})
    child = Child(Sandbox("bubblewrap"), stage, stage / "submission" / "code" / "student_code.py", Limits())
    try:
        with pytest.raises(Trouble) as caught:
            child.begin()
        assert caught.value.kind == "error", caught.value
    finally:
        child.close()


@pytest.mark.parametrize("values", [{"seconds": 0}, {"memory": -1}, {"processes": 0}])
def test_limits_are_numbers_above_zero(values):
    with pytest.raises(LabError, match="give a number above 0"):
        Limits(**values)
