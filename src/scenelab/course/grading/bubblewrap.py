"""The command line of bubblewrap: namespaces, a read-only system, a masked /proc, no capabilities, a filter of calls.

/proc is masked and made read-only as container runtimes do (OCI runtime specification, `linux.maskedPaths` and
`linux.readonlyPaths`; Docker's defaults). Started by root, bubblewrap runs as another user from its first instruction:
inside a user namespace that root made, user 65534 would be the host's root to the kernel's settings.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy
import torch

import scenelab
from scenelab.runtime import NEUTRAL, python_command

LAUNCH = Path(__file__).parent / "launch.py"
NOBODY = 65534
TMP_BYTES = 96 << 20  # of the private /tmp, which holds a copy of the submission
MASKED = ("kcore", "keys", "key-users", "timer_list", "timer_stats", "sched_debug", "latency_stats", "kmsg", "kallsyms",
          "kpagecount", "kpageflags", "kpagecgroup", "slabinfo", "vmallocinfo", "config.gz", "mtrr")  # fmt: skip
"""Files of /proc that are covered."""
EMPTIED = ("acpi", "asound", "bus", "fs", "irq", "scsi", "driver")
"""Folders of /proc that are covered; sys and sysrq-trigger are read-only like all of /proc."""


def command_line(arguments: list[str], stage: Path, *, user: int | None, seccomp: int | None) -> list[str]:
    """The command that runs a program in bubblewrap.

    Args:
        arguments: the program and its arguments.
        stage: a folder that it sees, at its own path and read-only.
        user: a number to run as, for root; None keeps the caller's.
        seccomp: a file descriptor that holds a filter, or None.
    """
    places = [*python_folders(), (str(stage), str(stage))]
    if user is None:
        return [*_flags(places, seccomp), "--", *arguments]
    closed = [source for source, _ in places if not open_to_others(Path(source))]
    place = _place(len(closed)) if closed else ""
    seen = {source: f"{place}/{number}" for number, source in enumerate(closed)}
    binds = [(seen.get(source, source), path) for source, path in places]
    launch = python_command(["-I", str(LAUNCH), str(user), place, str(len(closed)), *closed])
    return [*launch, *_flags(binds, seccomp), "--", *arguments]


def _flags(binds: list[tuple[str, str]], seccomp: int | None) -> list[str]:
    flags = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--unshare-user"]
    flags += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
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
    flags += ["--dev", "/dev", *size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev", *_proc()]
    flags += [*size, "--tmpfs", "/tmp"]
    for source, path in binds[:-1]:
        flags += ["--ro-bind", source, path]
    ours = Path(scenelab.__file__).resolve().parent
    if any(ours.is_relative_to(real) for real, _ in (*python_folders(), ("/usr", "/usr"))):
        flags += ["--tmpfs", str(ours), "--remount-ro", str(ours)]
    flags += ["--ro-bind", *binds[-1]]
    flags += [] if seccomp is None else ["--seccomp", str(seccomp)]
    return [*flags, "--remount-ro", "/", "--chdir", "/tmp"]


def _proc() -> list[str]:
    """A /proc of its own, read-only, with what it tells of the machine covered; what is not there needs no cover."""
    flags = ["--proc", "/proc"]
    for name in MASKED:
        if Path("/proc", name).exists():
            flags += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    for name in EMPTIED:
        if Path("/proc", name).is_dir():
            flags += ["--tmpfs", f"/proc/{name}", "--remount-ro", f"/proc/{name}"]
    return [*flags, "--remount-ro", "/proc"]


@cache
def _nested_can_be_refused() -> bool:
    """Whether bubblewrap can keep what runs in it from making user namespaces; some containers do not let it."""
    command = ["bwrap", "--ro-bind", "/", "/", "--unshare-all", "--unshare-user", "--disable-userns", "true"]
    if not _has_flag("--disable-userns"):
        return False
    return subprocess.run(command, capture_output=True, check=False, cwd=NEUTRAL).returncode == 0


@cache
def _has_flag(flag: str) -> bool:
    done = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False, cwd=NEUTRAL)
    return flag in done.stdout + done.stderr


@cache
def python_folders() -> tuple[tuple[str, str], ...]:
    """Folders of Python and its packages outside /usr: where they are, and where they are looked for."""
    folders = {
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(torch.__file__).parents[1],
        Path(numpy.__file__).parents[1],
    }
    folders |= {Path(sys.executable).resolve().parent.parent}
    folders |= {path.resolve() for path in folders}
    outside = {path for path in folders if not path.is_relative_to("/usr")}
    top = {path for path in outside if not any(path != other and path.is_relative_to(other) for other in outside)}
    return tuple(sorted((str(path.resolve()), str(path)) for path in top))


def open_to_others(path: Path) -> bool:
    """Whether another user could reach a path: no folder on the way to it is closed."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.is_dir())


def python_is_open_to_others() -> bool:
    """Whether another user could start this Python and load torch."""
    return all(open_to_others(Path(real)) for real, _ in python_folders())


@cache
def _mount_points() -> Path:
    place = Path(tempfile.mkdtemp(prefix="scenelab-sandbox-", dir="/tmp"))  # open to others, which TMPDIR may not be
    place.chmod(0o755)
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def _place(count: int) -> str:
    """A folder with so many empty ones in it, on which sources are mounted out of this process's sight."""
    place = _mount_points()
    for number in range(count):
        (place / str(number)).mkdir(exist_ok=True)
    return str(place)
