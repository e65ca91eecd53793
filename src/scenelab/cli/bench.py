"""scenelab bench: speed, side by side in one run."""

from pathlib import Path
from statistics import median
from typing import Any

import tyro

from scenelab.cli.output import print_json, print_table
from scenelab.errors import LabError


def train(*, data: Path, rounds: int = 5, seconds: float = 10.0, json: bool = False) -> None:
    """Our training step against a plain starter-style loop; our network's against the machine's matrix products.

    Example: scenelab bench train --data data --json

    Args:
        data: a data folder.
        rounds: how often each side is timed, in turns.
        seconds: time for each.
        json: print JSON.
    """
    from scenelab.bench.efficiency import bench_efficiency
    from scenelab.bench.measure import bench_train

    result = bench_train(data, rounds=rounds, seconds=seconds)
    efficiency = bench_efficiency(rounds=rounds, seconds=seconds / 4)
    result |= {"step_vs_product": efficiency["step_vs_product"], "efficiency": efficiency}
    _show(result, json)


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


def conv(*, rounds: int = 5, batch: int = 64, size: int = 128, threads: int = 0, json: bool = False) -> None:
    """Convolution: native, ours and the textbook's, each layer of SimpleNet, the whole training step, its memory.

    The step is taken in a plain Python process, as in a script of one's own, and as Scenelab trains (prepared).

    Example: scenelab bench conv --json

    Args:
        rounds: how often each side is timed, in turns.
        batch: images a step.
        size: side of an image in pixels, from 16.
        threads: CPU threads; all cores by default.
        json: print JSON.
    """
    from scenelab.bench.conv import bench_conv
    from scenelab.training.session import available_cores

    for name, value, least in (("rounds", rounds, 1), ("batch", batch, 1), ("size", size, 16), ("threads", threads, 0)):
        if value < least:
            raise LabError(f"--{name} is {value}; expected {least} or more")
    result = bench_conv(batch=batch, size=size, rounds=rounds, threads=threads or available_cores())
    if json:
        print_json(result)
    else:
        _show_conv(result)


def attack(*, rounds: int = 5, batch: int = 64, size: int = 128, json: bool = False) -> None:
    """PGD with ten steps on SimpleNet: ours against torchattacks and foolbox.

    Example: scenelab bench attack --json

    Args:
        rounds: how often each is timed, in turns.
        batch: images that are attacked.
        size: side of an image in pixels, from 16.
        json: print JSON.
    """
    from scenelab.bench.attack import bench_attack

    for name, value, least in (("rounds", rounds, 1), ("batch", batch, 1), ("size", size, 16)):
        if value < least:
            raise LabError(f"--{name} is {value}; expected {least} or more")
    result = bench_attack(batch=batch, size=size, rounds=rounds)
    if json:
        print_json(result)
        return
    rows = [
        [name, f"{median(values):.2f}", f"{min(values):.2f}–{max(values):.2f}", f"{100 * result['fooled'][name]:.0f}"]
        for name, values in result["seconds"].items()
    ]
    print_table(result["what"], ["attack", "seconds", "range", "fooled %"], rows)
    _show_ratios({name: value for name, value in result.items() if isinstance(value, dict) and "median" in value})


def scale(*, processes: int = 2, rounds: int = 5, seconds: float = 8.0, side: int = 64, json: bool = False) -> None:
    """Training by several processes of one thread against one process of as many threads, in both precisions.

    Example: scenelab bench scale --json

    Args:
        processes: of torchrun, and threads of the other side; for a measure no more than there are cores.
        rounds: how often each is timed, in turns.
        seconds: time for each.
        side: of the pictures in pixels, from 16.
        json: print JSON.
    """
    from scenelab.bench.scale import bench_scale

    if seconds <= 0:
        raise LabError(f"--seconds is {seconds}; expected more than 0")
    for name, value, least in (("processes", processes, 2), ("rounds", rounds, 1), ("side", side, 16)):
        if value < least:
            raise LabError(f"--{name} is {value}; expected {least} or more")
    _show(bench_scale(processes=processes, rounds=rounds, seconds=seconds, side=side), json)


def _show_conv(result: dict[str, Any]) -> None:
    def middle(values: list[float], scale: float, digits: int = 1) -> str:
        return f"{scale * median(values):.{digits}f}"

    rows = []
    for layer in result["layers"]:
        for name, shown in (("forward", "fwd"), ("backward", "bwd")):
            part = layer[name]
            milliseconds = [middle(values, 1e3) for values in part["seconds"].values()]
            ratios = [f"{part[key]['median']:.2f}" for key in ("ours_vs_native", "textbook_vs_ours")]
            rows.append([layer["layer"] if shown == "fwd" else "", shown, *milliseconds, *ratios])
    title = f"{result['what']}\nmilliseconds; o/n: ours over native, t/o: textbook over ours"
    print_table(title, ["layer", "pass", "native", "ours", "textbook", "o/n", "t/o"], rows)
    rows = []
    for setting, step in result["steps"].items():
        for name, seconds in step["seconds"].items():
            milliseconds = f"{1e3 * min(seconds):.0f}–{1e3 * max(seconds):.0f}"
            mebibytes = [middle(step["memory"][key][name], 2**-20, 0) for key in ("increase_bytes", "peak_bytes")]
            rows.append([setting, name, middle(seconds, 1e3, 0), milliseconds, *mebibytes])
    head = ["process", "convolution", "ms", "range", "memory MiB", "whole process MiB"]
    print_table("whole training step", head, rows)
    for setting, step in result["steps"].items():
        print(f"{setting} process:")
        _show_ratios(
            {
                "step_vs_native": step["ours_vs_native"],
                "textbook_vs_ours": step["textbook_vs_ours"],
                "memory_vs_native": step["memory"]["ours_vs_native"],
            }
        )


def _show(result: dict[str, Any], json: bool) -> None:
    if json:
        print_json(result)
        return
    rows = [
        [name, f"{sorted(values)[len(values) // 2]:.0f}", f"{min(values):.0f}–{max(values):.0f}"]
        for name, values in result["images_per_second"].items()
    ]
    print_table(result["what"], ["images/s", "median", "range"], rows)
    _show_ratios({name: value for name, value in result.items() if isinstance(value, dict) and "median" in value})


def _show_ratios(ratios: dict[str, Any]) -> None:
    for name, value in ratios.items():
        print(f"{name}: {value['median']:.2f} (range {value['min']:.2f}–{value['max']:.2f}, n {value['n']})")


def app() -> tyro.extras.SubcommandApp:
    """The subcommands of `scenelab bench`."""
    group = tyro.extras.SubcommandApp()
    group.command(train)
    group.command(data)
    group.command(conv)
    group.command(attack)
    group.command(scale)
    return group
