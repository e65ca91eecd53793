"""Run folder: the paths of its config, provenance, metrics, checkpoints and results."""

import copy
import hashlib
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from scenelab.errors import LabError, find_url, suggest_path
from scenelab.io import atomic_write, explain_write_errors, read_json, write_json
from scenelab.runs.calibration import NAME as CALIBRATION
from scenelab.runs.config import RunConfig, to_plain
from scenelab.runs.provenance import environment
from scenelab.schema import parse

SOURCE = "source.txt"  # in a folder of results on other images


def event_folder(path: Path) -> str:
    """Return a TensorBoard folder as text; raise a LabError if it is not UTF-8, as TensorBoard needs."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise LabError(f"{path} is not UTF-8, which TensorBoard needs; choose another name for the folder") from None
    return str(path)


class Run:
    """Paths of a run folder's files.

    Attributes:
        folder: the run folder.
        config: configuration of the run.
        environment: command, commit, versions and machine of the training.
        metrics: losses and accuracies, one JSON object per line.
        timings: seconds per phase of a training step, one JSON object per line.
        batch: images of the batch before the last checkpoint, as augmented.
        checkpoint: checkpoint from which the run can resume.
        best: weights of the trained network.
        calibration: temperature of its probabilities and threshold of its scores.
        results: folder of the results of training and later commands.
        events: folder of TensorBoard's event files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config, self.environment = folder / "config.json", folder / "environment.json"
        self.metrics, self.timings = folder / "metrics.jsonl", folder / "timings.jsonl"
        self.batch, self.checkpoint = folder / "batch.jpg", folder / "checkpoint.pth.tar"
        self.best, self.calibration = folder / "model_best.pth.tar", folder / CALIBRATION
        self.results, self.events = folder / "results", folder / "tensorboard"

    def on_other(self, data: Path) -> "Run":
        """Return this run with the folder `results/on-NAME` for results and events on the images of another folder.

        The folder's `source.txt` has the path of `data`. If it has another path, a hash of `data` follows the name.
        """
        other, path = copy.copy(self), str(data.resolve())
        name = re.sub(r"[^\w.-]+", "-", data.resolve().name)[:60]
        other.results, encoded = self.results / f"on-{name}", path.encode(errors="surrogateescape")
        if (other.results / SOURCE).exists() and (other.results / SOURCE).read_bytes() != encoded:
            other.results = self.results / f"on-{name}-{hashlib.sha256(encoded).hexdigest()[:8]}"
        with suppress(OSError, LabError):  # nothing can be written
            other.results.mkdir(parents=True, exist_ok=True)
            with atomic_write(other.results / SOURCE) as file:
                file.write(encoded)
        other.events = other.results / "tensorboard"
        return other

    def read_config(self) -> RunConfig:
        """Return the run's config; raise a LabError if it is missing, invalid or of another version."""
        self.require_folder()
        if not self.config.exists():
            raise LabError(f"{self.folder} is not a run folder (no config.json); 'scenelab train' makes one")
        return parse(RunConfig, read_json(self.config), f"{self.config} does not fit this version of scenelab: ")

    @property
    def held_out(self) -> str:
        """Split that training did not use for a final choice: `holdout` if the run has one, else `val`."""
        return "holdout" if self.read_config().train.holdout else "val"

    def require_folder(self) -> None:
        """Raise a LabError if the run folder does not exist."""
        if url := find_url(self.folder):
            raise LabError(f"run folder is the URL {url}; expected a folder, download it first")
        if not self.folder.is_dir():
            what = "is a file" if self.folder.exists() else f"does not exist{suggest_path(self.folder)}"
            raise LabError(f"run folder {self.folder} {what}; check the path")

    def require_new(self) -> None:
        """Raise a LabError if the folder already has a run or cannot be written; create the folder if missing."""
        if self.config.exists():
            fix = f"resume it with 'scenelab resume {self.folder}' or name another"
            raise LabError(f"{self.folder} holds a run already; {fix}")
        event_folder(self.events)
        with explain_write_errors(f"run folder {self.folder}", "choose a writable one"):
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()

    def create(self, config: RunConfig) -> None:
        """Write the config and the environment of this process to a new run folder; see `require_new`."""
        self.require_new()
        environment().write(self.environment)
        write_json(self.config, to_plain(config))
