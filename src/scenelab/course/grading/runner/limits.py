"""Limits that the process applies to itself before it reads a student's file."""

import ctypes
import os
import resource
from typing import Any

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38  # linux/prctl.h
SECCOMP_MODE_FILTER = 2
INSTRUCTION = 8  # bytes of a struct sock_filter
SIGKILL = 9


def apply(limits: dict[str, Any]) -> None:
    """Set resource limits, no new privileges, death with the parent, and, as root, another user.

    Args:
        limits: `memory` and `file` in bytes, `seconds` of CPU, `processes`; `user`, a number or None; `filter`, a file
            descriptor with a filter of system calls to load, or None if it is loaded already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    values = {
        resource.RLIMIT_DATA: limits["memory"],
        resource.RLIMIT_FSIZE: limits["file"],
        resource.RLIMIT_CPU: limits["seconds"],
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in values.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    user = limits.get("user")
    if user is not None and os.getuid() == 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)  # a change of user clears it
    if os.getuid() != 0:  # the kernel does not count root's
        resource.setrlimit(resource.RLIMIT_NPROC, (limits["processes"], limits["processes"]))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if limits.get("filter") is not None:
        _load_filter(libc, limits["filter"])


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _load_filter(libc: ctypes.CDLL, handle: int) -> None:
    with os.fdopen(handle, "rb") as file:
        code = file.read()
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // INSTRUCTION, ctypes.addressof(buffer))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the filter of system calls was refused")
