"""Where a student's code runs: in bubblewrap, or, if the instructor says so, as a plain process.

A level is not believed by its name: `measure` starts a small program in it that tries what it must not, and records
what was held back. Only a sandbox that holds back everything is used without being asked.
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
FEW_USERS = range(60_100, 60_500)  # where so large ones are not mapped
SECONDS = 20  # for the program that tries a level
PROMISES = ("network", "files", "secrets", "signals", "kernel", "syscalls", "privileges")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a submission may take.

    Attributes:
        memory: bytes, of all its processes together.
        file: bytes of a file that it writes.
        processes: it may have at once, threads counted.
        cpu_seconds: of one process.
        seconds: of one request to it, by the clock.
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

    def inside(self, user: int | None, filter_descriptor: int | None) -> dict[str, int | None]:
        """What the process in the sandbox applies to itself."""
        return {
            "memory": self.memory, "file": self.file, "seconds": self.cpu_seconds, "processes": self.processes,
            "user": user, "filter": filter_descriptor,
        }  # fmt: skip


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
        """Whether it holds back all that `PROMISES` names."""
        return all(self.holds.get(name) for name in PROMISES)

    def pick_user(self) -> int | None:
        """As root, a user of its own for a submission; a plain process stays root where Python is closed to others.

        It is drawn, since all processes of that user are killed in the end: another grader may run beside this one.
        """
        if os.getuid() != 0 or (self.level == "process" and not bubblewrap.python_is_open_to_others()):
            return None
        return secrets.choice(FEW_USERS if USERS[-1] > _largest_user() else USERS)

    def start(
        self, program: str, arguments: Sequence[str], stage: Path, limits: Limits, *, user: int | None = None,
        token: str = "", descriptors: Sequence[int] = (),
    ) -> "subprocess.Popen[bytes]":  # fmt: skip
        """Start a program of `runner/` so, with pipes as its standard input and output.

        Args:
            program: name of the module.
            arguments: of the program, behind the limits that it applies to itself.
            stage: of `make_stage`; all of ours that it sees.
            limits: what it may take.
            user: of `pick_user`.
            token: put into its environment.
            descriptors: of files that it inherits.
        """
        environment = {
            "PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0", "MPLBACKEND": "Agg", "USER": "student", "LOGNAME": "student",
            "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1",
            "SCENELAB_TOKEN": token, "TMPDIR": "/tmp" if self.level == "bubblewrap" else str(stage / "tmp"),
        }  # fmt: skip
        contained = self.level == "bubblewrap"
        code = seccomp.build_filter()
        with tempfile.TemporaryFile() as file:
            file.write(code or b"")
            file.seek(0)
            handle = None if code is None else file.fileno()
            applied = json.dumps(limits.inside(None if contained else user, None if contained else handle))
            command = python_command(["-s", "-B", str(stage / "runner" / program), applied, *arguments])
            if contained:
                command = bubblewrap.command_line(command, stage, user=user, seccomp=handle)
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
                cwd=NEUTRAL, start_new_session=True, bufsize=0,
                pass_fds=[*descriptors, *([] if handle is None else [handle])],
            )  # fmt: skip


@cache
def _largest_user() -> int:
    """The largest user number that this user namespace has."""
    lines = Path("/proc/self/uid_map").read_text("ascii").splitlines()
    return max(int(first) + int(count) - 1 for first, _, count in map(str.split, lines))


def make_stage(parent: Path) -> Path:
    """A new folder for one submission, with what runs beside it, a place for its files and one for its scratch."""
    parent.mkdir(parents=True, exist_ok=True)
    parent = parent.resolve()
    stage = Path(tempfile.mkdtemp(prefix="stage-", dir=parent))
    (stage / "runner").mkdir()
    for module in RUNNER.glob("*.py"):
        (stage / "runner" / module.name).write_bytes(module.read_bytes())
    (stage / "submission").mkdir()
    (stage / "tmp").mkdir()
    (stage / "tmp").chmod(0o777)
    stage.chmod(0o755)
    return stage


def measure(level: str, parent: Path) -> Sandbox | None:
    """Start a small program at a level that tries what it must not; None where the level cannot be had here.

    Args:
        level: one of LEVELS.
        parent: a folder of ours; the program tries to write into it.
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
                "canary": str(canary), "secrets": [str(secret), str(Path(scenelab.__file__).resolve())],
                "port": server.getsockname()[1], "parent": os.getpid(), "hides": level == "bubblewrap",
                "calls": seccomp.numbers(),
            }  # fmt: skip
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
            raise  # nothing is known of the level
        return None
    finally:
        for path in (canary, secret):
            path.unlink(missing_ok=True)
        shutil.rmtree(stage, ignore_errors=True)


def _read_line(process: "subprocess.Popen[bytes]") -> bytes:
    """The first line that a process prints, within `SECONDS`; empty where there is none."""
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
    """Bubblewrap where it is whole; a level that is not whole only if `unsafe` says so.

    Args:
        parent: a folder of ours, for what is tried.
        unsafe: take the best that can be had, down to a plain process.

    Raises:
        LabError: there is no whole sandbox and `unsafe` is not set.
    """
    tried = []
    for level in LEVELS if unsafe else LEVELS[:1]:
        sandbox = measure(level, parent)
        if sandbox is not None and (sandbox.whole or unsafe):
            return sandbox
        tried.append(f"{level} cannot be started" if sandbox is None else str(sandbox))
    raise LabError(
        f"no whole sandbox for students' code: {'; '.join(tried)}. Grading needs Linux with bubblewrap, libseccomp2 "
        "and user namespaces; --unsafe runs the code without them, in a container or virtual machine of its own only"
    )
