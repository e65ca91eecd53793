"""scenelab bench: speed, side by side in one run."""

from pathlib import Path
from typing import Any

import tyro

from scenelab.cli.output import print_json, print_table


def train(*, data: Path, rounds: int = 5, seconds: float = 10.0, json: bool = False) -> None:
    """Our training step against a plain starter-style loop.

    Example: scenelab bench train --data data --json

    Args:
        data: a data folder.
        rounds: how often each side is timed, in turns.
        seconds: time for each.
        json: print JSON.
    """
    from scenelab.bench.measure import bench_train

    _show(bench_train(data, rounds=rounds, seconds=seconds), json)


def data(*, data: Path, rounds: int = 5, seconds: float = 4.0, json: bool = False) -> None:
    """Packed batches against torchvision's ImageFolder and DataLoader.

    Example: scenelab bench data --data data --json

    Args:
        data: a data folder.
        rounds: how often each side is timed, in turns.
        seconds: time for each.
        json: print JSON.
    """
    from scenelab.bench.measure import bench_data

    _show(bench_data(data, rounds=rounds, seconds=seconds), json)


def _show(result: dict[str, Any], json: bool) -> None:
    if json:
        print_json(result)
        return
    rows = [
        [name, f"{sorted(values)[len(values) // 2]:.0f}", f"{min(values):.0f}–{max(values):.0f}"]
        for name, values in result["images_per_second"].items()
    ]
    print_table(result["what"], ["images/s", "median", "range"], rows)
    for name, value in result.items():
        if isinstance(value, dict) and "median" in value:
            print(f"{name}: {value['median']:.2f} (range {value['min']:.2f}–{value['max']:.2f}, n {value['n']})")


def app() -> tyro.extras.SubcommandApp:
    """The subcommands of `scenelab bench`."""
    group = tyro.extras.SubcommandApp()
    group.command(train)
    group.command(data)
    return group
