"""Temperature of a run's probabilities and threshold of its scores, fitted on images that it was not trained on."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from scenelab.runs.provenance import digest
from scenelab.schema import Model

NAME = "calibration.json"
Temperature = Annotated[float, Field(ge=0.05, le=100)]


class Calibration(Model):
    """Content of a run folder's `calibration.json`: the calibration of the network in the file `weights` (SHA-256).

    Logits are divided by the temperature. An image whose largest logit is then below the threshold is none of the
    classes; no image is if the threshold is None.
    """

    temperature: Temperature
    threshold: float | None = None
    weights: str | None
    split: str
    images: int
    date: str
    command: str


def read_calibration(checkpoint: Path) -> Calibration | None:
    """Return the calibration that is stored beside a checkpoint; None without one, or if it is of other weights."""
    path = checkpoint.parent / NAME
    calibration = Calibration.read(path) if path.exists() else None
    return calibration if calibration and calibration.weights == digest(checkpoint) else None
