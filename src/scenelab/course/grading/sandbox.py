"""The sandbox that runs a submission: bubblewrap, or a plain process if the instructor says so.

A submission is hostile until shown otherwise. It may read references and other students' work, write outside its
folder, reach the network, the kernel or the grader, use up the machine, or score with PyTorch's own convolution.
The kernel holds back the first: namespaces and a read-only system (bubblewrap.py), a filter of system calls
(seccomp.py), limits (runner/limits.py, worker.py), a user of its own and its end (processes.py). The last is held by
native kernels that are replaced and counted (runner/tripwire.py), an audit hook (runner/audit.py) and a trace of calls
(runner/tracing.py), all of which write to a record that cannot be taken back (runner/record.py, monitor.py).
What cannot be proved is flagged for review by a person. Messages carry no code (runner/wire.py).

A level is not trusted by its name: `measure` runs a program in it that tries what must fail. Only a sandbox that
holds back everything is used by default.
"""

import json
import os
import secrets
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import scenelab
from scenelab.course.grading import bubblewrap, seccomp
from scenelab.course.grading.processes import real_users, stop
from scenelab.errors import LabError
from scenelab.io import DISK
from scenelab.runtime import NEUTRAL, python_command

LEVELS = ("bubblewrap", "process")
RUNNER = Path(__file__).parent / "runner"
USERS = range(0x70000000, 0x7FFFFFFF)  # numbers that systemd leaves unused ("Users, Groups, UIDs and GIDs")
FEW_USERS = range(60_100, 60_500)  # if numbers that large are not mapped
SECONDS = 20  # for the self-test
PROMISES = ("network", "files", "secrets", "signals", "kernel", "syscalls", "privileges")
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0", "MPLBACKEND": "Agg", "USER": "student", "LOGNAME": "student", "CUDA_VISIBLE_DEVICES": "",
    "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a submission.

    Attributes:
        memory: bytes, of all its processes together.
        file: bytes of a file that it writes.
        processes: at once, threads counted.
        cpu_seconds: of one process.
        seconds: of one request, by the clock.
        budget_seconds: of all checks of one part of the assignment, by the clock.
    """

    memory: int = 3 << 30
    file: int = 32 << 20
    processes: int = 96
    cpu_seconds: int = 240
    seconds: float = 20
    budget_seconds: float = 90

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
        missing = [name for name in PROMISES if not self.holds.get(name)]
        return self.level + (f" (not held back: {', '.join(missing)})" if missing else "")

    @property
    def whole(self) -> bool:
        """Whether it holds back everything in `PROMISES`."""
        return all(self.holds.get(name) for name in PROMISES)

    def pick_user(self) -> int | None:
        """Return a user for one submission if we are root; a plain process stays root if others cannot read Python.

        It is drawn, since all processes of that user are killed in the end: another grader may run beside this one.
        """
        if os.getuid() != 0 or (self.level == "process" and not bubblewrap.python_is_open_to_others()):
            return None
        return secrets.choice(FEW_USERS if USERS[-1] > _max_user() else USERS)

    def start(
        self, program: str, arguments: Sequence[str], stage: Path, limits: Limits, *,
        user: int | None = None, token: str = "", descriptors: Sequence[int] = (),
    ) -> "subprocess.Popen[bytes]":  # fmt: skip
        """Start a program of `runner/` with pipes as its standard input and output.

        Args:
            program: file name of the module.
            arguments: of the program, after the limits that it applies to itself.
            stage: of `make_stage`; the only folder of ours that it sees.
            limits: of the program.
            user: of `pick_user`.
            token: put into its environment.
            descriptors: of files that it inherits.
        """
        contained = self.level == "bubblewrap"
        environment = {**ENVIRONMENT, "SCENELAB_TOKEN": token, "TMPDIR": "/tmp" if contained else str(stage / "tmp")}
        code = seccomp.build_filter()
        with tempfile.TemporaryFile() as file:
            file.write(code or b"")
            file.seek(0)
            handle = None if code is None else file.fileno()
            applied = {"memory": limits.memory, "file": limits.file, "seconds": limits.cpu_seconds}
            applied |= {"processes": limits.processes}
            applied |= {"user": None, "filter": None} if contained else {"user": user, "filter": handle}
            command = python_command(["-s", "-B", str(stage / "runner" / program), json.dumps(applied), *arguments])
            if contained:
                command = bubblewrap.command_line(command, stage, user=user, seccomp=handle)
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
                cwd=NEUTRAL, start_new_session=True, bufsize=0,
                pass_fds=[*descriptors, *([] if handle is None else [handle])],
            )  # fmt: skip


@cache
def _max_user() -> int:
    """Return the largest user number of this user namespace."""
    lines = Path("/proc/self/uid_map").read_text("ascii").splitlines()
    return max(int(first) + int(count) - 1 for first, _, count in map(str.split, lines))


def make_stage(parent: Path) -> Path:
    """Make a folder for one submission: the runner, a folder for the submission, and one for scratch files."""
    parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix="stage-", dir=parent.resolve()))
    for name in ("runner", "submission", "tmp"):
        (stage / name).mkdir()
    for module in RUNNER.glob("*.py"):
        (stage / "runner" / module.name).write_bytes(module.read_bytes())
    (stage / "tmp").chmod(0o777)
    stage.chmod(0o755)
    return stage


def measure(level: str, parent: Path) -> Sandbox | None:
    """Run the self-test at a level; return None if the level is not available.

    Args:
        level: one of LEVELS.
        parent: a folder of ours; the self-test tries to write into it.
    """
    parent = parent.resolve()
    stage = make_stage(parent)
    canary, secret = parent / f"canary-{secrets.token_hex(4)}", parent / f"secret-{secrets.token_hex(4)}"
    sandbox = Sandbox(level)
    try:
        secret.write_text("references")
        secret.chmod(0o600)
        with socket.create_server(("127.0.0.1", 0)) as server:
            given = {
                "canary": str(canary),
                "secrets": [str(secret), str(Path(scenelab.__file__).resolve())],
                "port": server.getsockname()[1],
                "parent": os.getpid(),
                "hides": level == "bubblewrap",
                "calls": seccomp.numbers(),
            }
            user = sandbox.pick_user()
            process = sandbox.start("selftest.py", [json.dumps(given)], stage, Limits(), user=user)
            try:
                holds = json.loads(_read_line(process))
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


def _read_line(process: "subprocess.Popen[bytes]") -> bytes:
    """Return the first line that a process prints within `SECONDS`, or what there is of it."""
    line, deadline = b"", time.monotonic() + SECONDS
    assert process.stdout is not None
    while not line.endswith(b"\n") and time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.1)[0]:
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                break
            line += part
    return line


def best(parent: Path, *, unsafe: bool = False) -> Sandbox:
    """Return bubblewrap if it is whole, or, if `unsafe`, the best level available, down to a plain process.

    Args:
        parent: a folder of ours, for the self-test.
        unsafe: accept a level that is not whole.

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
