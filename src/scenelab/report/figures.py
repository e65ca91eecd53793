"""Figures of the report as SVG, legible in grayscale: lines differ in dashes and markers as well."""

import io
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from scenelab.evaluation.figures import STYLE
from scenelab.report.blocks import shorten
from scenelab.report.collect import RunData

DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX*"
MOST_POINTS = 120


def to_svg(figure: Figure) -> str:
    """The figure as SVG without a date, so that equal figures are equal files; text becomes paths."""
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "scenelab"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return shorten(buffer.getvalue())


def plain(name: str) -> str:
    """A name as it is: matplotlib takes what stands between dollars for mathematics."""
    return name.replace("_", " ").replace("$", r"\$")


def look(number: int) -> dict[str, Any]:
    """Colour, dashes and marker of the n-th line."""
    colour = plt.get_cmap("viridis")(0.85 * (number % 6) / 5)
    return {"color": colour, "ls": DASHES[number % len(DASHES)], "marker": MARKERS[number % len(MARKERS)], "ms": 4}


def draw_steps(runs: list[RunData], key: str, *, ylabel: str) -> str:
    """A quantity of the steps of each run, thinned to the mean of parts of equal length."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3.4))
        for number, run in enumerate(runs):
            points = np.array([[row["step"], row[key]] for row in run.rows if key in row], dtype=float)
            if not len(points):
                continue
            parts = np.array_split(points, min(len(points), MOST_POINTS))
            steps, values = np.array([part.mean(axis=0) for part in parts]).T
            axis.plot(steps, values, **look(number), lw=1.1, markevery=12, label=run.name)
        axis.set(xlabel="step", ylabel=ylabel)
        _legend(axis, len(runs))
        return to_svg(figure)


def draw_accuracy(runs: list[RunData], split: str) -> str:
    """Top-1 and top-5 by epoch on one split."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.4), sharex=True)
        for axis, name in zip(axes, ("top1", "top5"), strict=True):
            for number, run in enumerate(runs):
                rows = [row for row in run.rows if row.get("split") == split]
                if rows:
                    values = [row[name] for row in rows]
                    axis.plot([row["epoch"] for row in rows], values, **look(number), lw=1.1, label=run.name)
            axis.set(xlabel="epoch", ylabel=f"{name.replace('top', 'top-')} in percent", ylim=(0, None))
        _legend(axes[0], len(runs))
        return to_svg(figure)


def _legend(axis: Axes, count: int) -> None:
    if count > 1 and axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)


def draw_confusion(result: dict[str, Any]) -> str:
    """The confusion matrix, each row as shares of its true class."""
    counts = np.array(result["confusion"], dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [plain(name) for name in result["per_class"]]
    side = 6.6
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axis = plt.subplots(figsize=(side, 0.86 * side))
        rows, columns = np.nonzero(shares)  # squares of what is not zero alone: a hundred classes have 10,000
        squares = [
            [(x - 0.5, y - 0.5), (x + 0.5, y - 0.5), (x + 0.5, y + 0.5), (x - 0.5, y + 0.5)]
            for y, x in zip(rows, columns, strict=True)
        ]
        picture = PolyCollection(squares, array=shares[rows, columns], cmap="Greys", clim=(0, 1), linewidths=0)
        axis.add_collection(picture)
        axis.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
        figure.colorbar(picture, label="share of the true class", shrink=0.8)
        axis.set(xlabel="predicted", ylabel="true")
        if len(names) <= 20:
            axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
            axis.set_yticks(range(len(names)), names, fontsize=8)
        return to_svg(figure)


def draw_per_class(result: dict[str, Any], *, most: int = 12) -> str:
    """Top-1 of the easiest and the hardest classes, with the mean of all."""
    known = {name: value for name, value in result["per_class"].items() if value == value}  # NaN: no image
    pairs = sorted(known.items(), key=lambda pair: pair[1])
    chosen = pairs if len(pairs) <= 2 * most else [*pairs[:most], *pairs[-most:]]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 1.0 + 0.2 * len(chosen)))
        axis.barh(range(len(chosen)), [value for _, value in chosen], height=0.75, color="0.55")
        axis.axvline(result["mirror"]["top1"], color="black", lw=1, ls="--", label="all classes")
        if len(chosen) < len(pairs):
            axis.axhline(most - 0.5, color="black", lw=0.8)
        axis.set_yticks(range(len(chosen)), [plain(name) for name, _ in chosen], fontsize=8)
        axis.set(xlim=(0, 100), ylim=(-0.6, len(chosen) - 0.4), xlabel="top-1 accuracy in percent")
        axis.legend(fontsize=8, loc="lower right")
        axis.grid(axis="y", visible=False)
        return to_svg(figure)


def draw_reliability(result: dict[str, Any]) -> str:
    """Accuracy against confidence; the area of a dot says how many predictions it stands for."""
    bins = result["reliability"]
    largest = max(part["count"] for part in bins)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(4.4, 4.0))
        axis.plot([0, 1], [0, 1], color="0.5", ls="--", lw=1, label="as sure as right")
        confidence, accuracy = [part["confidence"] for part in bins], [part["accuracy"] for part in bins]
        axis.plot(confidence, accuracy, color="black", lw=1)
        areas = [8 + 120 * part["count"] / largest for part in bins]
        axis.scatter(confidence, accuracy, s=areas, color="black", label="predictions (area: how many)", zorder=3)
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
        axis.legend(fontsize=8, loc="upper left")
        return to_svg(figure)


def draw_robust(runs: list[RunData]) -> str:
    """What the worst of all attacks leaves against ε, a line a run, with 95 % intervals."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3.6))
        for number, run in enumerate(runs):
            result = run.results["robustness"]
            points = [{"epsilon": 0.0, **result["clean"]}]
            points += [
                {"epsilon": entry["epsilon"], **entry["worst"]} for entry in result["epsilons"] if entry["attacks"]
            ]
            heights = [point["accuracy"] for point in points]
            errors = [
                [max(0, height - point["interval"][0]) for height, point in zip(heights, points, strict=True)],
                [max(0, point["interval"][1] - height) for height, point in zip(heights, points, strict=True)],
            ]
            places = [255 * point["epsilon"] for point in points]
            bars = {"yerr": errors, "capsize": 3, "elinewidth": 0.8}
            axis.errorbar(places, heights, lw=1.3, label=run.name, **bars, **look(number))
        axis.set(xlabel="ε, levels of 255 (L∞)", ylabel="accuracy in percent", ylim=(0, None))
        _legend(axis, len(runs))
        return to_svg(figure)


def draw_loss_pair(study: dict[str, Any]) -> str:
    """Training loss of the convolution study's two sides."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3.2))
        for number, (name, side) in enumerate(study["sides"].items()):
            parts = np.array_split(np.array(side["loss"], dtype=float), min(len(side["loss"]), MOST_POINTS))
            steps, values = np.array([part.mean(axis=0) for part in parts]).T
            axis.plot(steps, values, **look(3 * number), lw=1.1, markevery=12, label=name)
        axis.set(xlabel="step", ylabel="training loss in nats")
        axis.legend(fontsize=8)
        return to_svg(figure)
