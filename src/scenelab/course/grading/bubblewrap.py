"""Command line of bubblewrap: namespaces, a read-only system, a masked /proc, no capabilities, a seccomp filter.

/proc is masked and read-only as in container runtimes (OCI runtime specification, `linux.maskedPaths` and
`linux.readonlyPaths`; Docker's defaults). If the grader is root, bubblewrap is started as another user: in a user
namespace created by root, user 65534 would be the host's root and could write kernel settings.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch

import scenelab
from scenelab.runtime import NEUTRAL, python_command

LAUNCH = Path(__file__).parent / "launch.py"
TMP_BYTES = 96 << 20  # size of the private /tmp, which holds a copy of the submission
FIXED = """
    --unshare-all --unshare-user --die-with-parent --new-session --cap-drop ALL --uid 65534 --gid 65534
    --hostname grader --ro-bind-try /etc/ld.so.cache /etc/ld.so.cache --ro-bind-try
    /sys/devices/system/cpu /sys/devices/system/cpu
""".split()  # torch picks its kernels by /sys/devices/system/cpu
MASKED = """
    kcore keys key-users timer_list timer_stats sched_debug latency_stats kmsg kallsyms kpagecount kpageflags
    kpagecgroup slabinfo vmallocinfo config.gz mtrr
""".split()  # files of /proc that /dev/null covers
EMPTIED = "acpi asound bus fs irq scsi driver".split()  # folders of /proc that an empty tmpfs covers


def command_line(arguments: list[str], stage: Path, *, user: int | None, seccomp: int | None) -> list[str]:
    """Return the command that runs `arguments`, a program and its arguments, in bubblewrap.

    The program can read the folder `stage`. If `user` is a user ID, which needs root, bubblewrap runs as this user.
    `seccomp` is the file descriptor of a BPF filter.
    """
    binds = [*python_folders(), (str(stage), str(stage))]
    if user is None:
        return [*_flags(binds, seccomp), "--", *arguments]
    closed = [source for source, _ in binds if not open_to_others(Path(source))]
    place = str(_mount_folder()) if closed else ""
    visible = {source: f"{place}/{number}" for number, source in enumerate(closed)}
    for path in visible.values():  # launch.py mounts the sources here, in a private mount namespace
        Path(path).mkdir(exist_ok=True)
    binds = [(visible.get(source, source), path) for source, path in binds]
    launch = python_command(["-I", str(LAUNCH), str(user), place, str(len(closed)), *closed])
    return [*launch, *_flags(binds, seccomp), "--", *arguments]


def _flags(binds: list[tuple[str, str]], seccomp: int | None) -> list[str]:
    can_limit, can_refuse = _abilities()
    flags = [shutil.which("bwrap") or "bwrap", *FIXED, *(["--disable-userns"] if can_refuse else [])]
    size = ["--size", str(TMP_BYTES)] if can_limit else []
    flags += system_folders()
    flags += ["--dev", "/dev", *size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev", *_proc()]
    flags += [*size, "--tmpfs", "/tmp"]
    for source, path in binds[:-1]:
        flags += ["--ro-bind", source, path]
    package = Path(scenelab.__file__).resolve().parent
    if any(package.is_relative_to(folder) for folder, _ in (*python_folders(), ("/usr", "/usr"))):
        flags += _empty(str(package))
    flags += ["--ro-bind", *binds[-1]]
    flags += [] if seccomp is None else ["--seccomp", str(seccomp)]
    return [*flags, "--remount-ro", "/", "--chdir", "/tmp"]


def system_folders() -> list[str]:
    """Return bubblewrap flags that show /usr, and the folders of programs and libraries, read-only."""
    flags = ["--ro-bind", "/usr", "/usr"]
    for path in map(Path, ("/bin", "/sbin", "/lib", "/lib32", "/lib64")):
        if path.is_symlink():
            flags += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            flags += ["--ro-bind", str(path), str(path)]
    return flags


def _empty(folder: str) -> list[str]:
    return ["--tmpfs", folder, "--remount-ro", folder]


def _proc() -> list[str]:
    """Return bubblewrap flags that mount /proc read-only and hide its files and folders that describe the machine."""
    flags = ["--proc", "/proc"]
    for path in (Path("/proc", name) for name in MASKED):
        flags += ["--ro-bind", "/dev/null", str(path)] if path.exists() else []
    for path in (Path("/proc", name) for name in EMPTIED):
        flags += _empty(str(path)) if path.is_dir() else []
    return [*flags, "--remount-ro", "/proc"]


@cache
def _abilities() -> tuple[bool, bool]:
    """Return whether bubblewrap can limit the size of a tmpfs, and whether it can disable nested user namespaces."""
    options: Any = {"capture_output": True, "check": False, "cwd": NEUTRAL}
    done = subprocess.run(["bwrap", "--help"], **options)
    text = done.stdout + done.stderr
    nested = ["bwrap", "--ro-bind", "/", "/", "--unshare-all", "--unshare-user", "--disable-userns", "true"]
    return b"--size" in text, b"--disable-userns" in text and subprocess.run(nested, **options).returncode == 0


@cache
def python_folders() -> tuple[tuple[str, str], ...]:
    """Return the folders outside /usr that contain Python and its packages, as (path without symlinks, path) pairs."""
    folders = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent}
    folders |= {Path(torch.__file__).parents[1], Path(numpy.__file__).parents[1]}
    folders |= {path.resolve() for path in folders}
    outside = {path for path in folders if not path.is_relative_to("/usr")}
    top = {path for path in outside if not any(path != other and path.is_relative_to(other) for other in outside)}
    return tuple(sorted((str(path.resolve()), str(path)) for path in top))


def open_to_others(path: Path) -> bool:
    """Return whether other users may enter all folders of a path."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.is_dir())


@cache
def _mount_folder() -> Path:
    place = Path(tempfile.mkdtemp(prefix="scenelab-sandbox-", dir="/tmp"))  # TMPDIR may be closed to other users
    place.chmod(0o755)
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place
