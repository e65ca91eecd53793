"""Comparison of two results of a benchmark, as printed with --json: what became slower."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tyro.conf import Positional

from scenelab.errors import LabError
from scenelab.io import read_object

SLOWER = 1.1


def bench_compare(old: Positional[Path], new: Positional[Path]) -> dict[str, Any]:
    """Name the times and speeds that are worse by more than 10 %, by the medians of their rounds.

    Args:
        old: result of a benchmark before a change.
        new: result of the same benchmark after it, on the same machine.
    """
    before, after = read_object(old), read_object(new)
    machines = [result.get("environment", {}).get("processor") for result in (before, after)]
    if machines[0] != machines[1]:
        raise LabError(f"{old} is from {machines[0]}, {new} from {machines[1]}; measure both on one machine")
    ours = dict(speeds(after))
    pairs = {name: (speed, ours[name]) for name, speed in speeds(before) if name in ours}
    slower = {name: first / second for name, (first, second) in pairs.items() if first > SLOWER * second}
    return {
        "compared": len(pairs),
        "slower": len(slower),
        **{name: f"{factor:.2f} times as slow" for name, factor in slower.items()},
    }


def speeds(result: dict[str, Any], name: str = "", power: int = 0) -> Iterator[tuple[str, float]]:
    """Yield name and value of all speeds of a result, and of all times as a speed, their inverse."""
    for key, value in result.items():
        words, path = key.split("_"), f"{name} {key}".strip()
        exponent = power if "vs" in words else 1 if key.endswith("per_second") else -1 if "seconds" in words else power
        numbers = value if isinstance(value, list) else [value]
        if isinstance(value, dict):
            yield from speeds(value, path, exponent)
        elif exponent and numbers and all(isinstance(each, int | float) and each > 0 for each in numbers):
            yield path, median(numbers) ** exponent
