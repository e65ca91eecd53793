"""Benchmark of native, our own and the textbook convolution: speed and memory per layer and per training step."""

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scenelab.models.simplenet import SimpleNet
from scenelab.progress import progress
from scenelab.runs.provenance import environment
from scenelab.studies.conv_step import IMPLEMENTATIONS, measure_step
from scenelab.studies.timing import Measurements, interleave, ratio

MIN_SECONDS = 0.05  # duration of native convolution per round of a layer, long enough for the clock's resolution
MAX_REPEATS = 50
SETTINGS = {"plain": False, "prepared": True}
"""Settings of the step's process: plain Python, like a user's script, and prepared by `scenelab.runtime.prepare`."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Parameters of a convolution layer and the shape of its input."""

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

    def build(self, implementation: str) -> nn.Module:
        """Return a module for this layer in channels-last layout; `implementation` is a key of `IMPLEMENTATIONS`."""
        kernel, stride, padding = self.kernel_size[0], self.stride[0], self.padding[0]
        conv_op = IMPLEMENTATIONS[implementation]
        module = conv_op(self.in_channels, self.out_channels, kernel, stride=stride, padding=padding)
        return module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def conv_layers(batch: int, size: int) -> list[Layer]:
    """Return the distinct convolution layers of SimpleNet for `batch` images of `size`×`size` pixels."""
    layers: list[Layer] = []

    def record(module: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        names = "in_channels out_channels kernel_size stride padding".split()
        geometry: dict[str, Any] = {name: getattr(module, name) for name in names}
        shape = tuple(inputs[0].shape)
        layers.append(Layer(**geometry, input_shape=shape, needs_input_grad=inputs[0].requires_grad))

    with torch.device("meta"):
        network = SimpleNet()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(record)
        network(torch.empty(batch, 3, size, size))
    return list(dict.fromkeys(layers))


class LayerTrial:
    """Benchmark of one implementation of a layer, with the same weights, input and output gradient for each."""

    def __init__(self, layer: Layer, implementation: str) -> None:
        torch.manual_seed(0)
        native = layer.build("native")
        self.module = layer.build(implementation)
        self.module.load_state_dict(native.state_dict())
        images = torch.randn(layer.input_shape).contiguous(memory_format=torch.channels_last)
        self.images = images.requires_grad_(layer.needs_input_grad)
        with torch.no_grad():
            self.grad = torch.randn_like(native(images))  # channels_last, like the output
        self.leaves = [*self.module.parameters(), *([self.images] if layer.needs_input_grad else [])]

    def results(self) -> list[Tensor]:
        """Return the output, and the gradients with respect to the parameters and, if needed, the input."""
        output = self.module(self.images)
        return [output.detach(), *torch.autograd.grad(output, self.leaves, self.grad)]

    def measure(self, repeats: int) -> Measurements:
        """Return the mean seconds of the forward pass, the backward pass, and both, over `repeats` passes."""
        forward = backward = 0.0
        for _ in range(repeats):
            began = time.perf_counter()
            output = self.module(self.images)
            between = time.perf_counter()
            grads = torch.autograd.grad(output, self.leaves, self.grad)
            ended = time.perf_counter()
            forward, backward = forward + between - began, backward + ended - between
            del output, grads  # freed outside the measured time
        forward, backward = forward / repeats, backward / repeats
        return {"forward": forward, "backward": backward, "both": forward + backward}


def measure_layer(layer: Layer, rounds: int) -> dict[str, Any]:
    """Return seconds per pass, time ratios between implementations, and numerical errors, for one layer.

    An error is the largest absolute difference from native convolution, relative to its largest absolute value.
    """
    trials = {name: LayerTrial(layer, name) for name in IMPLEMENTATIONS}
    expected = trials["native"].results()
    errors = {name: _max_error(trial.results(), expected) for name, trial in trials.items()}
    for trial in trials.values():
        trial.measure(2)  # warms up
    repeats = min(MAX_REPEATS, max(1, round(MIN_SECONDS / trials["native"].measure(1)["both"])))
    times = interleave(trials, lambda name: trials[name].measure(repeats), rounds)
    passes = {name: {"seconds": seconds, **_ratios(seconds)} for name, seconds in times.items()}
    return {"layer": str(layer), **asdict(layer), "repeats": repeats, "error_vs_native": errors, **passes}


def measure_steps(batch: int, size: int, rounds: int, threads: int, *, prepared: bool) -> dict[str, Any]:
    """Return seconds and memory (bytes) of a training step per implementation, each measured in its own process.

    If `prepared`, the processes call `scenelab.runtime.prepare` first.
    """

    def measure(name: str) -> Measurements:
        return measure_step(name, batch=batch, size=size, threads=threads, prepared=prepared)

    values = interleave(IMPLEMENTATIONS, measure, rounds)
    seconds, peak, increase = (values[name] for name in ("seconds", "peak_bytes", "increase_bytes"))
    memory = {"peak_bytes": peak, "increase_bytes": increase, **_ratios(increase)}
    memory["ours_vs_native_whole_process"] = ratio(peak, "ours", "native")
    rates = {name: batch / statistics.median(times) for name, times in seconds.items()}
    return {"seconds": seconds, **_ratios(seconds), "images_per_second": rates, "memory": memory}


def measure_convolutions(*, batch: int, size: int, rounds: int, threads: int) -> dict[str, Any]:
    """Return the results of `scenelab bench conv`: times, memory, and ratios (ours / PyTorch's, textbook / ours)."""
    layers = conv_layers(batch, size)
    before = torch.get_num_threads()
    steps, rows = {}, []
    with progress("convolutions", len(SETTINGS) + len(layers), unit="parts") as advance:
        # Steps are measured first, while the parent of their processes is still small.
        for name, prepared in SETTINGS.items():
            steps[name] = measure_steps(batch, size, rounds, threads, prepared=prepared)
            advance(1)
        torch.set_num_threads(threads)
        try:
            for layer in layers:
                rows.append(measure_layer(layer, rounds))
                advance(1)
        finally:
            torch.set_num_threads(before)
    return {
        **_headline(steps["plain"]),
        "prepared": _headline(steps["prepared"]),
        "what": f"SimpleNet (spring 2019), batch {batch}, {size} pixels, float32, channels_last, {threads} threads; "
        f"medians of {rounds} interleaved rounds, one process per convolution: plain Python, and prepared as for "
        "Scenelab's training; memory is the increase over the resident size before network and batch are made",
        "steps": steps,
        "layers": rows,
        "environment": environment().to_json(),
    }


def _ratios(values: dict[str, list[float]]) -> dict[str, Any]:
    pairs = {"ours_vs_native": ("ours", "native"), "textbook_vs_ours": ("textbook", "ours")}
    return {name: ratio(values, *pair) for name, pair in pairs.items()}


def _headline(step: dict[str, Any]) -> dict[str, float]:
    ratios = (step["ours_vs_native"], step["textbook_vs_ours"], step["memory"]["ours_vs_native"])
    names = "step_vs_native textbook_vs_ours memory_vs_native".split()
    return {name: values["median"] for name, values in zip(names, ratios, strict=True)}


def _max_error(results: list[Tensor], expected: list[Tensor]) -> float:
    pairs = zip(results, expected, strict=True)
    return max(((result - native).abs().max() / native.abs().max()).item() for result, native in pairs)
