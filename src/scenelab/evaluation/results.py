"""Base classes of results in a run folder."""

from importlib.metadata import version
from typing import Any

from pydantic import ConfigDict

from scenelab.evaluation.intervals import Interval, wilson
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run
from scenelab.schema import Model, Number


class Value(Model):
    """Base class of results and of values nested in results; numbers may be infinite or NaN."""

    model_config = ConfigDict(allow_inf_nan=True)


class Share(Value):
    """Number of correctly classified images, total (`of`), and accuracy in percent with its 95 % interval."""

    images: int
    of: int
    accuracy: Number
    interval: Interval

    @property
    def text(self) -> str:
        """Accuracy and interval in percent, such as `61.2 (59.8–62.5)`."""
        return "{:.1f} ({:.1f}–{:.1f})".format(self.accuracy, *self.interval)


def share_of(part: int, whole: int) -> Share:
    """Return the share of `part` correctly classified images out of `whole`."""
    return Share(images=part, of=whole, accuracy=100 * part / whole, interval=wilson(part, whole))


class Dated(Value):
    """Base class of results with the date and the command line of their measurement."""

    date: str
    command: str

    @property
    def origin(self) -> str:
        """Date and command line, as `DATE: COMMAND`."""
        return f"{self.date[:10]}: {self.command}"


class CrossValidation(Dated):
    """Accuracy of networks on the training images that each of them was not trained on.

    Attributes:
        folds: number of networks.
        images: number of training images; each is judged by one network.
        correct: number of images whose top-1 prediction, averaged with that of the mirror image, is correct.
        top1: accuracy in percent.
        top1_interval: 95 % Wilson interval in percent. It ignores that the networks share training images.
        epochs: epoch of each network with the best accuracy.
    """

    folds: int
    images: int
    correct: int
    top1: float
    top1_interval: Interval
    epochs: tuple[int, ...]


class Stamped(Dated):
    """Base class of result files: date, command line, and SHA-256 of the weights file."""

    weights: str | None


class Result(Stamped):
    """Base class of results of a network: architecture (`model`) and side of its input images in pixels (`size`)."""

    model: str
    size: int


def stamp_result(run: Run, arch: str, size: int) -> dict[str, Any]:
    """Return the values of all fields of `Result` for the best checkpoint of a run, by name."""
    return {**stamp(run.best), "model": arch, "size": size}


class SaliencyTest(Dated):
    """Base class of tests of attribution maps: date, command, version, requested methods, and number of images."""

    version: str
    methods_asked: tuple[str, ...]
    images: int


def stamp_test(names: tuple[str, ...], images: Any) -> dict[str, Any]:
    """Return the fields of a `SaliencyTest`: date, command, version, requested methods, and number of `images`."""
    return {**stamp(), "version": version("scenelab"), "methods_asked": names, "images": len(images)}
