"""Settings of the process for fast CPU training, memory measurements, and functions that start Python processes.

Programs call `prepare` before they import torch.
"""

import atexit
import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4

STATUS = Path("/proc/self/status")

SPINS = 3000  # measured with python -m benchmarks waiting


def prepare() -> None:
    """Make training and exit faster: OpenMP threads sleep when they wait, glibc and Python's exit do not free memory.

    Only programs (the command line, `code/main.py`) should call this, because it affects the entire process. Values
    that the user has set in the environment are kept (docs/performance.md).
    """
    sleep_while_waiting()
    keep_freed_memory()
    atexit.register(keep_garbage)


def sleep_while_waiting() -> None:
    """Make OpenMP threads spin for about ten microseconds at a barrier and then sleep.

    By default they spin for milliseconds and occupy cores that other threads need. Without spinning, each small
    operation costs a wake-up. libgomp reads `GOMP_SPINCOUNT` once, when torch loads it, so later calls have no effect.
    """
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def keep_freed_memory() -> None:
    """Make glibc allocate large blocks on the heap and never return freed memory to the kernel.

    By default glibc maps large blocks anew at every training step and the kernel clears their pages. Without glibc
    this function does nothing.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def keep_garbage() -> None:
    """Keep Python from looking for garbage among PyTorch's objects when it exits, which takes up to a second.

    Extension modules made with nanobind (triton, onnx) would print what is left; where one is loaded nothing is done.
    """
    if not any(kind.__name__ == "nb_func" for kind in object.__subclasses__()):
        gc.freeze()


def python_command(arguments: Sequence[str]) -> list[str]:
    """Return a command that runs this Python interpreter without importing modules from the working directory.

    A file `hashlib.py` in an untrusted working directory must not replace Python's module. Start every Python process
    with this command and in the working directory `NEUTRAL`, the root folder.
    """
    return [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), *arguments]


NEUTRAL = "/"
"""Working directory for all started processes; it has no untrusted files."""


def run_module(module: str, arguments: Sequence[str], *, seconds: float) -> "subprocess.CompletedProcess[bytes]":
    """Run `python -m MODULE` in a new process with empty standard input; return exit status and output bytes.

    Paths in `arguments` must be absolute, because the working directory is the root folder.

    Raises:
        subprocess.TimeoutExpired: the process takes longer than `seconds`.
    """
    return subprocess.run(
        python_command(["-m", module, *arguments]),
        capture_output=True,
        timeout=seconds,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=NEUTRAL,
        env=_environment(),
    )


def start_module(module: str, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start `python -m MODULE` as `run_module` does, with pipes for input and output; its errors are discarded."""
    return subprocess.Popen(
        python_command(["-m", module, *arguments]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=NEUTRAL,
        env=_environment(),
    )


def _environment() -> dict[str, str]:
    """Return the environment variables with absolute paths in PYTHONPATH."""
    environment = dict(os.environ)
    if "PYTHONPATH" in environment:
        paths = [os.path.abspath(path) for path in environment["PYTHONPATH"].split(os.pathsep) if path]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def peak_memory() -> int:
    """Return the peak resident set size of this process in bytes.

    Linux reports it as `VmHWM`; `ru_maxrss` would include the parent's peak at the start of the process.
    """
    with suppress(OSError):
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):  # "VmHWM:\t   11224 kB"
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return _memory_info().peak_wset
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB, on macOS in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def mapped_memory() -> int:
    """Return the resident pages of mapped files, such as cached images, in bytes; 0 where the system does not tell."""
    return getattr(_memory_info(), "shared", 0)


def resident_memory() -> int:
    """Return the current resident set size of this process in bytes."""
    return _memory_info().rss


def _memory_info() -> Any:
    import psutil  # slow to import

    return psutil.Process().memory_info()


def container_memory() -> int | None:
    """Return the memory limit of the container in bytes, by its control group (version 2 or 1); None without one."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max"
            return int(Path("/sys/fs/cgroup", name).read_text("ascii"))
    return None


def free_memory() -> int:
    """Return the memory in bytes that programs can still get, within the limit of the container."""
    import psutil  # slow to import

    free, limit = psutil.virtual_memory().available, container_memory()
    return free if limit is None else min(free, max(0, limit - resident_memory()))


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
