"""Figures of a run as PNG and SVG files, legible in grayscale: training curves and metrics."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from scenelab.errors import printable
from scenelab.evaluation.accuracy_results import Bin, Coverage
from scenelab.io import atomic_write

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType  # not in the Matplotlib of Python 3.10

STYLE: "dict[RcKeyType, Any]" = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 10,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
}
LINE_STYLES: tuple[dict[str, Any], ...] = tuple(
    {"ls": dashes, "marker": marker, "color": plt.get_cmap("viridis")(0.9 * shade / 7)}
    for dashes, marker, shade in zip(["-"] * 5 + ["--"] * 3, "osD^vxP*", (0, 4, 2, 7, 5, 1, 6, 3), strict=True)
)
"""Line styles that differ in marker, dashes and lightness; neighbors in the list differ most."""

MAX_LABELED_CLASSES = 120  # more names are illegible
MAX_LABEL, MISSING_GLYPH = 32, "\N{REPLACEMENT CHARACTER}"  # characters per label


@contextmanager
def new_figure(
    path: Path, rows: int = 1, columns: int = 1, *, size: tuple[float, float], images: bool = False, **options: Any
) -> Iterator[tuple[Figure, Any]]:
    """Yield a figure of `size` inches and its axes, then write PNG and SVG; for `images`, no grid and no SVG."""
    with plt.rc_context({**STYLE, "axes.grid": not images}):
        figure, axes = plt.subplots(rows, columns, figsize=size, **options)
        yield figure, axes
        save(figure, path, vector=not images)


def save(figure: Figure, path: Path, *, vector: bool = True) -> None:
    """Write a figure as PNG and, with `vector`, as SVG without date and random identifiers; close the figure."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
    if vector:
        with plt.rc_context({"svg.hashsalt": "scenelab"}), atomic_write(path.with_suffix(".svg")) as file:
            figure.savefig(file, format="svg", metadata={"Date": None})
    plt.close(figure)


def label(text: str) -> str:
    """Return untrusted text as one short line for matplotlib: no formulas, only glyphs of the font."""
    charmap = get_font(findfont(FontProperties())).get_charmap()
    line = printable(text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}…")
    line = f" {line}" if line.startswith("_") else line  # legends omit labels with an underscore in front
    return "".join(letter if ord(letter) in charmap else MISSING_GLYPH for letter in line).replace("$", r"\$")


def show_image(axis: Axes, pixels: Any) -> None:
    """Draw an h×w×3 image with values in [0, 1] on `axis`, without ticks and frame."""
    axis.imshow(pixels, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot logged metrics (`rows`): loss and learning rate per step, train and val (or held-out) accuracy per epoch."""
    steps = [row for row in rows if "training_loss" in row]
    with new_figure(path, 1, 3, size=(13, 3.8)) as (_, axes):
        axes[0].plot([row["step"] for row in steps], [row["training_loss"] for row in steps], lw=0.8, color="C0")
        axes[0].set(title="training loss", xlabel="step", ylabel="cross-entropy in nats")
        axes[1].plot([row["step"] for row in steps], [row["learning_rate"] for row in steps], color="C1")
        axes[1].set(title="learning rate", xlabel="step", ylim=(0, None))
        evaluated = "holdout" if any(row.get("split") == "holdout" for row in rows) else "val"
        for split, style in (("train", "o--"), (evaluated, "s-")):
            epochs = [row for row in rows if row.get("split") == split]
            for name, color in (("top1", "C0"), ("top5", "C2")):
                label = f"{split} {name.replace('top', 'top-')}"
                values = [row[name] for row in epochs]
                axes[2].plot([row["epoch"] for row in epochs], values, style, ms=3, color=color, label=label)
        axes[2].set(title="accuracy (train: on augmented images)", xlabel="epoch", ylabel="percent", ylim=(0, 100))
        axes[2].legend(fontsize=8, loc="lower right")


def draw_confusion(counts: list[list[int]], names: list[str], title: str, path: Path) -> None:
    """Write a figure of the confusion matrix, with each row (true class) divided by its sum."""
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    side = max(5.0, 0.13 * len(names) + 3)
    with new_figure(path, size=(side * 1.1, side)) as (figure, axis):
        axis.grid(visible=False)
        matrix = axis.imshow(shares, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
        figure.colorbar(matrix, label="share of the true class", shrink=0.8)
        axis.set(xlabel="predicted", ylabel="true", title=title)
        if len(names) <= MAX_LABELED_CLASSES:
            font = 9 if len(names) <= 20 else 5.5
            axis.set_xticks(range(len(names)), map(label, names), rotation=90, fontsize=font)
            axis.set_yticks(range(len(names)), map(label, names), fontsize=font)


def draw_per_class(accuracies: dict[str, float], overall: float, path: Path) -> None:
    """Write a bar chart of top-1 accuracy per class, sorted, and of the accuracy over all images, in percent."""
    names = sorted((name for name, value in accuracies.items() if not math.isnan(value)), key=accuracies.__getitem__)
    with new_figure(path, size=(7, max(3.0, 0.14 * len(names) + 1.2))) as (_, axis):
        axis.barh(range(len(names)), [accuracies[name] for name in names], height=0.8, color="C0")
        axis.axvline(overall, color="black", lw=1, ls="--")
        axis.text(overall + 1, 0, f"all: {overall:.1f} %", fontsize=9, va="center")
        axis.set_yticks(range(len(names)), map(label, names), fontsize=9 if len(names) <= 20 else 6)
        axis.set(xlim=(0, 100), ylim=(-0.6, len(names) - 0.4), xlabel="top-1 accuracy in percent")
        axis.grid(axis="y", visible=False)


def draw_reliability(bins: list[Bin], error: float, path: Path) -> None:
    """Write the reliability diagram, with larger dots for larger bins; `error` is the calibration error in percent."""
    with new_figure(path, size=(4.6, 4.4)) as (_, axis):
        axis.plot([0, 1], [0, 1], color="0.5", ls="--", lw=1, label="perfect calibration")
        confidence, accuracy = [part.confidence for part in bins], [part.accuracy for part in bins]
        largest = max((part.count for part in bins), default=1)
        areas = [8 + 120 * part.count / largest for part in bins]
        axis.plot(confidence, accuracy, color="C0", lw=1)
        axis.scatter(
            confidence, accuracy, s=areas, color="C0", label="predictions (area: count)", zorder=3, clip_on=False
        )
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
        axis.set_title("expected calibration error " + ("undefined" if math.isnan(error) else f"{error:.1f} %"))
        axis.legend(fontsize=8, loc="upper left")


def draw_coverage(curve: list[Coverage], path: Path) -> None:
    """Plot the accuracy on the images that get an answer against their share, with 95 % intervals."""
    with new_figure(path, size=(5.2, 3.6)) as (_, axis):
        shares, heights = [point.coverage for point in curve], [point.accuracy for point in curve]
        axis.fill_between(shares, *zip(*(point.interval for point in curve), strict=True), alpha=0.2, label="95 %")
        axis.plot(shares, heights, "o-", ms=4)
        for point in curve[::3]:
            text = f"{100 * point.confidence:.0f} %"
            place = (point.coverage, point.accuracy)
            axis.annotate(text, place, textcoords="offset points", xytext=(0, 8), ha="center", fontsize=8)
        axis.set(xlim=(0, 104), xlabel="images with an answer in percent", ylabel="top-1 accuracy in percent")
        axis.set_title("no answer below a probability (numbers)", fontsize=10)
