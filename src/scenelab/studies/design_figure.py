"""The figure of the design study, legible in grayscale: loss and accuracy of the networks, differences from ours."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from scenelab.evaluation.figures import STYLE, save

MOST_POINTS = 60  # of a loss curve; each is the mean of its share of the steps
MARKERS = "osD^vPX*"


def draw_design(study: dict[str, Any], path: Path) -> None:
    """Draw design.json as one PNG: three panels of curves above one of differences."""
    shown = [
        variant
        for variant in study["variants"]
        if (variant["ladder"] or variant["name"] == study["reference"]) and variant["runs"][0]["curve"]
    ]
    rows = sum(not variant["ladder"] for variant in study["variants"])
    height = 4.2 + 1.2 + 0.3 * rows
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(12.5, height))
        grid = figure.add_gridspec(2, 1, height_ratios=(4.2, height - 4.2))
        above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
        loss, train, holdout = above.subplots(1, 3)
        colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(shown)))
        for variant, colour, marker in zip(shown, colours, MARKERS, strict=False):
            look = {"color": colour, "marker": marker, "ms": 4, "label": variant["name"]}
            run = variant["runs"][0]
            _draw_loss(loss, run, study["config"]["batch_size"], look)
            _draw_accuracy(train, run["accuracy"]["train"], look)
            _draw_accuracy(holdout, run["accuracy"]["holdout"], look)
        loss.set(title="training loss", xlabel="images seen, thousands", ylabel="cross-entropy in nats")
        loss.set_ylim(top=min(loss.get_ylim()[1], 1.5 * study["guessing_loss"]))
        for axis, title in (
            (train, "accuracy on training images (augmented)"),
            (holdout, "accuracy on held-out images"),
        ):
            axis.set(title=title, xlabel="epoch", ylabel="top-1 in percent", ylim=(0, None))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if shown:
            loss.legend(fontsize=8)
        _draw_differences(below.subplots(), study)
        save(figure, path, vector=True)


def _draw_loss(axis: Axes, run: dict[str, Any], batch: int, look: dict[str, Any]) -> None:
    parts = np.array_split(np.asarray(run["curve"], dtype=float), min(len(run["curve"]), MOST_POINTS))
    steps, values = np.array([part.mean(axis=0) for part in parts]).T
    axis.plot(steps * batch / 1000, values, **{**look, "ms": 3.5}, lw=1, markevery=6)


def _draw_accuracy(axis: Axes, rows: list[dict[str, Any]], look: dict[str, Any]) -> None:
    axis.plot([row["epoch"] for row in rows], [row["top1"] for row in rows], **look, lw=1)


def _draw_differences(axis: Axes, study: dict[str, Any]) -> None:
    """One row a variant of ours: a circle a run, a bar at the mean, grey what chance can do."""
    variants = [variant for variant in study["variants"] if not variant["ladder"]][::-1]
    centre = next((variant["top1"] for variant in variants if variant["against"] is None and variant["n"]), 0.0)
    for row, variant in enumerate(variants):
        values = [run["top1"] - centre for run in variant["runs"] if "top1" in run]
        if not values:
            axis.text(0, row, variant["verdict"], va="center", fontsize=9)
            continue
        if "noise" in variant:
            axis.barh(row, 2 * variant["noise"], left=-variant["noise"], height=0.7, color="0.88")
        axis.plot(values, [row] * len(values), "o", color="0.35", ms=5, mfc="none")
        axis.plot(variant["top1"] - centre, row, "|", color="black", ms=14, mew=2.5)
    axis.axvline(0, color="black", lw=1, ls="--")
    axis.set_yticks(range(len(variants)), [f"{variant['name']}: {variant['what']}" for variant in variants], fontsize=9)
    axis.set(
        title="our recipe with one choice changed",
        xlabel="held-out top-1, points from our recipe (circles: runs, bars: means, grey: what chance can do)",
        ylim=(-0.6, len(variants) - 0.4),
    )
    axis.grid(axis="y", visible=False)
