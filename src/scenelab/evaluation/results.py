"""Base classes of the results that are written to a run folder."""

from importlib.metadata import version
from typing import Any

from scenelab.runs.provenance import stamp
from scenelab.schema import Model


class Result(Model):
    """The content of a file in `results`: what made it, and the digest of the weights."""

    date: str
    command: str
    weights: str | None


class SaliencyTest(Model):
    """Result of a test of attribution maps: what made it, and the methods that were requested."""

    date: str
    command: str
    version: str
    methods_asked: tuple[str, ...]


def stamp_test(names: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of `SaliencyTest`."""
    return {**stamp(), "version": version("scenelab"), "methods_asked": names}
