"""Draw the figures of a run, legible in grayscale: curves, confusion, accuracy per class, reliability."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

from scenelab.io import atomic_write

STYLE: dict[RcKeyType, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 10,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
}
MAX_LABELLED_CLASSES = 120  # more names are illegible


def save(figure: Figure, path: Path, *, vector: bool = False) -> None:
    """Write a figure as PNG, atomically, and close it.

    Args:
        figure: closed afterwards.
        path: of the PNG.
        vector: also write an SVG beside it, without a date, so that equal figures are equal files.
    """
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
    if vector:
        with plt.rc_context({"svg.hashsalt": "scenelab"}), atomic_write(path.with_suffix(".svg")) as file:
            figure.savefig(file, format="svg", metadata={"Date": None})
    plt.close(figure)


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw training loss and learning rate by step, and accuracy on train and val (or held-out) images by epoch."""
    steps = [row for row in rows if "training_loss" in row]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(13, 3.8))
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
        save(figure, path)


def draw_confusion(result: dict[str, Any], path: Path) -> None:
    """Draw the confusion matrix, each row as shares of its true class."""
    counts = result["confusion"]
    names = list(result["per_class"])
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    side = max(5.0, 0.13 * len(names) + 3)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axis = plt.subplots(figsize=(side * 1.1, side))
        matrix = axis.imshow(shares, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
        figure.colorbar(matrix, label="share of the true class", shrink=0.8)
        axis.set(xlabel="predicted", ylabel="true", title=f"confusion on {result['images']} {result['split']} images")
        if len(names) <= MAX_LABELLED_CLASSES:
            font = 9 if len(names) <= 20 else 5.5
            axis.set_xticks(range(len(names)), names, rotation=90, fontsize=font)
            axis.set_yticks(range(len(names)), names, fontsize=font)
        save(figure, path)


def draw_per_class(result: dict[str, Any], path: Path) -> None:
    """Draw top-1 accuracy per class, sorted, with the accuracy over all images."""
    pairs = sorted(result["per_class"].items(), key=lambda pair: pair[1])
    names, values = [name for name, _ in pairs], [value for _, value in pairs]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, max(3.0, 0.14 * len(names) + 1.2)))
        axis.barh(range(len(names)), values, height=0.8, color="C0")
        axis.axvline(result["mirror"]["top1"], color="black", lw=1, ls="--")
        axis.text(result["mirror"]["top1"] + 1, 0, f"all: {result['mirror']['top1']:.1f} %", fontsize=9, va="center")
        axis.set_yticks(range(len(names)), names, fontsize=9 if len(names) <= 20 else 6)
        axis.set(xlim=(0, 100), ylim=(-0.6, len(names) - 0.4), xlabel="top-1 accuracy in percent")
        axis.grid(axis="y", visible=False)
        save(figure, path)


def draw_reliability(result: dict[str, Any], path: Path) -> None:
    """Draw accuracy against confidence; the area of a dot is its number of predictions."""
    bins = result["reliability"]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(4.6, 4.4))
        axis.plot([0, 1], [0, 1], color="0.5", ls="--", lw=1, label="perfect calibration")
        confidence, accuracy = [part["confidence"] for part in bins], [part["accuracy"] for part in bins]
        largest = max(part["count"] for part in bins)
        areas = [8 + 120 * part["count"] / largest for part in bins]
        axis.plot(confidence, accuracy, color="C0", lw=1)
        axis.scatter(confidence, accuracy, s=areas, color="C0", label="predictions (area: count)", zorder=3)
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
        axis.set_title(f"expected calibration error {result['mirror']['ece']:.1f} %")
        axis.legend(fontsize=8, loc="upper left")
        save(figure, path)


def draw_all(result: dict[str, Any], rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Draw all figures of an evaluated run and return their paths."""
    split = result["split"]
    figures = {
        folder / f"{split}_confusion.png": draw_confusion,
        folder / f"{split}_per_class.png": draw_per_class,
        folder / f"{split}_reliability.png": draw_reliability,
    }
    for path, draw in figures.items():
        draw(result, path)
    if not rows:
        return list(figures)
    draw_curves(rows, folder / "curves.png")
    return [folder / "curves.png", *figures]
