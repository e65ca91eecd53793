"""Self-test of the sandbox: try forbidden actions, and print as JSON whether each kind of action was refused.

Usage: `python selftest.py LIMITS TARGETS`, both in JSON: the limits of `driver.apply_limits`, and the paths, port and
system calls from `sandbox.measure`. Files opened for writing are closed at once, and system calls get arguments
without effect.
"""

import contextlib
import ctypes
import errno
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.ENOSPC)
AF_VSOCK, CLONE_NEWUSER, KEYCTL_GET_KEYRING_ID, SESSION_KEYRING = 40, 0x10000000, 0, -3
ARGUMENTS: dict[str, tuple[int, ...]] = {
    "unshare": (CLONE_NEWUSER,),
    "socket": (AF_VSOCK, 1, 0),
    "keyctl": (KEYCTL_GET_KEYRING_ID, SESSION_KEYRING, 0),
    "ptrace": (12, 0, 0, 0),  # PTRACE_GETREGS of process 0, which does not exist
}
"""Arguments that distinguish a refused call from one that fails for another reason. Other system calls get zeros."""
MASKED_FILES = ("/proc/kcore", "/proc/keys", "/proc/timer_list")
MASKED_FOLDERS = ("/proc/acpi", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/scsi", "/proc/asound")


def refuses(action: Callable[[], Any], *, missing: bool = True) -> bool:
    """Call an action; return True for OSError, `missing` for FileNotFoundError, and False without an error."""
    try:
        action()
    except FileNotFoundError:
        return missing
    except OSError:
        return True
    return False


def kernel_is_protected() -> bool:
    """Return whether kernel settings cannot be opened for writing and masked files and folders of /proc are hidden."""
    settings = ["/proc/sysrq-trigger"]
    for folder, _, names in os.walk("/proc/sys"):
        settings += [os.path.join(folder, name) for name in names]
    if not all(refuses(lambda path=path: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))) for path in settings):
        return False
    for folder in MASKED_FOLDERS:
        with contextlib.suppress(OSError):
            if os.listdir(folder):
                return False
    return all(refuses(lambda path=path: Path(path).read_bytes()) for path in MASKED_FILES)


def calls_are_refused(calls: dict[str, int]) -> bool:
    """Return whether every system call in `calls` (numbers by name) is refused; an empty dict gives False."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name, number in calls.items():
        arguments = [ctypes.c_long(value) for value in (*ARGUMENTS.get(name, ()), 0, 0, 0, 0, 0)[:6]]
        ctypes.set_errno(0)
        if libc.syscall(ctypes.c_long(number), *arguments) != -1 or ctypes.get_errno() not in REFUSED:
            return False
    return bool(calls)


def privileges_are_gone() -> bool:
    """Return whether the process has no capabilities, `no_new_privs` is set, and a seccomp filter is active."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    capabilities = [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")]
    return not any(capabilities) and status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"


def main() -> None:
    """Print the result of each test as JSON, then wait for the end of standard input."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # of a process that imports nothing else
    from scenelab_runner.driver import apply_limits

    apply_limits(json.loads(sys.argv[1]))
    given = json.loads(sys.argv[2])
    hides, secrets = given["hides"], given["secrets"]
    refuses(lambda: open(given["canary"], "w").close())
    refused = {
        "network": refuses(lambda: socket.create_connection(("127.0.0.1", given["port"]), 1)),
        "files": True,  # the grader checks whether the canary file exists
        "secrets": all(refuses(lambda path=path: open(path).close(), missing=hides) for path in secrets),
        "signals": refuses(lambda: os.kill(given["parent"], 0)) or int(os.readlink("/proc/self")) < 10,
        "kernel": kernel_is_protected(),
        "privileges": privileges_are_gone(),
        "syscalls": calls_are_refused(given["calls"]),
    }
    print(json.dumps(refused), flush=True)
    sys.stdin.read()  # wait while the grader reads the user of this process


if __name__ == "__main__":
    main()
