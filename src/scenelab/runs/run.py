"""A run folder: config, provenance, metrics, checkpoints, results. Everything in it is written atomically."""

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from scenelab.errors import LabError
from scenelab.io import atomic_write, read_json, write_json
from scenelab.runs import checkpoint
from scenelab.runs.pickled import DamagedError, ForeignError
from scenelab.runs.statements import MOST_EPOCHS, Statements

PACKAGES = ("scenelab", "torch", "torchvision", "numpy")


@dataclass(frozen=True)
class Run:
    """The files of one run; nothing is read or written until a method is called."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    @property
    def environment(self) -> Path:
        return self.folder / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def timings(self) -> Path:
        return self.folder / "timings.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pth.tar"

    @property
    def best(self) -> Path:
        return self.folder / "model_best.pth.tar"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def events(self) -> Path:
        return self.folder / "tensorboard"

    def read_config(self) -> dict[str, Any]:
        """The stored config: `data` (folder), `cache`, `limit_*` and `train` (a training config)."""
        if not self.config.exists():
            raise LabError(f"{self.folder} is not a run folder (no config.json); 'scenelab train' makes one")
        values = read_json(self.config)
        if not isinstance(values, dict) or not isinstance(values.get("train"), dict):
            raise LabError(f"{self.config} is not the config of a run of scenelab")
        values = {"cache": None, "train_digest": "", **values}
        for name in ("data", "cache", "train_digest"):
            value = values.get(name)
            if not (isinstance(value, str) and "\0" not in value) and not (name == "cache" and value is None):
                raise LabError(f"{self.config} is not the config of a run of scenelab: its {name} is no path or text")
        return values

    def require_new(self) -> None:
        """Make sure that a run can be started here.

        Raises:
            LabError: the folder holds a run already, or cannot be written.
        """
        if self.config.exists():
            raise LabError(
                f"{self.folder} holds a run already; continue it with 'scenelab resume {self.folder}' or name another"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise LabError(f"cannot write run folder {self.folder}: {error.strerror}; choose a writable one") from error

    def create(self, config: dict[str, Any]) -> None:
        """Start a run folder with its config and the provenance of this process.

        Raises:
            LabError: the folder holds a run already, or cannot be written.
        """
        self.require_new()
        write_json(self.environment, environment())
        write_json(self.config, config)


def stamp(weights: Path | None = None) -> dict[str, Any]:
    """When and by which command a result is made, and the digest of the weights that it is about."""
    made = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    return made if weights is None else {**made, "weights": digest(weights)}


def digest(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}; check its permissions and the disk") from error


def environment() -> dict[str, Any]:
    """Where and with what a run was made: command, commit, versions, processor, cores."""
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
    """The commit that scenelab itself was run from, with `+` where the tree was changed; None outside git."""
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def save_checkpoint(path: Path, values: dict[str, Any]) -> None:
    """Write tensors and plain values, atomically."""
    with atomic_write(path) as file:
        try:
            torch.save(values, file)
        except RuntimeError as error:  # torch's writer stumbles over its own end when a write has failed
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, whoever made it: nothing in it runs, and it takes no more memory than its size.

    Its `state_dict` holds tensors by name, and what else it says of itself in the handout's keys is of the right kind.

    Raises:
        LabError: the file is missing, damaged, holds more than tensors and plain values, or is no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise LabError(f"checkpoint {path} does not exist; train first, or check the path given to --resume")
    try:
        values = checkpoint.read(path)
    except OSError as error:
        cause = error.strerror or error
        raise LabError(f"checkpoint {path} cannot be read: {cause}; check its permissions and the disk") from error
    except (ForeignError, DamagedError) as error:
        kind = "is damaged" if isinstance(error, DamagedError) else "holds more than tensors and plain values"
        raise LabError(f"checkpoint {path} {kind} and was not loaded ({error}); use one written by scenelab") from error
    if not isinstance(values, dict) or not isinstance(values.get("state_dict"), dict):
        raise LabError(
            f"checkpoint {path} has no 'state_dict'; expected one written by scenelab or the handout's main.py"
        )
    statements = Statements(path, values)
    statements.tensors("state_dict")
    statements.whole("epoch", 0, high=MOST_EPOCHS)
    statements.text("model_arch", "")
    return values
