"""Sandbox that runs a submission: bubblewrap, or a plain process if the instructor allows it.

Submissions are untrusted. The kernel isolates them from references, other students' work, the network, the grader and
the machine: by namespaces (bubblewrap.py), a seccomp filter (seccomp.py), limits (driver.py, worker.py) and a separate
user (processes.py). Calls of PyTorch's own convolution are detected by replaced kernels, an audit hook and a trace of
calls (tripwire.py, audit.py, record.py); the submission cannot delete their records (monitor.py). Suspicions without
proof are flagged for review by a person. A self-test measures the isolation of each level (selftest.py).
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
import scenelab_runner
from scenelab.course.grading import bubblewrap, seccomp
from scenelab.course.grading.processes import real_users, stop, untouched
from scenelab.errors import LabError
from scenelab.io import DISK
from scenelab.runtime import NEUTRAL, python_command

LEVELS = ("bubblewrap", "process")
RUNNER = Path(scenelab_runner.__file__).parent
USERS = range(0x70000000, 0x7FFFFFFF)  # user IDs that systemd leaves unused ("Users, Groups, UIDs and GIDs")
FEW_USERS = range(60_100, 60_500)  # used if the user namespace does not map `USERS`
SECONDS = 20  # timeout of the self-test
PROMISES = ("network", "files", "secrets", "signals", "kernel", "syscalls", "privileges")
ENVIRONMENT = """
    PATH=/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONHASHSEED=0 MPLBACKEND=Agg
    USER=student LOGNAME=student CUDA_VISIBLE_DEVICES= PYTHONDONTWRITEBYTECODE=1 TORCHDYNAMO_DISABLE=1
""".split()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Resource limits of a submission."""

    memory: int = 3 << 30  # bytes, all processes together
    file: int = 32 << 20  # bytes per written file
    processes: int = 96  # running at once, including threads
    cpu_seconds: int = 240  # per process
    seconds: float = 20  # per request, wall-clock
    budget_seconds: float = 90  # for all checks of one part of the assignment, wall-clock

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise LabError(f"limits.{name} is {value}; give a number above 0")


@dataclass(frozen=True)
class Sandbox:
    """An isolation level from `LEVELS`; `holds` maps each name in `PROMISES` to whether its self-test passed."""

    level: str
    holds: dict[str, bool] = field(default_factory=dict)

    def __str__(self) -> str:
        missing = ", ".join(name for name in PROMISES if not self.holds.get(name))
        return f"{self.level} (not held back: {missing})" if missing else self.level

    @property
    def whole(self) -> bool:
        """Whether the isolation is full: the self-test passed for all `PROMISES`."""
        return all(self.holds.get(name) for name in PROMISES)

    def pick_user(self) -> int | None:
        """Return a random user ID for one submission, or None to keep the grader's user.

        All processes of this user are killed when the submission's process is stopped.
        """
        readable = all(bubblewrap.open_to_others(Path(real)) for real, _ in bubblewrap.python_folders())
        if os.getuid() != 0 or (self.level == "process" and not readable):
            return None  # a plain process stays root if other users cannot read Python
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
        last = max(int(first) + int(count) - 1 for first, _, count in ranges)
        if last < FEW_USERS[-1]:
            return None  # a user namespace with a single user
        return secrets.choice(FEW_USERS if USERS[-1] > last else USERS)

    def start(
        self,
        command: Sequence[str],  # file name of a runner module, and its arguments after the limits
        stage: Path,  # from `make_stage`; the only folder of the grader visible in bubblewrap
        limits: Limits,  # which the program applies to itself
        *,
        user: int | None = None,  # from `pick_user`
        token: str = "",  # SCENELAB_TOKEN in the environment
        handles: Sequence[int] = (),  # file descriptors that the program inherits
    ) -> "subprocess.Popen[bytes]":
        """Start a module of the runner with pipes as standard input and output, and inherited descriptors `handles`."""
        contained = self.level == "bubblewrap"
        variables = [*ENVIRONMENT, f"SCENELAB_TOKEN={token}", f"TMPDIR={'' if contained else stage}/tmp"]
        environment = {name: value for name, _, value in (each.partition("=") for each in variables)}
        code = seccomp.build_filter()
        with tempfile.TemporaryFile() as file:
            file.write(code or b"")
            file.seek(0)
            handle = None if code is None else file.fileno()
            own = {"user": None, "filter": None} if contained else {"user": user, "filter": handle}
            data = limits.memory + untouched()
            path, applied = stage / RUNNER.name / command[0], json.dumps({**vars(limits), **own, "data": data})
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
    """Create and return a folder in `parent` with a copy of the runner and empty folders `submission` and `tmp`."""
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
    """Run the self-test of an isolation level; return a sandbox with the results, or None if it cannot run.

    The self-test writes to a new folder in `parent`.
    """
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
            raise  # a disk error says nothing about the level
        return None
    finally:
        for path in (canary, secret):
            path.unlink(missing_ok=True)
        shutil.rmtree(stage, ignore_errors=True)


def best(parent: Path, *, unsafe: bool = False) -> Sandbox:
    """Return bubblewrap if it passes the self-test; with `unsafe`, the first of `LEVELS` that can be started.

    Args:
        parent: folder for the temporary files of the self-test.
        unsafe: accept a level that keeps only some of the `PROMISES`, such as a plain process.

    Raises:
        LabError: no level is acceptable, or the system is Windows.
    """
    if not hasattr(os, "getuid"):
        raise LabError("grading needs Linux with bubblewrap (or with --unsafe, macOS); on Windows, run it in WSL")
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
