"""Plots of attribution maps: sheets of images with their maps, an HTML page, and figures of the tests."""

import base64
import io
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from scenelab.errors import TYPOGRAPHY, printable
from scenelab.evaluation.attribution_gallery import Gallery, Rendering, Row, Style
from scenelab.evaluation.attribution_results import CurveSummary, Faithfulness, ItemSummary, Localization, Sanity
from scenelab.evaluation.figures import LINE_STYLES, label, new_figure, show_image
from scenelab.evaluation.results import Result
from scenelab.io import atomic_write

TEMPLATES = Path(__file__).parent / "templates"
MIN_WIDTH = 160  # minimum width of an image on the page, in pixels
COLORMAP = "cividis"  # ordered in lightness, also for colorblind readers (Nuñez et al. 2018)
OPACITY = 0.75  # of a map over the gray image
MAX_COLUMNS = 3  # panels side by side
DENSITIES = (0.25, 0.5, 1, 2, 4)  # ticks of the density axis
METHOD_STYLES: dict[str, dict[str, Any]] = {
    **dict(zip("gradient smooth integrated cam occlusion gradient-input variance".split(), LINE_STYLES, strict=False)),
    "random": {"color": "0.6", "ls": ":", "lw": 2.5},
    "edges": {"color": "0.5", "ls": "-.", "lw": 1.8},
    "blobs": {"color": "0.4", "ls": (0, (1, 1)), "lw": 1.4},
    "middle": {"color": "0.3", "ls": (0, (5, 1, 1, 1)), "lw": 1.2},
}


def paint(
    image: Float[Tensor, "3 h w"], values: Float[Tensor, "h w"], style: Style, *, opacity: float = OPACITY
) -> np.ndarray:
    """Return a map in [0, 1] as h×w×3 colors in [0, 1]; with `style="overlay"`, blend them with the gray image."""
    colors = plt.get_cmap(COLORMAP)(values.numpy())[:, :, :3]
    if style == "heat":
        return colors
    gray = image.mean(dim=0).numpy()[:, :, None]
    return np.clip((1 - opacity) * gray + opacity * colors, 0, 1)


def draw_sheet(rows: list[Row], title: str, rendering: Rendering, path: Path) -> None:
    """Write a PNG with one row per image, its maps side by side, and a color bar with the rendering's caption."""
    names, side = list(rows[0].maps), 1.55
    size = (side * (1 + len(names)) + 0.9, side * len(rows) * 1.13 + 1.3)
    with new_figure(path, len(rows), 1 + len(names), size=size, images=True, squeeze=False) as (figure, axes):
        for row, line in zip(rows, axes, strict=True):
            show_image(line[0], row.image.permute(1, 2, 0).numpy())
            line[0].set_xlabel("\n".join(map(label, row.explanation.text.split("\n"))), fontsize=7, loc="left")
            for axis, name in zip(line[1:], names, strict=True):
                show_image(axis, paint(row.image, row.maps[name], rendering.style))
                axis.set_xlabel(f"{row.explanation.limits[name]:.2g}", fontsize=7, loc="right")
        for axis, name in zip(axes[0], ["image", *names], strict=True):
            axis.set_title(name, fontsize=9)
        figure.suptitle(title, fontsize=11)
        colors = plt.cm.ScalarMappable(cmap=COLORMAP)
        bar = figure.colorbar(colors, ax=axes, orientation="horizontal", shrink=0.5, aspect=40, pad=0.01)
        prefix = "colors over the gray image" if rendering.style == "overlay" else "colors"
        bar.set_label("\n".join(textwrap.wrap(f"{prefix}, {rendering.caption}", 14 * (2 + len(names)))), fontsize=8)


def write_page(path: Path, result: Result, galleries: list[Gallery]) -> None:
    """Write an HTML page of galleries and test results; embed images, maps, and figures from the folder of `path`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(TEMPLATES))
    environment.globals |= {
        "paint": paint,
        "jpeg": _jpeg,
        "figure": lambda name: _data_url((path.parent / f"{name}.png").read_bytes(), "png"),
    }
    with atomic_write(path, "w") as file:
        page = environment.get_template("attribution.html").render(result=result, galleries=galleries)
        file.write(printable(page, keep=TYPOGRAPHY))


def _jpeg(pixels: np.ndarray) -> str:
    image = Image.fromarray((255 * pixels).round().astype(np.uint8))
    factor = -(-MIN_WIDTH // image.width)
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return _data_url(buffer.getvalue(), "jpeg")


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def draw_faithfulness(faithfulness: Faithfulness, path: Path) -> None:
    """Draw mean deletion and insertion curves of methods and, in gray, baselines, as PNG and SVG."""
    panels = (("deletion", "low", "made gray"), ("insertion", "high", "restored"))
    with new_figure(path, 1, 2, size=(10, 4), sharey=True) as (_, axes):
        for axis, (kind, good, change) in zip(axes, panels, strict=True):
            for name, values in faithfulness.methods.items():
                summary: CurveSummary = getattr(values, kind)
                style = {"ms": 3.5, "markevery": 4, "lw": 1.3, **METHOD_STYLES[name]}
                shares = np.linspace(0, 100, len(summary.curve))
                axis.plot(shares, summary.curve, **style, label=f"{name} ({summary.area:.3f})")
            axis.set(title=f"{kind} ({good} is good)", xlabel=f"{change}, % of the pixels, most important first")
            axis.legend(fontsize=8, title="method (area)", title_fontsize=8)
        axes[0].set(ylabel="probability of the predicted class", ylim=(0, None))


def draw_sanity(sanity: Sanity, path: Path) -> None:
    """Plot the rank correlation of maps before and after randomization against layers, as PNG and SVG."""
    layers = next(iter(sanity.methods.values())).layers
    names = [layer.layer.removeprefix("network.").removeprefix("features.") for layer in layers]
    with new_figure(path, 1, 2, size=(12, 4.8), sharey=True) as (_, axes):
        for axis, kind in zip(axes, ("cascading", "independent"), strict=True):
            for name, values in sanity.methods.items():
                heights = np.array([getattr(layer, kind) for layer in values.layers], dtype=float)  # None becomes NaN
                style = {"ms": 4, "lw": 1.2, **METHOD_STYLES[name]}
                axis.plot(range(len(heights)), heights, **style, label=name)
                if kind == "cascading":
                    errors = np.array([layer.error for layer in values.layers], dtype=float)
                    bars = {"fmt": "none", "ecolor": style["color"], "elinewidth": 0.6}
                    axis.errorbar(range(len(heights)), heights, yerr=errors, **bars)
            axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
            axis.axhline(0, color="0.4", lw=0.8)
        axes[0].set(title="all layers from the last to this one random", ylabel="rank correlation", ylim=(-0.3, 1.02))
        axes[1].set(title="only this layer random")
        axes[1].legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 0.96))


def draw_objects(objects: Localization, path: Path, *, max_items: int = 24) -> None:
    """Draw attribution density (attribution over area) by object class, with 95 % intervals, as PNG and SVG.

    Each method has a panel of the `max_items` classes with the most images, sorted by density. Filled dots differ
    significantly from the baseline (maps of other images), open dots do not.
    """
    methods = objects.methods
    height = 1.6 + 0.22 * min(max_items, max(len(values.items) for values in methods.values()))
    columns = min(MAX_COLUMNS, len(methods))
    lines = -(-len(methods) // columns)
    size = (1.6 + 2.9 * columns, lines * height)
    with new_figure(path, lines, columns, size=size, squeeze=False, sharex=True) as (_, axes):
        for axis in axes.flat[len(methods) :]:
            axis.axis("off")
        for axis, (name, values) in zip(axes.flat, methods.items(), strict=False):
            frequent = [item for item in values.items if item.interval][:max_items]
            _draw_densities(axis, sorted(frequent, key=lambda item: item.density))
            axis.set(title=name, xscale="log", xlabel="attribution over area\n(|: maps of other images)")
            axis.set_xticks(DENSITIES, [f"{density:g}" for density in DENSITIES])
            axis.minorticks_off()
            axis.grid(axis="y", visible=False)


def _draw_densities(axis: Axes, items: list[ItemSummary]) -> None:
    for row, item in enumerate(items):
        low, high = item.interval or (item.density, item.density)
        axis.plot([max(low, DENSITIES[0] / 2), high], [row, row], color="0.5", lw=1.5)
        face = "white" if item.verdict == "no difference" else "black"
        axis.plot(item.density, row, "o", color="black", ms=4, mfc=face)
        axis.plot(item.elsewhere, row, "|", color="black", ms=8, mew=1.2)
    axis.axvline(1, color="black", lw=1, ls="--")
    axis.set_yticks(range(len(items)), [f"{label(item.item)} ({item.images})" for item in items], fontsize=7)
