"""Base classes of the results that are written to a run folder."""

from importlib.metadata import version
from typing import Any

from pydantic import ConfigDict

from scenelab.runs.network import Stored
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run
from scenelab.schema import Model


class Value(Model):
    """A part of a result; unlike what is read from a config, its numbers may be infinite or NaN."""

    model_config = ConfigDict(allow_inf_nan=True)


class Stamped(Value):
    """A file in `results`: what made it, and the digest of the weights."""

    date: str
    command: str
    weights: str | None


class Result(Stamped):
    """A result of a network: its architecture, and the side of its images in pixels."""

    model: str
    size: int


def stamp_result(run: Run, stored: Stored) -> dict[str, Any]:
    """Return the fields of `Result`."""
    return {**stamp(run.best), "model": stored.arch, "size": stored.size}


class SaliencyTest(Value):
    """Result of a test of attribution maps: what made it, and the methods that were requested."""

    date: str
    command: str
    version: str
    methods_asked: tuple[str, ...]
    images: int


def stamp_test(names: tuple[str, ...], images: Any) -> dict[str, Any]:
    """Return the fields of `SaliencyTest`."""
    return {**stamp(), "version": version("scenelab"), "methods_asked": names, "images": len(images)}
