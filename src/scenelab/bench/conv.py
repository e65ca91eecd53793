"""Convolution side by side: native, ours and the textbook's, layer by layer and in a whole training step."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scenelab.bench.conv_step import CONTESTANTS, measure_step
from scenelab.bench.measure import ratio
from scenelab.models.simplenet import SimpleNet
from scenelab.progress import progress
from scenelab.runs.provenance import environment

Figures = dict[str, float]  # by part: forward, backward, …
Rounds = dict[str, dict[str, list[float]]]  # by part, by contestant, one a round
WARM_UP = 2
MOMENT = 0.05  # seconds that native is to take in one round of a layer, so that the clock's noise drops out
MOST_REPEATS = 50
SETTINGS = {"plain": False, "prepared": True}
"""The whole step is taken in a plain Python process, as it is in somebody's own script, and with the settings that
Scenelab trains with (`scenelab.runtime.prepare`)."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution and the input that it meets in the network."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Any
    input_shape: tuple[int, ...]
    needs_input_grad: bool

    def __str__(self) -> str:
        kernel, stride = "×".join(map(str, self.kernel_size)), f"/{self.stride[0]}" if self.stride[0] > 1 else ""
        side = "×".join(map(str, self.input_shape[2:]))
        return f"conv {kernel}{stride} {self.in_channels}→{self.out_channels}, {side}"

    def build(self, contestant: str) -> nn.Module:
        """The contestant's module for this layer, in channels_last."""
        module = CONTESTANTS[contestant](
            self.in_channels, self.out_channels, self.kernel_size[0], stride=self.stride[0], padding=self.padding[0]
        )
        return module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def conv_layers(batch: int, size: int) -> list[Layer]:
    """The distinct convolutions of SimpleNet with their real inputs, read off a forward pass without data."""
    seen: list[Layer] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        seen.append(
            Layer(
                in_channels=module.in_channels, out_channels=module.out_channels, kernel_size=module.kernel_size,
                stride=module.stride, padding=module.padding, input_shape=tuple(inputs[0].shape),
                needs_input_grad=inputs[0].requires_grad,
            )
        )  # fmt: skip

    with torch.device("meta"):
        network = SimpleNet()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(note)
        network(torch.empty(batch, 3, size, size))
    return list(dict.fromkeys(seen))


class LayerTrial:
    """One contestant on one layer: same weights, input and output gradient as the others."""

    def __init__(self, layer: Layer, contestant: str) -> None:
        torch.manual_seed(0)
        reference = layer.build("native")
        self.module = layer.build(contestant)
        self.module.load_state_dict(reference.state_dict())
        images = torch.randn(layer.input_shape).contiguous(memory_format=torch.channels_last)
        self.images = images.requires_grad_(layer.needs_input_grad)
        with torch.no_grad():
            self.grad = torch.randn_like(reference(images))  # channels_last, as the output is
        self.wanted = [*self.module.parameters(), *([self.images] if layer.needs_input_grad else [])]

    def results(self) -> list[Tensor]:
        """Output and gradients, for comparison."""
        output = self.module(self.images)
        return [output.detach(), *torch.autograd.grad(output, self.wanted, self.grad)]

    def measure(self, repeats: int) -> Figures:
        """Mean seconds of one forward and one backward pass."""
        forward = backward = 0.0
        for _ in range(repeats):
            began = time.perf_counter()
            output = self.module(self.images)
            between = time.perf_counter()
            grads = torch.autograd.grad(output, self.wanted, self.grad)
            ended = time.perf_counter()
            forward, backward = forward + between - began, backward + ended - between
            del output, grads  # outside the clock
        forward, backward = forward / repeats, backward / repeats
        return {"forward": forward, "backward": backward, "both": forward + backward}


def in_turns(trials: dict[str, Callable[[], Figures]], rounds: int) -> Rounds:
    """Run the trials A B C, C B A, A B C, … so that a slow spell of the machine hits all alike."""
    times: Rounds = {}
    for number in range(rounds):
        for name in trials if number % 2 == 0 else reversed(trials):
            for part, seconds in trials[name]().items():
                times.setdefault(part, {key: [] for key in trials})[name].append(seconds)
    return times


def summarize(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """The seconds with the ratios that count, round by round."""
    return {
        "seconds": seconds,
        "ours_vs_native": ratio(seconds, "ours", "native"),
        "textbook_vs_ours": ratio(seconds, "textbook", "ours"),
    }


def bench_layer(layer: Layer, rounds: int) -> dict[str, Any]:
    """Times of one layer, and how far the results are from native's as a share of native's largest value."""
    trials = {name: LayerTrial(layer, name) for name in CONTESTANTS}
    expected = trials["native"].results()
    errors = {name: _largest_error(trial.results(), expected) for name, trial in trials.items()}
    for trial in trials.values():
        trial.measure(WARM_UP)
    repeats = min(MOST_REPEATS, max(1, round(MOMENT / trials["native"].measure(1)["both"])))
    times = in_turns({name: lambda trial=trial: trial.measure(repeats) for name, trial in trials.items()}, rounds)
    parts = {part: summarize(seconds) for part, seconds in times.items()}
    return {"layer": str(layer), **asdict(layer), "repeats": repeats, "error_vs_native": errors, **parts}


def _largest_error(results: list[Tensor], expected: list[Tensor]) -> float:
    pairs = zip(results, expected, strict=True)
    return max(((mine - native).abs().max() / native.abs().max()).item() for mine, native in pairs)


def bench_step(batch: int, size: int, rounds: int, threads: int, *, prepared: bool) -> dict[str, Any]:
    """Time and peak memory of forward, cross-entropy, backward and SGD of the whole network; a process each."""

    def measure(name: str) -> Figures:
        return measure_step(name, batch=batch, size=size, threads=threads, prepared=prepared)

    figures = in_turns({name: lambda name=name: measure(name) for name in CONTESTANTS}, rounds)
    medians = {name: statistics.median(values) for name, values in figures["seconds"].items()}
    return {
        **summarize(figures["seconds"]),
        "images_per_second": {name: batch / seconds for name, seconds in medians.items()},
        "memory": {
            "peak_bytes": figures["peak_bytes"],
            "increase_bytes": figures["increase_bytes"],
            "ours_vs_native": ratio(figures["increase_bytes"], "ours", "native"),
            "textbook_vs_ours": ratio(figures["increase_bytes"], "textbook", "ours"),
            "ours_vs_native_whole_process": ratio(figures["peak_bytes"], "ours", "native"),
        },
    }


def bench_conv(*, batch: int, size: int, rounds: int, threads: int) -> dict[str, Any]:
    """Layers, whole step and peak memory; on top the three figures of the step in a plain process."""
    layers = conv_layers(batch, size)
    before = torch.get_num_threads()
    with progress("convolutions", len(SETTINGS) + len(layers), unit="parts") as advance:
        # The steps first: their processes then start from a parent that is still small.
        steps = {}
        for name, prepared in SETTINGS.items():
            steps[name] = bench_step(batch, size, rounds, threads, prepared=prepared)
            advance(1)
        torch.set_num_threads(threads)
        try:
            rows = []
            for layer in layers:
                rows.append(bench_layer(layer, rounds))
                advance(1)
        finally:
            torch.set_num_threads(before)
    return {
        **top_figures(steps["plain"]),
        "prepared": top_figures(steps["prepared"]),
        "what": f"SimpleNet (spring 2019), batch {batch}, {size} pixels, float32, channels_last, {threads} threads; "
        f"medians over {rounds} rounds in turns, a process for each contestant: plain Python, and prepared as "
        "Scenelab trains; memory is the increase over the resident size before network and batch are made",
        "steps": steps,
        "layers": rows,
        "environment": environment(),
    }


def top_figures(step: dict[str, Any]) -> dict[str, float]:
    """The three ratios that count."""
    return {
        "step_vs_native": step["ours_vs_native"]["median"],
        "textbook_vs_ours": step["textbook_vs_ours"]["median"],
        "memory_vs_native": step["memory"]["ours_vs_native"]["median"],
    }
