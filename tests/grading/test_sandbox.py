"""What each level really holds back, by trying it; refusal where there is no whole sandbox and nobody asked for less."""

import os
import shutil
from pathlib import Path

import pytest

from mutants import solution, write
from ordinary_user import as_ordinary_user
from scenelab.cli import main
from scenelab.course.grading import bubblewrap, seccomp
from scenelab.course.grading.sandbox import PROMISES, Limits, Sandbox, best, make_stage, measure
from scenelab.course.grading.worker import SubmissionError, Worker
from scenelab.errors import LabError

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@needs_bubblewrap
def test_bubblewrap_holds_everything_back(tmp_path):
    found = measure("bubblewrap", tmp_path)
    assert found is not None
    assert found.whole, found
    assert set(found.holds) == set(PROMISES)
    assert not list(tmp_path.iterdir()), "nothing is left of the try"


@needs_bubblewrap
@needs_root
def test_run_by_root_inside_it_is_not_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(Sandbox, "pick_user", lambda self: None)
    found = measure("bubblewrap", tmp_path)
    assert found is not None
    assert not found.holds["privileges"]


@needs_bubblewrap
@needs_root
def test_a_proc_that_can_be_written_is_not_whole(tmp_path, monkeypatch):
    """As it was when a submission could set the host's core pattern: user 65534 inside was root to the kernel."""
    monkeypatch.setattr(Sandbox, "pick_user", lambda self: None)
    monkeypatch.setattr(bubblewrap, "_proc", lambda: ["--proc", "/proc"])
    found = measure("bubblewrap", tmp_path)
    assert found is not None
    assert not found.holds["kernel"]


@needs_bubblewrap
def test_without_a_filter_of_system_calls_it_is_not_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(seccomp, "build_filter", lambda: None)
    found = measure("bubblewrap", tmp_path)
    assert found is not None
    assert not found.holds["syscalls"]
    with pytest.raises(LabError, match=r"not held back: syscalls.*libseccomp2.*--unsafe"):
        best(tmp_path)
    assert best(tmp_path, unsafe=True).level == "bubblewrap"


MEASURE = """
import sys
from pathlib import Path
from scenelab.course.grading.sandbox import measure
for level in ("bubblewrap", "process"):
    print(measure(level, Path(sys.argv[1])))
"""


@needs_bubblewrap
def test_an_ordinary_user_has_the_same_sandbox(tmp_path):
    folder = Path(f"/tmp/scenelab-ordinary-{os.getpid()}")
    folder.mkdir()
    try:
        folder.chmod(0o777)
        done = as_ordinary_user(MEASURE, str(folder))
        lines = done.stdout.splitlines()
        assert lines[:1] == ["bubblewrap"], done.stderr
        assert lines[1].startswith("process (not held back: network, files")
    finally:
        shutil.rmtree(folder)


def test_a_plain_process_is_called_what_it_is(tmp_path):
    found = measure("process", tmp_path)
    assert found is not None
    assert not found.whole
    assert "network" in str(found)
    assert not list(tmp_path.iterdir()), "nothing is left of the try"


def test_less_than_a_whole_sandbox_has_to_be_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda name: None)
    with pytest.raises(LabError, match="bubblewrap cannot be started"):
        best(tmp_path)
    assert best(tmp_path, unsafe=True).level == "process"
    write(tmp_path / "in", solution())
    assert main.run(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    assert "--unsafe" in capsys.readouterr().err


@pytest.mark.parametrize("level", ["bubblewrap", "process"])
def test_code_runs_at_every_level(tmp_path, level):
    found = measure(level, tmp_path)
    if found is None:
        pytest.skip(f"{level} cannot be had here")
    stage = make_stage(tmp_path)
    write(stage / "submission", {"code/student_code.py": solution()["code/student_code.py"]})
    worker = Worker(found, stage, stage / "submission" / "code" / "student_code.py", Limits())
    try:
        reply = worker.call("describe_model", names=["default_model"])
        assert reply.values["parameters"] > 10_000
        with pytest.raises(SubmissionError, match="has no nothing"):
            worker.call("describe_model", names=["nothing"])
    finally:
        worker.close()


SYSCALL = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nr = libc.syscall({number}, {arguments})\nassert r == -1 and ctypes.get_errno() == 1, (r, ctypes.get_errno())\nraise PermissionError"


@needs_bubblewrap
@pytest.mark.parametrize("code", [
    "open('/etc/passwd').read()", "import os\nos.listdir('/home')", "open('/etc/x', 'w')", "open('/dev/shm/../x', 'w')",
    "import scenelab", "import socket\nsocket.create_connection(('1.1.1.1', 53), 2)",
    "import os\nos.setuid(0)", "import os\nos.chroot('/tmp')", "import os\nos.sethostname('x')",
    "open('/tmp/x', 'wb').write(bytes(70 << 20))", "open('/dev/shm/x', 'wb').write(bytes(110 << 20))",
    "import os\nos.write(os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY), b'core\\n')",
    "import os\nos.write(os.open('/proc/sys/vm/swappiness', os.O_WRONLY), b'60')",
    "import os\nos.open('/proc/sysrq-trigger', os.O_WRONLY)", "open('/proc/keys').read()", "open('/proc/timer_list').read()",
    "import os\nassert os.listdir('/proc/irq') == os.listdir('/proc/fs') == []\nraise PermissionError",
    "import socket\nsocket.socket(40, socket.SOCK_STREAM)", "import socket\nsocket.socket(16, socket.SOCK_RAW)",
    *(SYSCALL.format(number=number, arguments=arguments) for number, arguments in (
        (seccomp.numbers("keyctl").get("keyctl"), "0, -3, 0"), (seccomp.numbers("unshare").get("unshare"), "0x10000000"),
        (seccomp.numbers("ptrace").get("ptrace"), "12, 0, 0, 0"), (seccomp.numbers("bpf").get("bpf"), "0, 0, 0"),
        (seccomp.numbers("perf_event_open").get("perf_event_open"), "0, 0, 0, 0, 0"),
        (seccomp.numbers("userfaultfd").get("userfaultfd"), "0"),
        (seccomp.numbers("io_uring_setup").get("io_uring_setup"), "0, 0"),
        (seccomp.numbers("shmget").get("shmget"), "0, 1 << 20, 0o1600"), (seccomp.numbers("memfd_create").get("memfd_create"), "b'x', 0"),
    )),
])  # fmt: skip
def test_bubblewrap_has_nothing_to_take(tmp_path, code):
    stage = make_stage(tmp_path)
    write(stage / "submission", {"code/student_code.py": code.encode()})
    worker = Worker(Sandbox("bubblewrap"), stage, stage / "submission" / "code" / "student_code.py", Limits())
    try:
        with pytest.raises(SubmissionError) as caught:
            worker.start()
        assert caught.value.kind == "error", caught.value
        assert caught.value.error != "AssertionError", caught.value
    finally:
        worker.close()


@pytest.mark.parametrize("values", [{"seconds": 0}, {"memory": -1}, {"processes": 0}])
def test_limits_are_numbers_above_zero(values):
    with pytest.raises(LabError, match="give a number above 0"):
        Limits(**values)
