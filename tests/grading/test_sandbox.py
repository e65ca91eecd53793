"""What each level of sandbox really holds back, and the refusal to grade without a whole one."""

import contextlib
import json
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


@pytest.mark.parametrize("level", [pytest.param("bubblewrap", marks=needs_bubblewrap), "process"])
def test_only_bubblewrap_holds_back_everything(tmp_path, level):
    sandbox = measure(level, tmp_path)
    assert sandbox is not None
    assert sandbox.whole is (level == "bubblewrap"), sandbox
    assert sandbox.whole or "network" in str(sandbox)
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


GRADE = """
import sys
from scenelab.cli import main
sys.exit(main.run(["grade", sys.argv[1], "--out", sys.argv[2], "--json"]))
"""


@needs_bubblewrap
@pytest.mark.slow
def test_an_ordinary_user_grades_in_the_same_sandbox():
    folder = Path(f"/tmp/scenelab-ordinary-{os.getpid()}")
    try:
        write(folder / "in", solution())
        folder.chmod(0o777)
        done = as_ordinary_user(GRADE, str(folder / "in"), str(folder / "out"))
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)
        assert (row["score"], row["sandbox"]) == (8.0, "bubblewrap")
    finally:
        shutil.rmtree(folder)


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


@pytest.mark.parametrize("level", [pytest.param("bubblewrap", marks=needs_bubblewrap), "process"])
def test_a_submission_runs_at_every_level(tmp_path, level):
    with worker_for(Sandbox(level), tmp_path, solution()["code/student_code.py"]) as worker:
        reply = worker.call("describe_model", names=["default_model"])
        assert reply.values["parameters"] > 10_000
        with pytest.raises(SubmissionError, match="has no nothing"):
            worker.call("describe_model", names=["nothing"])


def test_a_students_own_runner_is_imported(tmp_path):
    with worker_for(Sandbox("process"), tmp_path, b"import runner\nassert runner.MINE\n") as worker:
        (worker.code.parent / "runner.py").write_text("MINE = True\n")
        worker.start()


SYSCALL = """import ctypes
libc = ctypes.CDLL(None, use_errno=True)
result = libc.syscall({number}, {arguments})
assert result == -1 and ctypes.get_errno() == 1, (result, ctypes.get_errno())
raise PermissionError"""
ARGUMENTS = {
    **{"keyctl": "0, -3, 0", "unshare": "0x10000000", "ptrace": "12, 0, 0, 0", "bpf": "0, 0, 0", "userfaultfd": "0"},
    **{"perf_event_open": "0, 0, 0, 0, 0", "io_uring_setup": "0, 0", "shmget": "0, 1 << 20, 0o1600"},
    "memfd_create": "b'x', 0",
}
NUMBERS = seccomp.numbers(*ARGUMENTS)
ATTEMPTS = """
open('/etc/passwd').read()
os.listdir('/home')
open('/etc/x', 'w')
open('/dev/shm/../x', 'w')
import scenelab
socket.create_connection(('1.1.1.1', 53), 2)
os.setuid(0)
os.chroot('/tmp')
os.sethostname('x')
open('/tmp/x', 'wb').write(bytes(70 << 20))
open('/dev/shm/x', 'wb').write(bytes(110 << 20))
os.write(os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY), b'core\\n')
os.write(os.open('/proc/sys/vm/swappiness', os.O_WRONLY), b'60')
os.open('/proc/sysrq-trigger', os.O_WRONLY)
open('/proc/keys').read()
open('/proc/timer_list').read()
assert os.listdir('/proc/irq') == os.listdir('/proc/fs') == []; raise PermissionError
socket.socket(40, socket.SOCK_STREAM)
socket.socket(16, socket.SOCK_RAW)
""".strip().splitlines()
ATTEMPTS += [SYSCALL.format(number=NUMBERS.get(name), arguments=arguments) for name, arguments in ARGUMENTS.items()]


@needs_bubblewrap
@pytest.mark.parametrize("code", ATTEMPTS)
def test_bubblewrap_refuses(tmp_path, code):
    with worker_for(Sandbox("bubblewrap"), tmp_path, f"import os, socket\n{code}\n".encode()) as worker:
        with pytest.raises(SubmissionError) as caught:
            worker.start()
        assert caught.value.kind == "error", caught.value
        assert caught.value.error not in ("AssertionError", "NameError"), caught.value


@pytest.mark.parametrize("values", [{"seconds": 0}, {"memory": -1}, {"processes": 0}])
def test_limits_must_be_above_zero(values):
    with pytest.raises(LabError, match="give a number above 0"):
        Limits(**values)
