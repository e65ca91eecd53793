"""What the process takes away from itself before it reads a student's file."""

import ctypes
import os
import resource
from typing import Any

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
SIGKILL = 9


def apply(limits: dict[str, Any]) -> None:
    """Set resource limits, no new privileges, death with the parent, and another user where there is a right to.

    Args:
        limits: `memory` and `file` in bytes, `seconds` of CPU, `processes`, and `user`, a number or None.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    wanted = {
        resource.RLIMIT_DATA: limits["memory"],
        resource.RLIMIT_FSIZE: limits["file"],
        resource.RLIMIT_CPU: limits["seconds"],
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        _, most = resource.getrlimit(kind)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))
    if limits.get("user") is not None and os.getuid() == 0:
        os.setgroups([])
        os.setresgid(limits["user"], limits["user"], limits["user"])
        os.setresuid(limits["user"], limits["user"], limits["user"])
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)  # a change of user clears it
    if os.getuid() != 0:  # the kernel does not count root's
        resource.setrlimit(resource.RLIMIT_NPROC, (limits["processes"], limits["processes"]))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
