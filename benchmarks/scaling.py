"""Model of training on larger datasets and more machines: storage, decoding time, network traffic and hours.

Each machine computes its part of the batch in a log-normal time, and all wait for the slowest. Then the gradients and
Muon's update directions are all-reduced over a ring: each of the N machines sends 2·(N-1)/N of their bytes (Patarasuk &
Yuan 2009) with 2·(N-1) latencies. The statistics of each normalization layer add the same latencies in the forward and
in the backward pass. Communication does not overlap with computation, unlike in torch.
"""

import dataclasses
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tyro.conf import OmitArgPrefixes

from scenelab.models.flops import count_flops

SETS = {  # training images; MiniPlaces' README, Places' development kit (Zhou et al. 2018)
    "MiniPlaces": 100_000,
    "Places365-Standard": 1_803_460,
    "Places365-Challenge": 8_026_628,
}
LINES = {"1 Gbit/s": (1e9 / 8, 200e-6), "10 Gbit/s": (10e9 / 8, 50e-6), "100 Gbit/s": (100e9 / 8, 10e-6)}
"""Assumed bytes per second, and latency of a small message in seconds, per network connection."""
MACHINES = (1, 2, 4, 8, 16, 32)
STEPS = 2000


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Measured inputs of the scaling model."""

    images_per_second: float = 870.0
    """Training speed of one machine, in images per second."""
    spread: float = 0.05
    """Standard deviation of the logarithm of the time per step."""
    batch: int = 1024
    """Images per step, over all machines."""
    parameters: int = 1_965_348
    """Number of parameters of the network."""
    norms: int = 10
    """Number of normalization layers whose statistics are all-reduced."""
    side: int = 128
    """Side of the stored images in pixels."""
    decoded: float = 1053.0
    """Decoding speed of one machine, in images per second."""
    flops: float = 0.0
    """FLOPs of training per image; 0 counts them for the residual network at 64 pixels."""


def step_seconds(machines: int, line: tuple[float, float], values: Scenario) -> float:
    """Return the modeled time per training step in seconds, averaged over `STEPS` random steps.

    `line` is the network connection: bytes per second and latency in seconds, a value of LINES.
    """
    rng = np.random.default_rng(0)
    speeds = np.exp(values.spread * rng.standard_normal((STEPS, machines)))
    compute = (values.batch / machines / values.images_per_second * speeds).max(axis=1).mean()
    traffic = 2 * (machines - 1) / machines * 4 * 2 * values.parameters
    return float(compute + traffic / line[0] + 2 * (machines - 1) * line[1] * (1 + 2 * values.norms))


def steps(values: Scenario) -> str:
    """Return a Markdown table of the training speed by network connection and number of machines."""
    head = ("line", "machines", "images/s", "efficiency", "image traffic per machine, MB/s", "Places365, per epoch")
    lines = [f"| {' | '.join(head)} |", "|---|---:|---:|---:|---:|---:|"]
    for name, line in LINES.items():
        for machines in MACHINES:
            rate = values.batch / step_seconds(machines, line, values)
            hours = SETS["Places365-Standard"] / rate / 3600
            efficiency = rate / machines / values.images_per_second
            traffic = rate / machines * values.side**2 * 3 / 1e6
            lines.append(f"| {name} | {machines} | {rate:,.0f} | {efficiency:.2f} | {traffic:.0f} | {hours:.2f} h |")
    return "\n".join(lines)


def sizes(values: Scenario) -> str:
    """Return a Markdown table of the cache size, decoding time and epoch time by dataset."""
    columns = "decoding, one machine|per epoch, one machine|operations per epoch|at 1 TFLOP/s"
    head = ("images", "for training", f"cache at {values.side} pixels", *columns.split("|"))
    lines = [f"| {' | '.join(head)} |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name, images in SETS.items():
        stored = images * values.side**2 * 3 / 1e9
        operations = images * values.flops
        lines.append(
            f"| {name} | {images:,} | {stored:,.0f} GB | {images / values.decoded / 3600:.2f} h | "
            f"{images / values.images_per_second / 3600:.2f} h | {operations:.1e} | {operations / 1e12 / 3600:.2f} h |"
        )
    return "\n".join(lines)


def bench_scaling(scenario: OmitArgPrefixes[Scenario] = Scenario()) -> dict[str, Any]:
    """Model training on larger datasets and more machines, from measured speeds."""
    if not scenario.flops:
        flops = count_flops("residual", num_classes=365, side=64, training=True)
        scenario = dataclasses.replace(scenario, flops=flops)
    return {**asdict(scenario), "sizes": "\n" + sizes(scenario), "steps": "\n" + steps(scenario)}
