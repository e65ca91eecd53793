"""The file-system calls of a command, as strace sees them, and how one of them is made to fail or to be the last."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHANGES = (
    "openat,open,creat,write,writev,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,"
    "rmdir,chmod,fchmod,fchmodat,truncate,ftruncate,link,linkat,symlink,symlinkat,flock,sync,copy_file_range,sendfile"
)
READS = "openat,read,pread64,newfstatat,getdents64"
HANDLE = re.compile(r"^(?P<number>\d+)<(?P<path>[^>]*)>")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        ordinal: the how manieth of its name in its thread; strace counts so.
        paths: of handles and of arguments.
        injected: whether strace made it fail.
    """

    name: str
    ordinal: int
    paths: tuple[str, ...]
    failed: bool
    injected: bool

    def touches(self, folder: Path) -> bool:
        return any(Path(path).is_relative_to(folder) for path in self.paths)


def watch(calls: str = CHANGES) -> tuple[str, ...]:
    """Options: note these calls, with the paths behind handles."""
    return ("-y", "-s", "300", "-e", f"trace={calls}", "-e", "signal=none")


def kill_at(call: "Call") -> tuple[str, ...]:
    """Options: SIGKILL as this call begins; it is not made any more."""
    return (*watch(), "-e", f"inject={call.name}:signal=KILL:when={call.ordinal}")


def fail_at(call: "Call", error: str, calls: str = CHANGES) -> tuple[str, ...]:
    """Options: this call returns an error and does nothing."""
    return (*watch(calls), "-e", f"inject={call.name}:error={error}:when={call.ordinal}")


def read_trace(trace: str) -> list[Call]:
    """The calls in the order in which they began."""
    counts: Counter[tuple[str, str]] = Counter()
    return [_read(line, counts) for line in _whole(trace)]


def _whole(trace: str) -> Iterator[str]:
    """Lines, with those that another thread interrupted put together again at the place where they began."""
    lines: list[str] = []
    begun: dict[tuple[str, str], int] = {}
    for line in trace.splitlines():
        if again := RESUMED.match(line):
            place = begun.pop((again[1], again[2]), None)
            if place is not None:
                lines[place] += again[3].lstrip()
        elif "<unfinished ...>" in line:
            pid, rest = line.split(maxsplit=1)
            begun[pid, rest.partition("(")[0]] = len(lines)
            lines.append(line.partition("<unfinished ...>")[0])
        elif "(" in line and not line.split(maxsplit=1)[1].startswith(("+++", "---")):
            lines.append(line)
    yield from lines


def _read(line: str, counts: "Counter[tuple[str, str]]") -> Call:
    thread, rest = line.split(maxsplit=1)
    name, _, arguments = rest.partition("(")
    counts[thread, name] += 1
    handle = HANDLE.match(arguments)
    # a path as an argument stands in quotation marks; bytes that are written do so too
    quoted = [] if "write" in name or "read" in name else QUOTED.findall(arguments)
    paths = (*([] if handle is None else [handle["path"]]), *quoted)
    failed = bool(re.search(r"\) += -1 ", line))
    return Call(name, counts[thread, name], paths, failed, "(INJECTED)" in line)


def faults_of_order(calls: list[Call], folder: Path) -> list[str]:
    """Where a power cut could leave a name on half a file: a rename of what had not been brought to disk, or one whose
    folder was not brought there afterwards."""
    dirty: set[str] = set()
    renamed: list[str] = []  # folders that hold a new name
    faults = []
    for call in calls:
        if call.failed or not (call.touches(folder) or call.name == "sync"):
            continue
        path = call.paths[0] if call.paths else ""
        if call.name in ("write", "pwrite64", "writev", "ftruncate", "sendfile", "copy_file_range"):
            dirty.add(call.paths[0])
        elif call.name == "sync":
            dirty.clear()
        elif call.name in ("fsync", "fdatasync"):
            dirty.discard(path)
            renamed = [each for each in renamed if each != path]
        elif call.name.startswith("rename"):
            source, target = call.paths[-2:]
            early = [each for each in dirty if Path(each).is_relative_to(source)]
            faults += [f"{each} has its name before it is on disk" for each in early]
            renamed.append(str(Path(target).parent))
    return faults + [f"the new name in {each} is not on disk" for each in renamed]
