"""Provenance of runs and results: command, commit, versions, machine, and digest of the weights."""

import hashlib
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from scenelab.errors import printable
from scenelab.io import read_plain
from scenelab.runtime import available_cores
from scenelab.schema import FileName, Model

PACKAGES = ("scenelab", "torch", "torchvision", "numpy")


class Environment(Model):
    """Content of a run folder's `environment.json`; `resumed` lists the processes that resumed the run."""

    date: str
    command: str
    commit: str | None = None  # of scenelab's source, with `+` for uncommitted changes
    python: str
    versions: dict[str, str]
    processor: str
    cores: int | None = None
    gpu: str | None = None
    platform: str
    resumed: tuple["Environment", ...] = ()


class TrainingResult(Model):
    """Content of a finished run's `results/training.json`.

    `peak_memory_bytes` is without mapped files, as the cached images are; `skipped` has (path, reason) of omitted
    images by split.
    """

    steps: int
    images_seen: int
    epochs: float
    training_flops: int
    minutes: float
    seconds_in_steps: float
    images_per_second: float
    peak_memory_bytes: int
    parameters: int
    checkpoint_bytes: int
    threads: int
    processes: int
    device: str
    stopped: str = ""
    skipped: dict[str, tuple[tuple[FileName, str], ...]] = {}  # noqa: RUF012


def stamp(weights: Path | None = None) -> dict[str, str | None]:
    """Return the current date, this process's command, and the SHA-256 of the file `weights` if given."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    values = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "command": printable(command)}
    return {**values} if weights is None else {**values, "weights": digest(weights)}


def digest(path: Path) -> str | None:
    """Return the SHA-256 of a file, or None if it does not exist."""
    return hashlib.sha256(read_plain(path, max_bytes=1 << 40)).hexdigest() if path.exists() else None


def environment() -> Environment:
    """Return the environment of this process: command, commit, versions and hardware."""
    import torch  # here, so that a run folder is read without it

    return Environment.model_validate(
        {
            **stamp(),
            "commit": _git_commit(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in PACKAGES},
            "processor": _processor(),
            "cores": available_cores(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "platform": platform.platform(),
        }
    )


def _git_commit() -> str | None:
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    here = Path(__file__).parent
    try:
        answer = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
