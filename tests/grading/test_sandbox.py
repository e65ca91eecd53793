"""What each level of sandbox really holds back, and the refusal to grade without a whole one."""

import contextlib
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
def test_bubblewrap_holds_back_everything(tmp_path):
    sandbox = measure("bubblewrap", tmp_path)
    assert sandbox is not None
    assert sandbox.whole, sandbox
    assert set(sandbox.holds) == set(PROMISES)
    assert not list(tmp_path.iterdir()), "the self-test leaves nothing behind"


@needs_bubblewrap
@needs_root
@pytest.mark.parametrize(("proc", "lost"), [(bubblewrap._proc, "privileges"), (lambda: ["--proc", "/proc"], "kernel")])
def test_bubblewrap_run_as_root_is_not_whole(tmp_path, monkeypatch, proc, lost):
    """With a plain /proc a submission could set the host's core pattern: to the kernel, user 65534 inside was root."""
    monkeypatch.setattr(Sandbox, "pick_user", lambda self: None)
    monkeypatch.setattr(bubblewrap, "_proc", proc)
    sandbox = measure("bubblewrap", tmp_path)
    assert sandbox is not None
    assert not sandbox.holds[lost]


@needs_bubblewrap
def test_bubblewrap_without_a_filter_of_system_calls_is_not_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(seccomp, "build_filter", lambda: None)
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


def test_a_plain_process_is_not_whole(tmp_path):
    sandbox = measure("process", tmp_path)
    assert sandbox is not None
    assert not sandbox.whole
    assert "network" in str(sandbox)
    assert not list(tmp_path.iterdir()), "the self-test leaves nothing behind"


def test_a_plain_process_is_used_only_on_request(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda name: None)
    with pytest.raises(LabError, match="bubblewrap cannot be started"):
        best(tmp_path)
    assert best(tmp_path, unsafe=True).level == "process"
    write(tmp_path / "in", solution())
    assert main.run(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    assert "--unsafe" in capsys.readouterr().err


@contextlib.contextmanager
def worker_for(sandbox, folder, code):
    stage = make_stage(folder)
    write(stage / "submission", {"code/student_code.py": code})
    worker = Worker(sandbox, stage, stage / "submission" / "code" / "student_code.py", Limits())
    try:
        yield worker
    finally:
        worker.close()


@pytest.mark.parametrize("level", ["bubblewrap", "process"])
def test_a_submission_runs_at_every_level(tmp_path, level):
    sandbox = measure(level, tmp_path)
    if sandbox is None:
        pytest.skip(f"{level} is not available here")
    with worker_for(sandbox, tmp_path, solution()["code/student_code.py"]) as worker:
        reply = worker.call("describe_model", names=["default_model"])
        assert reply.values["parameters"] > 10_000
        with pytest.raises(SubmissionError, match="has no nothing"):
            worker.call("describe_model", names=["nothing"])


SYSCALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
result = libc.syscall({number}, {arguments})
assert result == -1 and ctypes.get_errno() == 1, (result, ctypes.get_errno())
raise PermissionError
"""
ARGUMENTS = {
    "keyctl": "0, -3, 0", "unshare": "0x10000000", "ptrace": "12, 0, 0, 0", "bpf": "0, 0, 0",
    "perf_event_open": "0, 0, 0, 0, 0", "userfaultfd": "0", "io_uring_setup": "0, 0", "shmget": "0, 1 << 20, 0o1600",
    "memfd_create": "b'x', 0",
}  # fmt: skip
NUMBERS = seccomp.numbers(*ARGUMENTS)
ATTEMPTS = [
    "open('/etc/passwd').read()", "import os\nos.listdir('/home')", "open('/etc/x', 'w')", "open('/dev/shm/../x', 'w')",
    "import scenelab", "import socket\nsocket.create_connection(('1.1.1.1', 53), 2)",
    "import os\nos.setuid(0)", "import os\nos.chroot('/tmp')", "import os\nos.sethostname('x')",
    "open('/tmp/x', 'wb').write(bytes(70 << 20))", "open('/dev/shm/x', 'wb').write(bytes(110 << 20))",
    "import os\nos.write(os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY), b'core\\n')",
    "import os\nos.write(os.open('/proc/sys/vm/swappiness', os.O_WRONLY), b'60')",
    "import os\nos.open('/proc/sysrq-trigger', os.O_WRONLY)", "open('/proc/keys').read()", "open('/proc/timer_list').read()",
    "import os\nassert os.listdir('/proc/irq') == os.listdir('/proc/fs') == []\nraise PermissionError",
    "import socket\nsocket.socket(40, socket.SOCK_STREAM)", "import socket\nsocket.socket(16, socket.SOCK_RAW)",
    *(SYSCALL.format(number=NUMBERS.get(name), arguments=arguments) for name, arguments in ARGUMENTS.items()),
]  # fmt: skip


@needs_bubblewrap
@pytest.mark.parametrize("code", ATTEMPTS)
def test_bubblewrap_refuses(tmp_path, code):
    with worker_for(Sandbox("bubblewrap"), tmp_path, code.encode()) as worker:
        with pytest.raises(SubmissionError) as caught:
            worker.start()
        assert caught.value.kind == "error", caught.value
        assert caught.value.error != "AssertionError", caught.value


@pytest.mark.parametrize("values", [{"seconds": 0}, {"memory": -1}, {"processes": 0}])
def test_limits_must_be_above_zero(values):
    with pytest.raises(LabError, match="give a number above 0"):
        Limits(**values)
