"""Temperature of a run's probabilities, fitted on images that it was not trained on (Guo et al. 2017)."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from scenelab.runs.provenance import digest
from scenelab.schema import Model

NAME = "calibration.json"
Temperature = Annotated[float, Field(ge=0.05, le=100)]


class Calibration(Model):
    """Content of a run folder's `calibration.json`: the temperature of the network in the file `weights` (SHA-256)."""

    temperature: Temperature
    weights: str | None
    split: str
    images: int
    date: str
    command: str


def read_temperature(checkpoint: Path) -> float:
    """Return the temperature that is stored beside a checkpoint; 1 without one, or if it is of other weights."""
    path = checkpoint.parent / NAME
    if not path.exists():
        return 1.0
    calibration = Calibration.read(path)
    return calibration.temperature if calibration.weights == digest(checkpoint) else 1.0
