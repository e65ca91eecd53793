"""Where a student's code runs: bubblewrap, else namespaces, else a plain process; and what each really holds back.

A level is not believed by its name: `measure` starts a small program in it that tries to write, read, connect and
signal, and records what it could.
"""

import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy
import torch

import scenelab
from scenelab.errors import LabError
from scenelab.files import DISK

LEVELS = ("bubblewrap", "namespaces", "process")
INSIDE = Path(__file__).parent / "inside"
NOBODY = 65534
FIRST_USER, USERS = 60_100, 400  # numbers that no account has
_users = itertools.count()
TMP_BYTES = 64 << 20  # of the private /tmp
PROMISES = ("network", "files", "secrets", "signals")

TRY = """
import json, os, socket, sys
canary, secret, port, parent, hides = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "1"
def held(action):
    try:
        action()
    except FileNotFoundError:
        return hides  # where paths are hidden, not to find one is to be held back
    except OSError:
        return True
    return False
print(json.dumps({
    "network": held(lambda: socket.create_connection(("127.0.0.1", port), 1)),
    "files": held(lambda: open(canary, "w").close()) or True,  # whether the file is there, its maker can see
    "secrets": held(lambda: open(secret)) and held(lambda: open(sys.argv[6])),
    "signals": held(lambda: os.kill(parent, 0)) or int(os.readlink("/proc/self")) < 10,
}))
"""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a submission may take.

    Attributes:
        memory: bytes, of all its processes together.
        file: bytes of a file that it writes.
        processes: it may have at once, threads counted.
        cpu_seconds: of one process.
        seconds: of a check, by the clock.
        budget_seconds: of all checks together, by the clock.
    """

    memory: int = 3 << 30
    file: int = 32 << 20
    processes: int = 96
    cpu_seconds: int = 120
    seconds: float = 20
    budget_seconds: float = 150

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
        """Whether it holds back all that `PROMISES` names."""
        return all(self.holds.get(name) for name in PROMISES)

    def command(self, arguments: Sequence[str], stage: Path) -> list[str]:
        """The command line that runs Python so; `stage` is all of ours that it sees, at its own path."""
        python = [sys.executable, "-s", "-B", *arguments]
        if self.level == "bubblewrap":
            return [*_bubblewrap(stage), *python]
        if self.level == "namespaces":
            return [*_namespaces(), *python]
        return python

    def start(self, arguments: Sequence[str], stage: Path, *, token: str = "") -> "subprocess.Popen[bytes]":
        """Start Python so, with pipes as its standard input and output."""
        environment = {
            "PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1",
            "SCENELAB_TOKEN": token, "COVERED": str(Path(scenelab.__file__).resolve().parent),
            "TMPDIR": "/tmp" if self.level == "bubblewrap" else str(stage / "tmp"),
        }  # fmt: skip
        return subprocess.Popen(
            self.command(arguments, stage), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, cwd="/", start_new_session=True, bufsize=0,
        )  # fmt: skip

    def pick_user(self) -> int | None:
        """A user of its own that a process becomes where nothing but that keeps it from our files and processes."""
        if self.level != "process" or os.getuid() != 0:
            return None
        return FIRST_USER + next(_users) % USERS


@cache
def _others_can_read() -> bool:
    """Whether another user could start this Python: no folder above it is closed."""
    paths = {Path(sys.executable).resolve(), Path(sys.prefix), Path(sys.base_prefix), Path(torch.__file__)}
    folders = {folder for path in paths for folder in path.parents}
    return all(folder.stat().st_mode & 0o001 for folder in folders)


@cache
def _bound() -> tuple[tuple[str, str], ...]:
    """Folders of Python and its packages outside /usr: where they are, and where they are looked for."""
    found = {Path(sys.prefix), Path(sys.base_prefix), Path(torch.__file__).parents[1], Path(numpy.__file__).parents[1]}
    found |= {Path(sys.executable).resolve().parent.parent}
    found |= {path.resolve() for path in found}
    outside = {path for path in found if not path.is_relative_to("/usr")}
    top = {path for path in outside if not any(path != other and path.is_relative_to(other) for other in outside)}
    return tuple(sorted((str(path.resolve()), str(path)) for path in top))


@cache
def _has_flag(flag: str) -> bool:
    done = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False)
    return flag in done.stdout + done.stderr


def _bubblewrap(stage: Path) -> list[str]:
    flags = ["bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if _nested_can_be_refused():
        flags.append("--disable-userns")
    size = ["--size", str(TMP_BYTES)] if _has_flag("--size") else []
    flags += ["--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "grader", "--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/") / name
        if path.is_symlink():
            flags += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            flags += ["--ro-bind", str(path), str(path)]
    flags += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    flags += ["--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]  # torch picks its kernels by it
    flags += ["--proc", "/proc", "--dev", "/dev", *size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    flags += [*size, "--tmpfs", "/tmp"]
    for real, path in _bound():
        flags += ["--ro-bind", real, path]
    ours = Path(scenelab.__file__).resolve().parent
    if any(ours.is_relative_to(real) for real, _ in (*_bound(), ("/usr", "/usr"))):
        flags += ["--tmpfs", str(ours), "--remount-ro", str(ours)]
    return [*flags, "--ro-bind", str(stage), str(stage), "--remount-ro", "/", "--chdir", "/tmp", "--"]


@cache
def _nested_can_be_refused() -> bool:
    """Whether bubblewrap can keep what runs in it from making user namespaces; some containers do not let it."""
    command = ["bwrap", "--ro-bind", "/", "/", "--unshare-all", "--unshare-user", "--disable-userns", "true"]
    return _has_flag("--disable-userns") and not subprocess.run(command, capture_output=True, check=False).returncode


READ_ONLY = """
mount -t tmpfs -o size=64m tmpfs "$TMPDIR"
for place in /run /dev/shm "$COVERED"; do [ -d "$place" ] && mount -t tmpfs -o size=64m tmpfs "$place"; done
cut -d' ' -f5 /proc/self/mountinfo | grep -v -x -e '/proc' -e '/proc/.*' -e '/dev' -e '/dev/.*' |
while read -r point; do
  [ "$point" = "$TMPDIR" ] || mount -o remount,bind,ro "$point" 2>/dev/null
done
mount -o remount,bind,ro /proc/sys 2>/dev/null
exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""


def _namespaces() -> list[str]:
    flags = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--ipc", "--uts", "--mount", "--fork"]
    return ["setpriv", "--pdeathsig", "KILL", *flags, "--kill-child=KILL", "--mount-proc", "sh", "-c", READ_ONLY, "sh"]


def make_stage(parent: Path) -> Path:
    """A new folder for one submission, with what runs beside it, a place for its files and one for its scratch."""
    parent.mkdir(parents=True, exist_ok=True)
    parent = parent.resolve()
    stage = Path(tempfile.mkdtemp(prefix="stage-", dir=parent))
    (stage / "inside").mkdir()
    for module in INSIDE.glob("*.py"):
        (stage / "inside" / module.name).write_bytes(module.read_bytes())
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
    if level == "process" and os.getuid() == 0 and not _others_can_read():
        return None  # a student's code would run as root
    stage = make_stage(parent)
    canary, secret = parent / f"canary-{secrets.token_hex(4)}", parent / f"secret-{secrets.token_hex(4)}"
    sandbox = Sandbox(level)
    try:
        secret.write_text("references")
        secret.chmod(0o600)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            user = sandbox.pick_user()
            script = f"import os\nuser = {user!r}\nif user is not None:\n    os.setresuid(user, user, user)\n{TRY}"
            hides, ours = str(int(level != "process")), str(Path(__file__).resolve())
            arguments = ["-c", script, str(canary), str(secret), str(port), str(os.getpid()), hides, ours]
            process = sandbox.start(arguments, stage)
            try:
                output, _ = process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                stop(process)
                return None
        holds = json.loads(output)
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


def best(parent: Path, *, required: bool = False, levels: Sequence[str] = LEVELS) -> Sandbox:
    """The first level that can be had.

    Args:
        parent: a folder of ours, for what is tried.
        required: refuse a level that does not hold back everything.
        levels: which to try, in order.

    Raises:
        LabError: none can be had, or none that is whole.
    """
    for level in levels:
        found = measure(level, parent)
        if found is not None and (found.whole or not required):
            return found
    if required:
        raise LabError(
            "--require-sandbox: no whole sandbox can be had here; install bubblewrap and allow user namespaces"
        )
    raise LabError(
        "student's code cannot be run here: there is no bubblewrap, no user namespaces, and as root it would be root; "
        "install bubblewrap or grade as an ordinary user"
    )


def stop(process: "subprocess.Popen[bytes]", token: str = "", user: int | None = None) -> None:
    """Kill a process with all that it started and close its pipes.

    Args:
        token: finds those that left its session.
        user: of its own, whose processes are all killed.
    """
    for pid in {process.pid, *_descendants(process.pid), *_with_token(token)}:
        _kill(pid)
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pid in _with_token(token):
        _kill(pid)
    if user is not None:
        command = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", "kill", "-KILL", "--", "-1"]
        with contextlib.suppress(OSError):
            subprocess.run(command, capture_output=True, check=False)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            try:
                children = Path(f"/proc/{parent}/task/{task}/children").read_text("ascii").split()
            except OSError:
                continue
            found += map(int, children)
            waiting += map(int, children)
    return found


def _with_token(token: str) -> list[int]:
    """Processes that were started with the token in their environment, wherever they have gone since."""
    if not token:
        return []
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue
        if f"SCENELAB_TOKEN={token}".encode() in environment.split(b"\0"):
            found.append(int(name))
    return found


def usage(pid: int) -> tuple[int, int]:
    """Bytes that a process and its descendants hold, their shared memory included, and how many there are.

    What forks share counts for each of them: a fork bomb is over the limit while it is still small.
    """
    total, pids = 0, [pid, *_descendants(pid)]
    for each in pids:
        try:
            lines = Path(f"/proc/{each}/status").read_text("ascii", "replace").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
    return total, len(pids)
