"""Draws the figures of docs/convolution.md: python docs/draw_convolution.py"""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

FOLDER = Path(__file__).parent
INPUT, PADDING, KERNEL, OUTPUT = "#a6cee3", "#f2f2f2", "#fdbf6f", "#b2df8a"  # ColorBrewer's Paired
EDGE = "#444444"
PHASES = ("#fdbf6f", "#cab2d6", "#b2df8a")


def cell(axes: Axes, x: float, y: float, text: str = "", color: str = "white", size: float = 10) -> None:
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=color, edgecolor=EDGE, linewidth=0.8))
    axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=size)


def frame(axes: Axes, x: float, y: float, width: float, height: float, color: str = "#d95f02") -> None:
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=color, linewidth=2.4))


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, color=EDGE, linewidth=1.2))


def blank(width: float, height: float, across: float, down: float) -> tuple[Figure, Axes]:
    """A picture of width × height inches whose axes count cells, rows downwards."""
    figure, axes = plt.subplots(figsize=(width, height))
    axes.set(xlim=(0, across), ylim=(down, 0), aspect="equal")
    axes.axis("off")
    return figure, axes


def save(figure: Figure, name: str) -> None:
    figure.savefig(FOLDER / name, bbox_inches="tight", pad_inches=0.05, metadata={"Date": None})
    plt.close(figure)


def draw_window() -> None:
    """K = 3, S = 2, P = 1 on a 4×5 picture with one channel."""
    figure, axes = blank(9, 3.9, 20.4, 8.2)
    side, rows, columns = 3, 4, 5
    picture = [[(3 * r + 2 * c) % 5 for c in range(columns)] for r in range(rows)]
    kernel = [[1, 0, -1], [2, 0, -2], [1, 0, -1]]

    def value(row: int, column: int) -> int:
        inside = 0 <= row < rows and 0 <= column < columns
        return picture[row][column] if inside else 0

    for row in range(-1, rows + 1):
        for column in range(-1, columns + 1):
            inside = 0 <= row < rows and 0 <= column < columns
            cell(axes, column + 1, row + 2, str(value(row, column)), INPUT if inside else PADDING)
    for row in range(side):
        for column in range(side):
            cell(axes, 9.6 + column, 3.2 + row, f"{kernel[row][column]:g}".replace("-", "−"), KERNEL)
    high, wide = (rows + 2 - side) // 2 + 1, (columns + 2 - side) // 2 + 1
    for row in range(high):
        for column in range(wide):
            total = sum(
                kernel[i][j] * value(2 * row + i - 1, 2 * column + j - 1) for i in range(side) for j in range(side)
            )
            cell(axes, 16.2 + column, 3.7 + row, f"{total}".replace("-", "−"), OUTPUT)
    frame(axes, 2, 3, side, side)
    frame(axes, 17.2, 4.7, 1, 1)
    arrow(axes, (7.4, 5), (9.3, 5))
    arrow(axes, (13, 5), (15.9, 5))
    axes.text(14.45, 4.6, "multiply, add up", ha="center", fontsize=9)
    for x, y, text in (
        (3.5, 0.6, "input X, 4×5, with a border of P = 1 zeros"),
        (11.1, 2.3, "filter W, K = 3"),
        (17.7, 2.3, f"output Y, {high}×{wide}, at S = 2"),
    ):
        axes.text(x, y, text, ha="center", fontsize=10)
    save(figure, "convolution-window.svg")


def draw_gradients() -> None:
    """Who touches whom, along one axis: K = 3, S = 1, P = 1."""
    figure, axes = blank(9, 3.4, 24, 8.6)
    length = 6
    for index in range(length):
        cell(axes, 1 + 1.4 * index, 5.6, f"x{index}", INPUT)
        cell(axes, 1 + 1.4 * index, 1.6, f"g{index}", OUTPUT)
        cell(axes, 14 + 1.4 * index, 5.6, f"x{index}", INPUT)
        cell(axes, 14 + 1.4 * index, 1.6, f"g{index}", OUTPUT)
    for offset, weight in ((-1, "w2"), (0, "w1"), (1, "w0")):
        start, end = 1.5 + 1.4 * (3 + offset), 1.5 + 1.4 * 3
        arrow(axes, (start, 2.7), (end, 5.5))
        axes.text(0.7 * start + 0.3 * end + 0.15, 3.5, weight, fontsize=9, color="#d95f02", ha="left")
    for index in range(length - 1):
        arrow(axes, (14.5 + 1.4 * (index + 1), 5.5), (14.5 + 1.4 * index, 2.7))
    axes.text(5, 0.7, "∂L/∂x3: every output that x3 took part in", ha="center", fontsize=10)
    axes.text(5, 7.5, "g2·w2 + g3·w1 + g4·w0: the filter turned round", ha="center", fontsize=10)
    axes.text(18, 0.7, "∂L/∂w2: every place that w2 was used at", ha="center", fontsize=10)
    axes.text(18, 7.5, "g0·x1 + g1·x2 + … : the picture, with g as the filter", ha="center", fontsize=10)
    save(figure, "convolution-gradients.svg")


def draw_rows() -> None:
    """A line of pixels in memory is already the list of its windows, three times over."""
    figure, axes = blank(9, 3.2, 15.6, 6.0)
    for index in range(12):
        cell(axes, 3 + index, 0.6, f"x{index}", INPUT)
    axes.text(2.7, 1.1, "memory", ha="right", va="center", fontsize=10)
    for phase, color in enumerate(PHASES):
        y = 2.2 + 1.3 * phase
        starts = range(phase, 12 - 2, 3)
        for start in starts:
            for step in range(3):
                cell(axes, 3 + start + step, y, f"x{start + step}", color)
            frame(axes, 3 + start, y, 3, 1, EDGE)
        text = "begin at " + ", ".join(str(start) for start in starts)
        axes.text(2.7, y + 0.5, text, ha="right", va="center", fontsize=10)
    save(figure, "convolution-rows.svg")


if __name__ == "__main__":
    mpl.rcParams |= {"svg.fonttype": "path", "svg.hashsalt": "scenelab", "font.family": "DejaVu Sans"}
    draw_window()
    draw_gradients()
    draw_rows()
