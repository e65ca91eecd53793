"""A run of Gradescope's autograder in an emulated container: its folders, limits, and no network.

Source: Gradescope's documentation, pages "Autograder Specifications" and "Troubleshooting". The folder /autograder is
the only writable one, and the default container has half a processor, 768 MB of memory and ten minutes.
"""

import os
import shutil
import signal
import subprocess
import time
import venv
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from scenelab.course.grading.bubblewrap import python_folders, system_folders
from scenelab.course.grading.outputs.gradescope import Results, read_results
from scenelab.course.grading.processes import descendants, stop, usage
from scenelab.errors import LabError
from scenelab.io import write_json
from scenelab.runtime import NEUTRAL

MEMORY, CPUS, SECONDS = 768 << 20, 0.5, 600
CUDA = 2 * (130 << 20)  # bytes that PyTorch 2.14 with CUDA takes more than without, in the grader and the submission
TICK = 0.05
CAPABILITIES = """
    CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SETFCAP
    CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT CAP_AUDIT_WRITE
""".split()  # Docker's defaults
LIMIT = "memory.max"  # file of a control group
INSTALLERS = ("apt-get", "apt", "python3", "pip", "pip3")  # replaced: the present environment is used instead
METADATA = {
    "id": 1,
    "created_at": "2026-01-01T12:00:00.000000-08:00",
    "assignment": {"due_date": "2026-01-02T12:00:00.000000-08:00", "late_due_date": None, "total_points": "15.0"},
    "users": [{"email": "student@example.com", "id": 1, "name": "Student"}],
    "previous_submissions": [],
}


@dataclass(frozen=True)
class DryRun:
    """Outcome of a run: the results, elapsed and CPU seconds, and peak memory in bytes, with their limits."""

    results: Results
    seconds: float
    cpu_seconds: float
    memory: int
    max_memory: int
    max_seconds: int = SECONDS

    @property
    def note(self) -> str:
        """Why the memory limit is not that of Gradescope, "" if it is."""
        more = (self.max_memory - MEMORY) >> 20
        return f"Its PyTorch has CUDA, which the image's has not: {more} MiB were added to the limit." if more else ""


def run_gradescope(archive: Path, submission: Path, folder: Path, metadata: Path | None = None) -> DryRun:
    """Run the autograder `archive` on a submission as Gradescope does: setup.sh, then run_autograder.

    setup.sh finds commands that install nothing: the packages of the present environment are used instead.

    Args:
        archive: zip file of `make_gradescope`.
        submission: folder or archive of one submission.
        folder: new folder, /autograder in the container.
        metadata: content of submission_metadata.json; by default that of a single submission on time.

    Raises:
        LabError: a step fails, exceeds a limit of the container, or results.json is missing or invalid.
    """
    if not shutil.which("bwrap"):
        raise LabError("--dry-run needs Linux with bubblewrap (apt-get install bubblewrap)")
    limit = MEMORY + (CUDA if torch.version.cuda else 0)
    _receive(archive, submission, folder, metadata)
    _install(folder, limit)
    _Container(folder, limit).run(["bash", "/autograder/source/setup.sh"])
    shutil.copy(folder / "source" / "run_autograder", folder / "run_autograder")
    (folder / "run_autograder").chmod(0o755)
    container = _Container(folder, limit)
    container.run(["/autograder/run_autograder"])
    results = read_results(folder / "results" / "results.json")
    return DryRun(results, container.seconds, container.cpu_seconds, container.memory, limit)


def _receive(archive: Path, submission: Path, folder: Path, metadata: Path | None) -> None:
    """Fill /autograder as Gradescope does."""
    folder.mkdir(parents=True)
    (folder / "results").mkdir()
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder / "source")
            for info in file.infolist():
                (folder / "source" / info.filename).chmod(info.external_attr >> 16 or 0o755)
        if submission.is_dir():
            shutil.copytree(submission, folder / "submission")
        else:  # the grader extracts it, where Gradescope has not
            (folder / "submission").mkdir()
            shutil.copy(submission, folder / "submission")
        if metadata is not None:
            shutil.copy(metadata, folder / "submission_metadata.json")
    except (OSError, zipfile.BadZipFile) as error:
        raise LabError(f"--dry-run cannot use {archive}, {submission} and {metadata}: {error}") from error
    if metadata is None:
        write_json(folder / "submission_metadata.json", METADATA)


def _install(folder: Path, limit: int) -> None:
    """Add the present environment, commands in place of installers, and the memory limit as the container shows it."""
    venv.create(folder / "venv", symlinks=True)
    stub = '#!/bin/sh\necho "dry run, not run: $(basename "$0") $*"\n'
    paths = [folder / "stubs" / name for name in INSTALLERS] + [
        folder / "venv" / "bin" / name for name in ("pip", "uv")
    ]
    scripts = dict.fromkeys(paths, stub)
    python = "PYTHONPATH=/autograder/source/scenelab/src exec /autograder/venv/bin/python"
    entry = f"#!/bin/sh\n{python} -c 'from scenelab.cli import entry_point; entry_point()' \"$@\"\n"
    scripts[folder / "venv" / "bin" / "scenelab"] = entry
    for path, text in scripts.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        path.chmod(0o755)
    (folder / "stubs" / LIMIT).write_text(f"{limit}\n", "ascii")


class _Container:
    """One start of the container; afterwards it has the elapsed and the CPU seconds, and the peak memory in bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.seconds = self.cpu_seconds = 0.0
        self.memory = 0

    def run(self, command: list[str]) -> None:
        """Run a command of /autograder within the limits; its output is added to results/stdout."""
        begun, name = time.monotonic(), Path(command[-1]).name
        with (self.folder / "results" / "stdout").open("ab") as output:
            process = subprocess.Popen(
                [*self._bubblewrap(), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=NEUTRAL,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    self.seconds = time.monotonic() - begun
                    self._watch(process.pid, name)
                    time.sleep(TICK)
            finally:
                stop(process)
        if process.returncode != 0:
            tail = (self.folder / "results" / "stdout").read_text("utf-8", "replace").strip()[-400:]
            raise LabError(f"{name} ended with status {process.returncode}: {tail}")

    def _watch(self, pid: int, name: str) -> None:
        """Raise a LabError above a limit; pause all processes while they have used more than their share of a CPU."""
        self.memory = max(self.memory, usage(pid)[0])
        if self.memory > self.limit:
            raise LabError(f"{name} was killed: it took {self.memory >> 20} of {self.limit >> 20} MiB of memory")
        if self.seconds > SECONDS:
            raise LabError(f"{name} timed out after {SECONDS} seconds")
        pids = [pid, *descendants(pid)]
        self.cpu_seconds = max(self.cpu_seconds, sum(map(_cpu_seconds, pids)))
        is_over = self.cpu_seconds > CPUS * self.seconds + TICK
        for each in pids[1:]:
            with suppress(OSError):
                os.kill(each, signal.SIGSTOP if is_over else signal.SIGCONT)

    def _bubblewrap(self) -> list[str]:
        flags = ["bwrap", *"--unshare-pid --unshare-net --unshare-ipc --unshare-uts --die-with-parent".split()]
        if os.getuid() == 0:
            flags += [word for name in CAPABILITIES for word in ("--cap-add", name)]
        else:
            flags += ["--unshare-user", "--uid", "0", "--gid", "0"]
        flags += [*system_folders(), "--ro-bind", "/etc", "/etc", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        for source, path in python_folders():
            flags += ["--ro-bind", source, path]
        flags += ["--ro-bind", str(self.folder / "stubs" / LIMIT), f"/sys/fs/cgroup/{LIMIT}"]
        if bubblewrap := shutil.which("bwrap"):  # it cannot be used in a container of Docker
            flags += ["--ro-bind", "/dev/null", os.path.realpath(bubblewrap)]
        (packages,) = (self.folder / "venv" / "lib").glob("python*/site-packages")
        path = "/autograder/stubs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        flags += ["--bind", str(self.folder), "/autograder", "--chdir", "/autograder", "--clearenv"]
        present = str(Path(torch.__file__).parents[1])
        flags += ["--ro-bind", present, f"/autograder/{packages.relative_to(self.folder)}"]
        return [*flags, "--setenv", "PATH", path, "--setenv", "HOME", "/root", "--"]


def _cpu_seconds(pid: int) -> float:
    with suppress(psutil.Error):
        return sum(psutil.Process(pid).cpu_times()[:4])  # of the process, and of its children that have ended
    return 0.0
