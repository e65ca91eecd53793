"""Provenance of runs and results: command, commit, versions, machine, and digests of weights."""

import hashlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from scenelab.errors import LabError

PACKAGES = ("scenelab", "torch", "torchvision", "numpy")


def stamp(weights: Path | None = None) -> dict[str, Any]:
    """Return the date, the command and the digest of the weights of a result."""
    values = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    return values if weights is None else {**values, "weights": digest(weights)}


def digest(path: Path) -> str | None:
    """Return the SHA-256 of a file, or None if it does not exist."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}; check its permissions and the disk") from error


def environment() -> dict[str, Any]:
    """Return command, commit, versions, processor and cores of this process."""
    return {
        **stamp(),
        "commit": _git_commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "platform": platform.platform(),
    }


def _git_commit() -> str | None:
    """Return scenelab's own commit, with `+` if the tree was changed; None outside git."""
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
