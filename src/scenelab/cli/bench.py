"""scenelab bench: compare the speed of convolutions."""

from statistics import median
from typing import Annotated, Any

from tyro.conf import arg

from scenelab.cli.arguments import Commands, Count, Json, Pixels
from scenelab.cli.output import print_json, print_table
from scenelab.errors import LabError
from scenelab.terminal import say


def conv(
    *,
    rounds: Count = 5,
    batch: Count = 64,
    size: Pixels = 128,
    threads: Annotated[int, arg(metavar="N", help_behavior_hint="(default: all cores)")] = 0,
    json: Json = False,
) -> None:
    """Compare the speed of PyTorch's, our and a textbook convolution.

    Measures the time of each layer of SimpleNet, and the time and memory of a training step: in a plain Python process,
    and in a process with scenelab's settings for training.

    Example: scenelab bench conv --json

    Args:
        rounds: rounds of measurement; each times every convolution once.
        batch: images per step.
        size: side of the images in pixels, 16 or more.
        threads: CPU threads.
    """
    from scenelab.runtime import available_cores
    from scenelab.studies.conv_speed import measure_convolutions

    for name, value, minimum in (
        ("rounds", rounds, 1),
        ("batch", batch, 1),
        ("size", size, 16),
        ("threads", threads, 0),
    ):
        if value < minimum:
            raise LabError(f"--{name} is {value}; expected {minimum} or more")
    result = measure_convolutions(batch=batch, size=size, rounds=rounds, threads=threads or available_cores())
    if json:
        print_json(result)
    else:
        _print_layers(result)
        _print_steps(result["steps"])


def _print_layers(result: dict[str, Any]) -> None:
    rows = []
    for layer in result["layers"]:
        for name, label in (("forward", "fwd"), ("backward", "bwd")):
            times = layer[name]
            milliseconds = [f"{1e3 * median(values):.1f}" for values in times["seconds"].values()]
            ratios = [f"{times[key]['median']:.2f}" for key in ("ours_vs_native", "textbook_vs_ours")]
            rows.append([layer["layer"] if label == "fwd" else "", label, *milliseconds, *ratios])
    say(result["what"])
    title = "milliseconds; o/n: ours over native, t/o: textbook over ours"
    print_table(title, ["layer", "pass", "native", "ours", "textbook", "o/n", "t/o"], rows)


def _print_steps(steps: dict[str, Any]) -> None:
    rows = []
    for setting, step in steps.items():
        for name, seconds in step["seconds"].items():
            milliseconds = f"{1e3 * min(seconds):.0f}–{1e3 * max(seconds):.0f}"
            memory = [f"{median(step['memory'][key][name]) / 2**20:.0f}" for key in ("increase_bytes", "peak_bytes")]
            rows.append([setting, name, f"{1e3 * median(seconds):.0f}", milliseconds, *memory])
    head = ["process", "convolution", "ms", "range", "memory MiB", "whole process MiB"]
    print_table("whole training step", head, rows)
    for setting, step in steps.items():
        say(f"{setting} process:")
        ratios = {
            "step_vs_native": step["ours_vs_native"],
            "textbook_vs_ours": step["textbook_vs_ours"],
            "memory_vs_native": step["memory"]["ours_vs_native"],
        }
        for name, value in ratios.items():
            say(f"{name}: {value['median']:.2f} (range {value['min']:.2f}–{value['max']:.2f}, n {value['n']})")


COMMANDS = Commands("Compare the speed of convolutions.", {"Commands": {"conv": conv}})
