"""End and measure the processes that a submission has started."""

import contextlib
import os
import signal
import subprocess

from scenelab.runtime import NEUTRAL


def stop(process: "subprocess.Popen[bytes]", token: str = "", user: int | None = None) -> None:
    """Kill a process and everything that it started, and close its pipes.

    Args:
        process: to kill.
        token: in the environment of its descendants; finds those that left its session.
        user: a user of its own, whose processes are all killed.
    """
    for pid in {process.pid, *descendants(process.pid), *_with_token(token)}:
        _kill(pid)
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pid in _with_token(token):
        _kill(pid)
    if user is not None:
        command = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", "kill", "-KILL", "--", "-1"]
        with contextlib.suppress(OSError):
            subprocess.run(command, capture_output=True, check=False, cwd=NEUTRAL)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _read(path: str) -> bytes:
    """Return a file's bytes, or none if its process has ended."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on."""
    pids, pending = [], [pid]
    while pending:
        parent = pending.pop()
        with contextlib.suppress(OSError):
            tasks = os.listdir(f"/proc/{parent}/task")
            children = [int(each) for t in tasks for each in _read(f"/proc/{parent}/task/{t}/children").split()]
            pids += children
            pending += children
    return pids


def _with_token(token: str) -> list[int]:
    if not token:
        return []
    variable, names = f"SCENELAB_TOKEN={token}".encode(), filter(str.isdigit, os.listdir("/proc"))
    return [int(name) for name in names if variable in _read(f"/proc/{name}/environ").split(b"\0")]


def usage(pid: int) -> tuple[int, int]:
    """Return the bytes that a process and its descendants hold, shared memory included, and their number.

    What forks share counts for each of them: a fork bomb is over the limit while it is still small.
    """
    pids = [pid, *descendants(pid)]
    lines = [line for each in pids for line in _read(f"/proc/{each}/status").splitlines()]
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith((b"RssAnon:", b"RssShmem:"))), len(pids)


def real_users(pid: int) -> set[int]:
    """Return the users, numbered as outside all namespaces, of a process and its descendants."""
    lines = [line for each in (pid, *descendants(pid)) for line in _read(f"/proc/{each}/status").splitlines()]
    return {int(number) for line in lines if line.startswith(b"Uid:") for number in line.split()[1:]}
