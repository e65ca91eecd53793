"""A run folder: config, provenance, metrics, checkpoints, results. Every file is written atomically."""

import tempfile
from pathlib import Path

from scenelab.errors import LabError
from scenelab.io import explain_write_errors, read_json, write_json
from scenelab.runs.config import RunConfig, to_plain
from scenelab.runs.provenance import environment
from scenelab.schema import parse


class Run:
    """The paths of a run's files.

    Attributes:
        folder: the run folder.
        config: what the run was started with.
        environment: where and with what it was made.
        metrics: losses and accuracies, one JSON object per line.
        timings: seconds per part of a step.
        checkpoint: the checkpoint to resume from.
        best: the weights to use.
        results: folder of the results of later commands.
        events: folder of TensorBoard's events.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config, self.environment = folder / "config.json", folder / "environment.json"
        self.metrics, self.timings = folder / "metrics.jsonl", folder / "timings.jsonl"
        self.checkpoint, self.best = folder / "checkpoint.pth.tar", folder / "model_best.pth.tar"
        self.results, self.events = folder / "results", folder / "tensorboard"

    def read_config(self) -> RunConfig:
        """Return the config of the run; raise a LabError if the folder has none or one of another version."""
        if not self.config.exists():
            raise LabError(f"{self.folder} is not a run folder (no config.json); 'scenelab train' makes one")
        return parse(RunConfig, read_json(self.config), f"{self.config} does not fit this version of scenelab: ")

    def require_new(self) -> None:
        """Raise a LabError if the folder holds a run already or cannot be written."""
        if self.config.exists():
            fix = f"resume it with 'scenelab resume {self.folder}' or name another"
            raise LabError(f"{self.folder} holds a run already; {fix}")
        with explain_write_errors(f"run folder {self.folder}", "choose a writable one"):
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()

    def create(self, config: RunConfig) -> None:
        """Start a run folder with its config and the provenance of this process, as `require_new` allows."""
        self.require_new()
        environment().write(self.environment)
        write_json(self.config, to_plain(config))
