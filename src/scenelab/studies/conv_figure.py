"""The figure of the study, legible in grayscale: loss, its difference, accuracy, speed and memory."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from scenelab.evaluation.figures import STYLE, save

# A wide light line below a thin dark one: where the two coincide, both are still to be seen.
LINES: dict[str, dict[str, Any]] = {
    "native": {"color": "#f2b134", "lw": 4.0, "marker": "s", "ms": 8},
    "custom": {"color": "#1b3a6b", "lw": 1.3, "marker": "o", "ms": 4},
}
MOST_POINTS = 150  # of a loss curve; each is the mean of its share of the steps
LEAST = 1e-9  # what a difference of exactly nothing is drawn as


def draw_study(study: dict[str, Any], path: Path) -> None:
    """Draw study.json as one PNG."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(11, 7), gridspec_kw={"width_ratios": (3, 2)})
        _draw_loss(axes[0, 0], study)
        _draw_accuracy(axes[0, 1], study)
        _draw_difference(axes[1, 0], study)
        _draw_cost(axes[1, 1], study)
        save(figure, path)


def _means(curve: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, averaged over stretches of equal length."""
    parts = np.array_split(np.asarray(curve, dtype=float), min(len(curve), MOST_POINTS))
    means = np.array([part.mean(axis=0) for part in parts])
    return means[:, 0], means[:, 1]


def _draw_loss(axis: Axes, study: dict[str, Any]) -> None:
    curves = {side: values["loss"] for side, values in study["sides"].items()}
    for side, curve in curves.items():
        axis.plot(*_means(curve), **{**LINES[side], "marker": ""}, label=side)
    stretch = -(-len(curves["native"]) // MOST_POINTS)
    shown = "of each step" if stretch == 1 else f"means of {stretch} steps"
    axis.set(title=f"training loss ({shown})", xlabel="step", ylabel="cross-entropy in nats")
    axis.legend()


def _draw_difference(axis: Axes, study: dict[str, Any]) -> None:
    difference = study["loss_difference"]
    steps, values = np.asarray(difference["curve"], dtype=float).T
    axis.plot(steps, np.maximum(values, LEAST), color="0.45", lw=0.8)
    axis.plot(difference["largest_at_step"], difference["largest"], "v", color="black", ms=7)
    text = f"largest: {difference['largest']:.2g} at step {difference['largest_at_step']}"
    axis.text(0.98, 0.05, text, transform=axis.transAxes, ha="right")
    axis.set(title="how far the two losses are apart", xlabel="step", ylabel="|custom − native| in nats", yscale="log")


def _draw_accuracy(axis: Axes, study: dict[str, Any]) -> None:
    for side, values in study["sides"].items():
        rows = values["accuracy"]["val"]
        axis.plot([row["epoch"] for row in rows], [row["top1"] for row in rows], **LINES[side], label=side)
    axis.set(title="val accuracy", xlabel="epoch", ylabel="top-1 in percent", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="lower right")


def _draw_cost(axis: Axes, study: dict[str, Any]) -> None:
    """Speed and memory as shares of native's, with the figures themselves written on the bars."""
    sides = study["sides"]
    quantities = {"images_per_second": ("images/s", 1.0), "peak_memory_bytes": ("MiB peak memory", 2.0**20)}
    for offset, (side, values) in zip((-0.2, 0.2), sides.items(), strict=True):
        shares = [values[key] / sides["native"][key] for key in quantities]
        axis.bar([place + offset for place in range(2)], shares, width=0.38, color=LINES[side]["color"], label=side)
        for place, (key, share) in enumerate(zip(quantities, shares, strict=True)):
            text = f"{values[key] / quantities[key][1]:.0f}"
            axis.text(place + offset, share, text, ha="center", va="bottom")
    axis.set_xticks(range(2), [name for name, _ in quantities.values()])
    axis.set(title="speed and memory, native = 1", ylim=(0, axis.get_ylim()[1] * 1.25))
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper center", ncols=2)
