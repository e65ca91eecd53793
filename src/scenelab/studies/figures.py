"""Figures of studies, legible in grayscale."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from scenelab.evaluation.curves import plot_worst_case, thin
from scenelab.evaluation.figures import LINE_STYLES, STYLE, save
from scenelab.evaluation.study_results import (
    AdversarialRow,
    AdversarialStudy,
    ConvRun,
    ConvStudy,
    DesignRow,
    DesignStudy,
    EpochAccuracy,
    LossDifference,
)

# A wide light curve below a thin dark one, so that both are visible where they coincide.
SIDES: dict[str, dict[str, Any]] = {
    "native": {"color": "#f2b134", "lw": 4.0, "marker": "s", "ms": 8},
    "custom": {"color": "#1b3a6b", "lw": 1.3, "marker": "o", "ms": 4},
}
MAX_POINTS = 150  # points of a loss curve in the convolution study
MAX_DESIGN_POINTS = 60
MIN_DIFFERENCE = 1e-9  # drawn instead of 0 on the logarithmic axis
MARKERS = "osD^vPX*"


def draw_conv(study: ConvStudy, path: Path) -> None:
    """Save the figure of the convolution study as PNG (`path`) and SVG.

    It shows both training losses, their absolute difference, val accuracy, and speed and memory relative to native.
    """
    with plt.rc_context(STYLE):
        figure, ((losses, accuracy), (difference, cost)) = plt.subplots(
            2, 2, figsize=(11, 7), gridspec_kw={"width_ratios": (3, 2)}
        )
        for name, side in study.sides.items():
            losses.plot(*thin(side.loss, MAX_POINTS), **{**SIDES[name], "marker": ""}, label=name)
            _plot_accuracy(accuracy, side.accuracy["val"], **SIDES[name], label=name)
        stretch = -(-len(study.loss_difference.curve) // MAX_POINTS)
        averaged = "of each step" if stretch == 1 else f"means of {stretch} steps"
        losses.set(title=f"training loss ({averaged})", xlabel="step", ylabel="cross-entropy in nats")
        losses.legend()
        accuracy.set(title="val accuracy", ylim=(0, None))
        accuracy.legend(loc="lower right")
        _draw_difference(difference, study.loss_difference)
        _draw_cost(cost, study.sides)
        save(figure, path, vector=True)


def _plot_accuracy(axis: Axes, rows: Sequence[EpochAccuracy], **style: Any) -> None:
    axis.plot([row.epoch for row in rows], [row.top1 for row in rows], **style)
    axis.set(xlabel="epoch", ylabel="top-1 in percent")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_difference(axis: Axes, difference: LossDifference) -> None:
    steps, values = np.asarray(difference.curve, dtype=float).T
    axis.plot(steps, np.maximum(values, MIN_DIFFERENCE), color="0.45", lw=0.8)
    axis.plot(difference.largest_at_step, difference.largest, "v", color="black", ms=7)
    text = f"largest: {difference.largest:.2g} at step {difference.largest_at_step}"
    axis.text(0.98, 0.05, text, transform=axis.transAxes, ha="right")
    axis.set(title="difference of the two losses", xlabel="step", ylabel="|custom − native| in nats", yscale="log")


def _draw_cost(axis: Axes, sides: dict[str, ConvRun]) -> None:
    quantities = {"images_per_second": ("images/s", 1.0), "peak_memory_bytes": ("MiB peak memory", 2.0**20)}
    for offset, (name, side) in zip((-0.2, 0.2), sides.items(), strict=True):
        positions = [position + offset for position in range(2)]
        shares = [getattr(side, key) / getattr(sides["native"], key) for key in quantities]
        bars = axis.bar(positions, shares, width=0.38, color=SIDES[name]["color"], label=name)
        axis.bar_label(bars, [f"{getattr(side, key) / unit:.0f}" for key, (_, unit) in quantities.items()])
    axis.set_xticks(range(2), [name for name, _ in quantities.values()])
    axis.set(title="speed and memory, native = 1", ylim=(0, axis.get_ylim()[1] * 1.25))
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper center", ncols=2)


def draw_design(study: DesignStudy, path: Path) -> None:
    """Save the figure of the design study as PNG (`path`) and SVG.

    It shows training curves of the networks, and top-1 differences of the variants from the reference in points.
    """
    networks = [row for row in study.variants if row.ladder or row.name == study.reference]
    networks = [row for row in networks if row.runs[0].curve]
    switches = [row for row in study.variants if not row.ladder]
    height = 1.2 + 0.3 * len(switches)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(12.5, 4.2 + height))
        parts: Any = figure.subfigures(2, 1, height_ratios=(4.2, height))
        loss, train, holdout = parts[0].subplots(1, 3)
        for row, color, marker in zip(networks, np.linspace(0, 0.9, len(networks)), MARKERS, strict=False):
            style = {"color": plt.get_cmap("viridis")(color), "marker": marker, "ms": 4, "lw": 1, "label": row.name}
            run = row.runs[0]
            steps, values = thin(run.curve, MAX_DESIGN_POINTS)
            loss.plot(steps * study.config.batch_size / 1000, values, **{**style, "ms": 3.5}, markevery=6)
            _plot_accuracy(train, run.accuracy["train"], **style)
            _plot_accuracy(holdout, run.accuracy["holdout"], **style)
        loss.set(title="training loss", xlabel="images seen, thousands", ylabel="cross-entropy in nats")
        loss.set_ylim(top=min(loss.get_ylim()[1], 1.5 * study.guessing_loss))
        train.set(title="accuracy on training images (augmented)", ylim=(0, None))
        holdout.set(title="accuracy on held-out images", ylim=(0, None))
        if networks:
            loss.legend(fontsize=8)
        _draw_differences(parts[1].subplots(), switches[::-1])
        save(figure, path, vector=True)


def _draw_differences(axis: Axes, variants: list[DesignRow]) -> None:
    center = next((row.top1 for row in variants if row.against is None and row.n), 0.0)
    for y, row in enumerate(variants):
        values = [run.top1 - center for run in row.finished]
        if not values:
            axis.text(0, y, row.verdict, va="center", fontsize=9)
            continue
        if row.noise is not None:
            axis.barh(y, 2 * row.noise, left=-row.noise, height=0.7, color="0.88")
        axis.plot(values, [y] * len(values), "o", color="0.35", ms=5, mfc="none")
        axis.plot(row.top1 - center, y, "|", color="black", ms=14, mew=2.5)
    axis.axvline(0, color="black", lw=1, ls="--")
    axis.set_yticks(range(len(variants)), [f"{row.name}: {row.what}" for row in variants], fontsize=9)
    axis.set(title="our recipe with one choice changed", ylim=(-0.6, len(variants) - 0.4))
    axis.set_xlabel("held-out top-1, points from our recipe (circles: runs, bars: means, gray: within noise)")
    axis.grid(axis="y", visible=False)


def draw_adversarial(study: AdversarialStudy, path: Path) -> None:
    """Save a figure of worst-case accuracy over ε, one curve per training variant, as PNG (`path`) and SVG."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 4.3))
        ticks = {0.0}
        for row, style in zip(study.variants, LINE_STYLES, strict=False):
            if isinstance(row, AdversarialRow):
                attacked = [(part.epsilon, part) for part in row.worst if part.epsilon]
                ticks |= {*plot_worst_case(axis, row.clean, attacked, ms=5, lw=1.4, label=row.name, **style)}
        axis.axvline(255 * study.epsilon, color="0.6", lw=1, ls=":", label="ε of training")
        axis.set(xlabel="ε, levels of 255 (L∞)", ylim=(0, None), xticks=sorted(ticks))
        axis.set_ylabel(f"accuracy, % of {study.images} held-out images")
        axis.set_title(f"worst case of all attacks, {study.config.minutes:g} minutes of training each")
        axis.legend(fontsize=8)
        save(figure, path, vector=True)
