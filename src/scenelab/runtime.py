"""Settings of the whole process that decide a CPU's training speed, and how other processes of Python are started.

A program calls `prepare` before torch loads.
"""

import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4

STATUS = Path("/proc/self/status")

SPINS = 3000  # measured with python -m benchmarks waiting


def prepare() -> None:
    """Make waiting threads sleep and keep freed memory; docs/performance.md has the measurements.

    A library never calls this: it changes the process that it runs in. The command line and `code/main.py` do.
    Values that the user has set in the environment are left alone.
    """
    sleep_while_waiting()
    keep_freed_memory()


def sleep_while_waiting() -> None:
    """Let OpenMP threads spin for some ten microseconds at a barrier and then sleep.

    By default they spin for milliseconds: a thread that waits keeps the core that its own partner needs as soon as
    another program runs. Not to spin at all costs a wake-up for every small operation. libgomp reads `GOMP_SPINCOUNT`
    once, when torch loads it, so afterwards this has no effect.
    """
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def keep_freed_memory() -> None:
    """Take large blocks from the heap and never give them back to the kernel while the process lives.

    By default glibc maps each large block anew, and the kernel clears its pages again at every training step.
    Does nothing where the C library is not glibc.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def python_command(arguments: Sequence[str]) -> list[str]:
    """The command that starts this Python; modules in the working directory are not imported.

    A folder that one stands in may be a stranger's: a `hashlib.py` in it must not run in the place of Python's own.
    Every process of Python that we start is started with this and with `NEUTRAL` as its working directory.
    """
    return [sys.executable, "-P", *arguments]


NEUTRAL = "/"
"""The working directory of every process that we start: nothing lies in it that a stranger wrote."""


def run_module(module: str, arguments: Sequence[str], *, seconds: float) -> "subprocess.CompletedProcess[bytes]":
    """Run a module of ours in a process of its own, without input; its arguments name absolute paths.

    Raises:
        subprocess.TimeoutExpired: it takes longer.
    """
    inherited = dict(os.environ)
    if "PYTHONPATH" in inherited:
        paths = [os.path.abspath(path) for path in inherited["PYTHONPATH"].split(os.pathsep) if path]
        inherited["PYTHONPATH"] = os.pathsep.join(paths)
    return subprocess.run(
        python_command(["-m", module, *arguments]), capture_output=True, timeout=seconds, check=False,
        stdin=subprocess.DEVNULL, cwd=NEUTRAL, env=inherited,
    )  # fmt: skip


def peak_memory() -> int:
    """Return the largest resident size so far in bytes; without /proc, the value of `getrusage`.

    On Linux `ru_maxrss` of a new process starts at its parent's peak; `VmHWM` belongs to the address space.
    """
    value = _status("VmHWM")
    # getrusage counts KiB, on macOS bytes
    unit = 1 if sys.platform == "darwin" else 1024
    return value if value is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_memory() -> int:
    """Resident size now in bytes; where there is no /proc, the largest so far."""
    value = _status("VmRSS")
    return value if value is not None else peak_memory()


def _status(field: str) -> int | None:
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    # "VmHWM:\t   11224 kB"
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)
