"""Attention in pictures: sheets of images with their maps, curves of faithfulness, and what randomising does."""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from scenelab.evaluation.figures import STYLE, save

Look = Literal["overlay", "heat"]
COLOURS = "cividis"  # ordered in brightness, and the same for colour-blind eyes (Nuñez et al. 2018)
PANELS = 3  # of methods side by side
DENSITIES = (0.25, 0.5, 1, 2, 4)  # ticks
FADED = 0.25  # of a picture's contrast below an overlay
LOOKS: tuple[dict[str, Any], ...] = tuple(
    {"ls": style, "marker": marker, "color": colour}
    for style, marker, colour in zip(
        ("-", "-", "-", "-", "-", "--", "--", "--"), "osD^vxP*",
        plt.get_cmap("viridis")(np.linspace(0, 0.9, 8)[[0, 4, 2, 7, 5, 1, 6, 3]]), strict=True,
    )
)  # fmt: skip
"""Lines that differ in marker, dashes and brightness; neighbours are far apart."""

METHOD_LOOKS = dict(
    zip(("gradient", "smooth", "integrated", "cam", "occlusion", "gradient-input", "variance"), LOOKS, strict=False)
)
BASELINE_LOOKS: dict[str, dict[str, Any]] = {
    "random": {"color": "0.6", "ls": ":", "lw": 2.5},
    "edges": {"color": "0.5", "ls": "-.", "lw": 1.8},
    "blobs": {"color": "0.4", "ls": (0, (1, 1)), "lw": 1.4},
    "middle": {"color": "0.3", "ls": (0, (5, 1, 1, 1)), "lw": 1.2},
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image of a sheet: the picture, a line of text, its scaled maps by method in [0, 1], and what 1 stands for."""

    picture: Float[Tensor, "3 h w"]
    text: str
    maps: dict[str, Float[Tensor, "h w"]]
    limits: dict[str, float]


def paint(
    picture: Float[Tensor, "3 h w"], values: Float[Tensor, "h w"], look: Look, *, opacity: float = 1 - FADED
) -> np.ndarray:
    """The map's colours alone or on the faded grey picture, h×w×3 in [0, 1]: dark where the map is low."""
    colours = plt.get_cmap(COLOURS)(values.numpy())[:, :, :3]
    if look == "heat":
        return colours
    grey = picture.mean(dim=0).numpy()[:, :, None]
    return np.clip((1 - opacity) * grey + opacity * colours, 0, 1)


def draw_sheet(rows: list[Row], title: str, caption: str, path: Path, *, look: Look = "overlay") -> None:
    """Each image beside its maps, a row an image; the caption says what the colours stand for."""
    names = list(rows[0].maps) if rows else []
    side, head = 1.55, 0.75
    with plt.rc_context({**STYLE, "axes.grid": False}):
        size = (side * (1 + len(names)) + 0.9, side * len(rows) * 1.13 + head + 0.55)
        figure, axes = plt.subplots(len(rows), 1 + len(names), figsize=size, squeeze=False)
        for row, line in zip(rows, axes, strict=True):
            pictures = [
                row.picture.permute(1, 2, 0).numpy(),
                *(paint(row.picture, row.maps[name], look) for name in names),
            ]
            for axis, picture, name in zip(line, pictures, ["image", *names], strict=True):
                axis.imshow(picture, interpolation="nearest")
                axis.set_xticks([])
                axis.set_yticks([])
                for spine in axis.spines.values():
                    spine.set_visible(False)
                if row is rows[0]:
                    axis.set_title(name, fontsize=9)
            line[0].set_xlabel(row.text.replace("$", r"\$"), fontsize=7, loc="left")
            for axis, name in zip(line[1:], names, strict=True):
                axis.set_xlabel(f"{row.limits[name]:.2g}", fontsize=7, loc="right")
        figure.suptitle(title, fontsize=11)
        bar = figure.colorbar(
            plt.cm.ScalarMappable(cmap=COLOURS), ax=axes, orientation="horizontal", shrink=0.5, aspect=40, pad=0.01
        )
        over = "colours over the grey picture" if look == "overlay" else "colours"
        bar.set_label("\n".join(textwrap.wrap(f"{over}, {caption}", 14 * (2 + len(names)))), fontsize=8)
        save(figure, path)


def draw_faithfulness(faithfulness: dict[str, Any], path: Path) -> None:
    """Deletion and insertion curves, the mean over the images; baselines in grey."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
        for axis, kind, wish, gone in (
            (axes[0], "deletion", "low", "made grey"),
            (axes[1], "insertion", "high", "brought back"),
        ):
            for name, values in faithfulness["methods"].items():
                curve = values[kind]["curve"]
                share = np.linspace(0, 100, len(curve))
                look = BASELINE_LOOKS.get(name) or METHOD_LOOKS[name]
                label = f"{name} ({values[kind]['area']:.3f})"
                axis.plot(share, curve, **{"ms": 3.5, "markevery": 4, "lw": 1.3, **look}, label=label)
            axis.set(title=f"{kind} ({wish} is good)", xlabel=f"{gone}, % of the pixels, the most important first")
            axis.legend(fontsize=8, title="method (area)", title_fontsize=8)
        axes[0].set(ylabel="probability of the first guess", ylim=(0, None))
        save(figure, path, vector=True)


def draw_sanity(sanity: dict[str, Any], path: Path) -> None:
    """Rank correlation with the trained model's maps, layer by layer from the last."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True)
        for axis, kind in zip(axes, ("cascading", "independent"), strict=True):
            for name, values in sanity["methods"].items():
                heights = [np.nan if layer[kind] is None else layer[kind] for layer in values["layers"]]
                look = {"ms": 4, "lw": 1.2, **(BASELINE_LOOKS.get(name) or METHOD_LOOKS[name])}
                axis.plot(range(len(heights)), heights, **look, label=name)
                if kind == "cascading":
                    errors = [np.nan if layer["error"] is None else layer["error"] for layer in values["layers"]]
                    axis.errorbar(
                        range(len(heights)), heights, yerr=errors, fmt="none", ecolor=look["color"], elinewidth=0.6
                    )
            _layer_names(axis, [layer["layer"] for layer in next(iter(sanity["methods"].values()))["layers"]])
            axis.axhline(0, color="0.4", lw=0.8)
        axes[0].set(title="all layers from the last down to this one random", ylabel="rank correlation")
        axes[0].set(ylim=(-0.3, 1.02))
        axes[1].set(title="this layer alone random")
        axes[1].legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 0.96))
        save(figure, path, vector=True)


def _layer_names(axis: Axes, names: list[str]) -> None:
    short = [name.removeprefix("network.").removeprefix("features.") for name in names]
    axis.set_xticks(range(len(short)), short, rotation=90, fontsize=7)


def draw_gaze(gaze: dict[str, Any], path: Path, *, most: int = 24) -> None:
    """Density of attribution on the object classes that most images show, with 95 % intervals, a panel a method.

    A filled dot differs from what maps of other images have there, an open one does not.
    """
    methods = gaze["methods"]
    height = 1.6 + 0.22 * min(most, max(len(values["items"]) for values in methods.values()))
    columns = min(PANELS, len(methods))
    lines = -(-len(methods) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            lines, columns, figsize=(1.6 + 2.9 * columns, lines * height), squeeze=False, sharex=True
        )
        for axis in axes.flat[len(methods) :]:
            axis.axis("off")
        for axis, (name, values) in zip(axes.flat, methods.items(), strict=False):
            frequent = [item for item in values["items"] if item["interval"]][:most]
            shown = sorted(frequent, key=lambda item: item["density"])
            for row, item in enumerate(shown):
                low, high = item["interval"]
                axis.plot([max(low, DENSITIES[0] / 2), high], [row, row], color="0.5", lw=1.5)
                face = "white" if item["verdict"] == "no difference" else "black"
                axis.plot(item["density"], row, "o", color="black", ms=4, mfc=face)
                axis.plot(item["elsewhere"], row, "|", color="black", ms=8, mew=1.2)
            axis.axvline(1, color="black", lw=1, ls="--")
            labels = [f"{item['item']} ({item['images']})" for item in shown]
            axis.set_yticks(range(len(shown)), labels, fontsize=7)
            axis.set(title=name, xscale="log", xlabel="attribution over area\n(|: maps of other images)")
            axis.set_xticks(DENSITIES, [f"{density:g}" for density in DENSITIES])
            axis.minorticks_off()
            axis.grid(axis="y", visible=False)
        save(figure, path, vector=True)
