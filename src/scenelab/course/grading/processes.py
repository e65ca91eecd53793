"""Termination and resource usage of the processes that a submission has started."""

import contextlib
import os
import signal
import subprocess

from scenelab.runtime import NEUTRAL


def stop(process: "subprocess.Popen[bytes]", token: str = "", user: int | None = None) -> None:
    """Kill a process and everything that it started, wait for its end, and close its pipes.

    Also kill its process group, processes with SCENELAB_TOKEN=`token` in the environment, and those of user ID `user`.
    """
    _kill(process.pid, *descendants(process.pid), *_with_token(token))
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _kill(*_with_token(token))
    if user is not None:
        command = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", "kill", "-KILL", "--", "-1"]
        with contextlib.suppress(OSError):
            subprocess.run(command, capture_output=True, check=False, cwd=NEUTRAL)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _read(path: str) -> bytes:
    """Return the content of a file in /proc, or b"" if the process has ended."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""


def descendants(pid: int) -> list[int]:
    """Return the process IDs of the children of a process, their children, and so on."""
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


def _status(pids: list[int], *names: bytes) -> list[list[bytes]]:
    """Return the lines that begin with one of `names` in /proc/PID/status of all `pids`, each split into words."""
    lines = [line for pid in pids for line in _read(f"/proc/{pid}/status").splitlines()]
    return [line.split() for line in lines if line.startswith(names)]


def usage(pid: int) -> tuple[int, int]:
    """Return the memory in bytes and the number of processes, both summed over `pid` and its descendants."""
    pids = [pid, *descendants(pid)]
    return sum(int(words[1]) << 10 for words in _status(pids, b"RssAnon:", b"RssShmem:")), len(pids)


def waiting_seconds(pid: int) -> float:
    """Return the longest time that the main thread of a process or of a descendant has waited for a processor."""
    times = [_read(f"/proc/{each}/schedstat").split() for each in (pid, *descendants(pid))]
    return max((int(words[1]) / 1e9 for words in times if len(words) > 1), default=0.0)


def untouched() -> int:
    """Return the bytes of private memory that this process has mapped but not used; PyTorch with CUDA maps 0.5 GB."""
    sizes = {words[0]: int(words[1]) << 10 for words in _status([os.getpid()], b"VmData:", b"RssAnon:")}
    return max(0, sizes.get(b"VmData:", 0) - sizes.get(b"RssAnon:", 0))


def real_users(pid: int) -> set[int]:
    """Return the user IDs of a process and its descendants, as seen from the grader's user namespace."""
    return {int(number) for words in _status([pid, *descendants(pid)], b"Uid:") for number in words[1:]}
