"""A run folder: config, provenance, metrics, checkpoints, results. Every file is written atomically."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from scenelab.errors import LabError
from scenelab.io import read_json, write_json
from scenelab.runs.config import RunConfig, to_plain
from scenelab.runs.provenance import environment
from scenelab.schema import parse


@dataclass(frozen=True)
class Run:
    """The paths of a run's files."""

    folder: Path

    @property
    def config(self) -> Path:
        """What the run was started with."""
        return self.folder / "config.json"

    @property
    def environment(self) -> Path:
        """Where and with what it was made."""
        return self.folder / "environment.json"

    @property
    def metrics(self) -> Path:
        """Losses and accuracies, one JSON object per line."""
        return self.folder / "metrics.jsonl"

    @property
    def timings(self) -> Path:
        """Seconds per part of a step."""
        return self.folder / "timings.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "checkpoint.pth.tar"

    @property
    def best(self) -> Path:
        """The weights to use."""
        return self.folder / "model_best.pth.tar"

    @property
    def results(self) -> Path:
        """Folder of the results of later commands."""
        return self.folder / "results"

    @property
    def events(self) -> Path:
        """Folder of TensorBoard's events."""
        return self.folder / "tensorboard"

    def read_config(self) -> RunConfig:
        """Return the config that the run was started with.

        Raises:
            LabError: the folder is not a run, or its config is not of this version.
        """
        if not self.config.exists():
            raise LabError(f"{self.folder} is not a run folder (no config.json); 'scenelab train' makes one")
        return parse(RunConfig, read_json(self.config), f"{self.config} does not fit this version of scenelab: ")

    def require_new(self) -> None:
        """Raise a LabError if the folder holds a run already or cannot be written."""
        if self.config.exists():
            raise LabError(
                f"{self.folder} holds a run already; resume it with 'scenelab resume {self.folder}' or name another"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise LabError(f"cannot write run folder {self.folder}: {error.strerror}; choose a writable one") from error

    def create(self, config: RunConfig) -> None:
        """Start a run folder with its config and the provenance of this process.

        Raises:
            LabError: the folder holds a run already, or cannot be written.
        """
        self.require_new()
        write_json(self.environment, environment())
        write_json(self.config, to_plain(config))
