"""Settings of the whole process that decide a CPU's training speed; a program calls `prepare` before torch loads."""

import ctypes
import os
import sys

# glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4

SPINS = 3000  # measured with benchmarks/waiting.py


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
