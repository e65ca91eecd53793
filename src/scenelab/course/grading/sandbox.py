"""The sandbox that runs a submission: bubblewrap, or a plain process if the instructor says so.

A submission is hostile until shown otherwise. The kernel keeps it from references, other students' work, the network,
the grader and the machine: namespaces (bubblewrap.py), a filter of system calls (seccomp.py), limits (driver.py,
worker.py), a user of its own (processes.py). Scoring with PyTorch's own convolution is caught by replaced kernels, an
audit hook and a trace of calls (tripwire.py, audit.py, record.py), whose notes cannot be taken back (monitor.py).
What cannot be proved is flagged for review by a person. A level is not trusted by its name, but by a self-test.
"""

import json
import os
import secrets
import select
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import scenelab
from scenelab.course.grading import bubblewrap, seccomp
from scenelab.course.grading.processes import real_users, stop
from scenelab.errors import LabError
from scenelab.io import DISK
from scenelab.runtime import NEUTRAL, python_command

LEVELS = ("bubblewrap", "process")
RUNNER = Path(__file__).parent / "scenelab_runner"
USERS = range(0x70000000, 0x7FFFFFFF)  # numbers that systemd leaves unused ("Users, Groups, UIDs and GIDs")
FEW_USERS = range(60_100, 60_500)  # if numbers that large are not mapped
SECONDS = 20  # for the self-test
PROMISES = ("network", "files", "secrets", "signals", "kernel", "syscalls", "privileges")
ENVIRONMENT = """
    PATH=/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONHASHSEED=0 MPLBACKEND=Agg
    USER=student LOGNAME=student CUDA_VISIBLE_DEVICES= PYTHONDONTWRITEBYTECODE=1
""".split()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a submission."""

    memory: int = 3 << 30  # bytes, of all its processes together
    file: int = 32 << 20  # bytes of a file that it writes
    processes: int = 96  # at once, threads counted
    cpu_seconds: int = 240  # of one process
    seconds: float = 20  # of one request, by the clock
    budget_seconds: float = 90  # of all checks of one part of the assignment, by the clock

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise LabError(f"limits.{name} is {value}; give a number above 0")


@dataclass(frozen=True)
class Sandbox:
    """A level and what it was measured to hold back."""

    level: str
    holds: dict[str, bool] = field(default_factory=dict)

    def __str__(self) -> str:
        missing = ", ".join(name for name in PROMISES if not self.holds.get(name))
        return f"{self.level} (not held back: {missing})" if missing else self.level

    @property
    def whole(self) -> bool:
        """Whether it holds back everything in `PROMISES`."""
        return all(self.holds.get(name) for name in PROMISES)

    def pick_user(self) -> int | None:
        """Return a random user for one submission if we are root: all its processes are killed in the end."""
        readable = all(bubblewrap.open_to_others(Path(real)) for real, _ in bubblewrap.python_folders())
        if os.getuid() != 0 or (self.level == "process" and not readable):
            return None  # a plain process stays root if others cannot read Python
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
        last = max(int(first) + int(count) - 1 for first, _, count in ranges)
        return secrets.choice(FEW_USERS if USERS[-1] > last else USERS)

    def start(
        self,
        command: Sequence[str],  # file name of the module, and its arguments after the limits
        stage: Path,  # of `make_stage`; the only folder of ours that it sees
        limits: Limits,  # which it applies to itself
        *,
        user: int | None = None,  # of `pick_user`
        token: str = "",  # put into its environment
        handles: Sequence[int] = (),  # of files that it inherits
    ) -> "subprocess.Popen[bytes]":
        """Start a program of the runner with pipes as its standard input and output."""
        contained = self.level == "bubblewrap"
        variables = [*ENVIRONMENT, f"SCENELAB_TOKEN={token}", f"TMPDIR={'' if contained else stage}/tmp"]
        environment = {name: value for name, _, value in (each.partition("=") for each in variables)}
        code = seccomp.build_filter()
        with tempfile.TemporaryFile() as file:
            file.write(code or b"")
            file.seek(0)
            handle = None if code is None else file.fileno()
            own = {"user": None, "filter": None} if contained else {"user": user, "filter": handle}
            path, applied = stage / RUNNER.name / command[0], json.dumps({**vars(limits), **own})
            started = python_command(["-s", "-B", str(path), applied, *command[1:]])
            if contained:
                started = bubblewrap.command_line(started, stage, user=user, seccomp=handle)
            return subprocess.Popen(
                started,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=NEUTRAL,
                start_new_session=True,
                bufsize=0,
                pass_fds=[*handles, *([] if handle is None else [handle])],
            )


def make_stage(parent: Path) -> Path:
    """Make a folder for one submission: the runner, a folder for the submission, and one for scratch files."""
    parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix="stage-", dir=parent.resolve()))
    for name in (RUNNER.name, "submission", "tmp"):
        (stage / name).mkdir()
    for module in RUNNER.glob("*.py"):
        (stage / RUNNER.name / module.name).write_bytes(module.read_bytes())
    (stage / "tmp").chmod(0o777)
    stage.chmod(0o755)
    return stage


def measure(level: str, parent: Path) -> Sandbox | None:
    """Run the self-test at a level, which tries to write below `parent`; return None if the level is not available."""
    sandbox, stage = Sandbox(level), make_stage(parent)
    canary, secret = stage.with_suffix(".canary"), stage.with_suffix(".secret")
    given = {"canary": str(canary), "secrets": [str(secret), str(Path(scenelab.__file__).resolve())]}
    given |= {"parent": os.getpid(), "hides": level == "bubblewrap", "calls": seccomp.numbers()}
    try:
        secret.write_text("references")
        secret.chmod(0o600)
        with socket.create_server(("127.0.0.1", 0)) as server:
            given["port"], user = server.getsockname()[1], sandbox.pick_user()
            process = sandbox.start(["selftest.py", json.dumps(given)], stage, Limits(), user=user)
            assert process.stdout is not None
            try:
                ready = select.select([process.stdout], [], [], SECONDS)[0]
                holds = json.loads(process.stdout.readline() if ready else b"")
                holds["privileges"] &= 0 not in real_users(process.pid)
            finally:
                stop(process, user=user)
        holds["files"] = not canary.exists()
        return Sandbox(level, {name: bool(holds[name]) for name in PROMISES})
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno in DISK:
            raise  # says nothing about the level
        return None
    finally:
        for path in (canary, secret):
            path.unlink(missing_ok=True)
        shutil.rmtree(stage, ignore_errors=True)


def best(parent: Path, *, unsafe: bool = False) -> Sandbox:
    """Return bubblewrap if it is whole, or, if `unsafe`, the best level available, down to a plain process.

    Raises:
        LabError: there is no whole sandbox and `unsafe` is not set.
    """
    reasons = []
    for level in LEVELS if unsafe else LEVELS[:1]:
        sandbox = measure(level, parent)
        if sandbox is not None and (sandbox.whole or unsafe):
            return sandbox
        reasons.append(f"{level} cannot be started" if sandbox is None else str(sandbox))
    raise LabError(
        f"no whole sandbox for students' code: {'; '.join(reasons)}. Grading needs Linux with bubblewrap, libseccomp2 "
        "and user namespaces; --unsafe runs the code without them, in a container or virtual machine of its own only"
    )
