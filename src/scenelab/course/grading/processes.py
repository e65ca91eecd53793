"""Ending and measuring what a student's code has started."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from scenelab.runtime import NEUTRAL


def stop(process: "subprocess.Popen[bytes]", token: str = "", user: int | None = None) -> None:
    """Kill a process with all that it started and close its pipes.

    Args:
        process: to kill.
        token: finds those that left its session, by their environment.
        user: of its own, whose processes are all killed.
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


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and that they started."""
    children, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            try:
                listed = Path(f"/proc/{parent}/task/{task}/children").read_text("ascii").split()
            except OSError:
                continue
            children += map(int, listed)
            waiting += map(int, listed)
    return children


def _with_token(token: str) -> list[int]:
    """Processes that were started with the token in their environment, wherever they have gone since."""
    if not token:
        return []
    pids = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue
        if f"SCENELAB_TOKEN={token}".encode() in environment.split(b"\0"):
            pids.append(int(name))
    return pids


def usage(pid: int) -> tuple[int, int]:
    """Bytes that a process and its descendants hold, their shared memory included, and how many there are.

    What forks share counts for each of them: a fork bomb is over the limit while it is still small.
    """
    total, pids = 0, [pid, *descendants(pid)]
    for each in pids:
        try:
            lines = Path(f"/proc/{each}/status").read_text("ascii", "replace").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
    return total, len(pids)


def real_users(pid: int) -> set[int]:
    """Users, by their numbers outside all namespaces, of a process and its descendants."""
    users = set()
    for each in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{each}/status").read_text("ascii", "replace").splitlines()
            users |= {int(number) for line in lines if line.startswith("Uid:") for number in line.split()[1:]}
    return users
