"""Run a benchmark by name and print its result."""

import importlib
import json
import sys
from statistics import median
from typing import Any

import tyro

from scenelab.errors import LabError

BENCHMARKS = (
    "attack attribution compare data evaluate finetune gpu grading memory others scale scaling train waiting".split()
)
MODULES = {
    "data": "throughput",
    "train": "throughput",
    "memory": "settings",
    "others": "finetune",
    "waiting": "settings",
}
"""Module of each benchmark that is not in a module of the same name."""


def run(arguments: list[str]) -> int:
    """Run the benchmark that `arguments` name, print its result, and return the exit status."""
    if not arguments or arguments[0] not in BENCHMARKS:
        print(f"usage: python -m benchmarks {{{','.join(BENCHMARKS)}}} [--json] [options]", file=sys.stderr)
        return 2
    name, *options = arguments
    benchmark = getattr(importlib.import_module(f"benchmarks.{MODULES.get(name, name)}"), f"bench_{name}")
    flags = [option for option in options if option != "--json"]
    try:
        result = tyro.cli(benchmark, prog=f"python -m benchmarks {name}", args=flags)
    except LabError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=2) if flags != options else to_text(result))
    return 0


def to_text(result: dict[str, Any]) -> str:
    """Return a result as readable text: ratios with their range, medians of lists, numbers and strings."""
    lines = []
    for name, value in result.items():
        if isinstance(value, dict) and "median" in value:
            lines.append(f"{name}: {value['median']:.2f} (range {value['min']:.2f}–{value['max']:.2f}, n {value['n']})")
        elif isinstance(value, dict) and name != "environment":
            lines += [f"{name} {line}" for line in to_text(value).splitlines()]
        elif isinstance(value, list) and value and all(isinstance(each, int | float) for each in value):
            lines.append(f"{name}: {median(value):.4g} (range {min(value):.4g}–{max(value):.4g})")
        elif not isinstance(value, dict | list):
            lines.append(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    return "\n".join(lines)
