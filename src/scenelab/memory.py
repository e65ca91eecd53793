"""How much memory this process holds, now and at its highest.

`ru_maxrss` will not do: on Linux a process takes over, when it is started, the peak of the process that started it, so
a small child of a large parent reports the parent's. `VmHWM` belongs to the address space and starts anew.
"""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_memory() -> int:
    """Largest resident size so far in bytes; where there is no /proc, what `getrusage` says."""
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
