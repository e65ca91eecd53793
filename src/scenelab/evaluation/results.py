"""Base classes of results in a run folder."""

from importlib.metadata import version
from typing import Any

from pydantic import ConfigDict

from scenelab.runs.network import Stored
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run
from scenelab.schema import Model


class Value(Model):
    """Base class of results and their parts, in which numbers may be infinite or NaN."""

    model_config = ConfigDict(allow_inf_nan=True)


class Stamped(Value):
    """Result file with date, command, and the SHA-256 of the weights."""

    date: str
    command: str
    weights: str | None


class Result(Stamped):
    """Result of a network, with its architecture and the side of its input images in pixels."""

    model: str
    size: int


def stamp_result(run: Run, stored: Stored) -> dict[str, Any]:
    """Return values for all fields of `Result`."""
    return {**stamp(run.best), "model": stored.arch, "size": stored.size}


class SaliencyTest(Value):
    """Result of a test of attribution maps, with date, command, version, requested methods and number of images."""

    date: str
    command: str
    version: str
    methods_asked: tuple[str, ...]
    images: int


def stamp_test(names: tuple[str, ...], images: Any) -> dict[str, Any]:
    """Return values for all fields of `SaliencyTest`; `images` is a collection of the tested images."""
    return {**stamp(), "version": version("scenelab"), "methods_asked": names, "images": len(images)}
