"""Run scenelab's commands, one per argument, without the packages that an installation without extras lacks."""

import shlex
import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import tomli
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def add_required(needs: Iterable[str], extra: str, names: set[tuple[str, str]]) -> None:
    """Add the distributions that pip installs for requirements of a distribution with an extra, and theirs."""
    for need in map(Requirement, needs):
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            for pair in {(canonicalize_name(need.name), each) for each in ("", *need.extras)} - names:
                names.add(pair)
                add_required(requires(pair[0]) or [], pair[1], names)


def hide() -> None:
    """Make all other packages missing."""
    names: set[tuple[str, str]] = set()
    add_required(tomli.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"], "", names)
    kept = {name for name, _ in names} | {"scenelab", "pip"}
    modules = packages_distributions().items()
    hidden = [name for name, owners in modules if not kept & {canonicalize_name(owner) for owner in owners}]
    sys.modules.update(dict.fromkeys(hidden))  # None is refused by import and not found by find_spec


if __name__ == "__main__":
    hide()
    from scenelab.cli.main import run

    sys.exit(max(run(shlex.split(command)) for command in sys.argv[1:]))
