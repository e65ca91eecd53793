"""Figures that show several runs, as SVG and legible in grayscale."""

import io
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scenelab.evaluation.curves import plot_worst_case, thin
from scenelab.evaluation.figures import LINE_STYLES, STYLE, label
from scenelab.report.collect import RunData

MAX_POINTS = 120


def _style(index: int) -> dict[str, Any]:
    return {"ms": 4, "lw": 1.2, **LINE_STYLES[index % len(LINE_STYLES)]}


def _finish(figure: Figure, axis: Axes, runs: list[RunData]) -> str:
    """Add a legend if there are several runs, close the figure, and return it as SVG text without a date."""
    if len(runs) > 1 and axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "scenelab"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()


def draw_steps(runs: list[RunData], key: str, *, ylabel: str) -> str:
    """Return an SVG of the metric `key` over training steps: one curve per run, averaged over intervals of steps."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3.4))
        for index, run in enumerate(runs):
            points = [[row["step"], row[key]] for row in run.rows if key in row]
            if points:
                axis.plot(*thin(points, MAX_POINTS), **_style(index), markevery=12, label=label(run.name))
        axis.set(xlabel="step", ylabel=ylabel)
        return _finish(figure, axis, runs)


def draw_accuracy(runs: list[RunData], split: str) -> str:
    """Return an SVG of top-1 and top-5 accuracy on one split over epochs, one curve per run."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.4), sharex=True)
        for axis, name in zip(axes, ("top1", "top5"), strict=True):
            for index, run in enumerate(runs):
                points = [(row["epoch"], row[name]) for row in run.rows if row.get("split") == split]
                if points:
                    axis.plot(*zip(*points, strict=True), **_style(index), label=label(run.name))
            axis.set(xlabel="epoch", ylabel=f"{name.replace('top', 'top-')} in percent", ylim=(0, None))
        return _finish(figure, axes[0], runs)


def draw_robust(runs: list[RunData]) -> str:
    """Return an SVG of worst-case accuracy over ε (L∞) with 95 % confidence intervals, one curve per run."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3.6))
        for index, run in enumerate(runs):
            if result := run.robustness:
                attacked = [(entry.epsilon, entry.worst) for entry in result.epsilons if entry.attacks]
                plot_worst_case(axis, result.clean, attacked, label=label(run.name), **_style(index))
        axis.set(xlabel="ε, levels of 255 (L∞)", ylabel="accuracy in percent", ylim=(0, None))
        return _finish(figure, axis, runs)
