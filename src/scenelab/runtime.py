"""Process-wide settings for CPU training speed, memory readings, and the start of other Python processes.

A program calls `prepare` before torch loads.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

# glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4

STATUS = Path("/proc/self/status")

SPINS = 3000  # measured with python -m benchmarks waiting


def prepare() -> None:
    """Let waiting threads sleep and keep freed memory; docs/performance.md has the measurements.

    Only programs (the command line, `code/main.py`) call this, because it changes the whole process. It keeps values
    that the user has set in the environment.
    """
    sleep_while_waiting()
    keep_freed_memory()


def sleep_while_waiting() -> None:
    """Let OpenMP threads spin for some ten microseconds at a barrier and then sleep.

    By default they spin for milliseconds, and a waiting thread keeps the core that its partner needs when another
    program runs. Without any spinning, each small operation costs a wake-up. libgomp reads `GOMP_SPINCOUNT` once, when
    torch loads it; later calls have no effect.
    """
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def keep_freed_memory() -> None:
    """Take large blocks from the heap and never return them to the kernel while the process lives.

    By default glibc maps each large block again, and the kernel clears its pages at every training step. Without glibc
    this does nothing.
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
    """Return the command that starts this Python without importing modules from the working directory.

    The working directory may be untrusted: a `hashlib.py` in it must not replace Python's own. Start every Python
    process with this command and with `NEUTRAL` as its working directory.
    """
    return [sys.executable, "-P", *arguments]


NEUTRAL = "/"
"""The working directory of every process that we start; it holds no untrusted files."""


def run_module(module: str, arguments: Sequence[str], *, seconds: float) -> "subprocess.CompletedProcess[bytes]":
    """Run one of our modules in its own process, without input; paths in its arguments must be absolute.

    Raises:
        subprocess.TimeoutExpired: it takes longer than `seconds`.
    """
    environment = dict(os.environ)
    if "PYTHONPATH" in environment:
        paths = [os.path.abspath(path) for path in environment["PYTHONPATH"].split(os.pathsep) if path]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return subprocess.run(
        python_command(["-m", module, *arguments]),
        capture_output=True,
        timeout=seconds,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=NEUTRAL,
        env=environment,
    )


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes.

    On Linux `ru_maxrss` of a new process starts at its parent's peak; `VmHWM` belongs to the address space.
    """
    with suppress(OSError):
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):  # "VmHWM:\t   11224 kB"
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts KiB, on macOS bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_memory() -> int:
    """Return the resident size of this process in bytes."""
    return psutil.Process().memory_info().rss
