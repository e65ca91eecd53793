"""A gallery of attention maps: chosen images, their maps by every method on a stated scale, and a line about each."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.evaluation.attention import METHODS, Choice, Maps, scale, spread
from scenelab.evaluation.attention_figures import Look, Row
from scenelab.progress import progress
from scenelab.runs.network import Stored

PERCENTILE = 99.0
BATCH = 20
Scope = Literal["map", "method", "all"]

SCOPES: dict[Scope, str] = {
    "map": "each map on its own scale",
    "method": "one scale for all maps of a method in this gallery",
    "all": "one scale for all maps of all methods in this gallery, each divided by its mean: 1 is evenly spread",
}


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """How maps become pictures.

    Attributes:
        scope: what shares one scale: nothing (`map`), the maps of a method (`method`), or all maps (`all`).
        look: the map's colours over the grey picture (`overlay`) or alone (`heat`).
    """

    scope: Scope = "map"
    look: Look = "overlay"

    @property
    def caption(self) -> str:
        """What the colours stand for."""
        return (
            f"from 0 to the {PERCENTILE:g}th percentile (the number under a map; the largest value where that is 0), "
            "larger "
            "values cut; "
            f"{SCOPES[self.scope]}"
        )


@dataclass(frozen=True, kw_only=True)
class Section:
    """A gallery: its images with scaled maps, how they are shown, and what was found as plain values."""

    name: str
    title: str
    rendering: Rendering
    rows: list[Row]
    found: list[dict[str, Any]]


def make_gallery(
    stored: Stored, choice: Choice, images: Float[Tensor, "n 3 h w"], labels: list[int] | None, names: tuple[str, ...],
    rendering: Rendering, *, files: list[str] | None = None,
) -> Section:  # fmt: skip
    """Maps of the chosen images for what the model says of each.

    Args:
        labels: what the images show, where that is known.
        names: methods.
        files: names of the images, where they belong to no split.
    """
    confidence, targets = _guesses(stored, images)
    maps = _explain(stored, images, targets, names, title=choice.title)
    scaled, limits = scale_together(maps, rendering.scope)
    rows, found = [], []
    for number, target in enumerate(targets.tolist()):
        guess, label = stored.categories[target], None if labels is None else stored.categories[labels[number]]
        text = f"{guess} {100 * confidence[number]:.0f} %"
        if label not in (None, guess):
            text += f"\nis {label}"
        if files is not None:
            text = f"{files[number]}\n{text}"
        own = {name: values[number] for name, values in limits.items()}
        shown = {name: values[number, 0] for name, values in scaled.items()}
        rows.append(Row(picture=images[number], text=text, maps=shown, limits=own))
        image = files[number] if files is not None else choice.rows[number]
        found.append({"image": image, "guess": guess, "confidence": confidence[number], "label": label, "limits": own})
    return Section(name=choice.name, title=choice.title, rendering=rendering, rows=rows, found=found)


def _explain(
    stored: Stored,
    images: Float[Tensor, "n 3 h w"],
    targets: Int64[Tensor, " n"],
    names: tuple[str, ...],
    *,
    title: str,
) -> dict[str, Maps]:
    if not len(images):
        return dict.fromkeys(names, images[:, :1])
    with progress(f"maps: {title}", len(images) * len(names)) as advance:
        return {
            name: torch.cat(
                [
                    METHODS[name].explain(stored.model, part, chosen, advance)
                    for part, chosen in zip(images.split(BATCH), targets.split(BATCH), strict=True)
                ]
            )
            for name in names
        }


def scale_together(maps: dict[str, Maps], scope: Scope) -> tuple[dict[str, Maps], dict[str, list[float]]]:
    """Maps in [0, 1] by method, and what 1 stands for in each map."""
    scaled, limits = {}, {}
    if scope == "all":
        maps = {name: spread(values) for name, values in maps.items()}
    whole = _limit(list(maps.values())) if scope == "all" else None
    for name, values in maps.items():
        shared = _limit([values]) if scope == "method" else whole
        scaled[name], limits[name] = (
            scale(values, percentile=PERCENTILE, shared=shared) if len(values) else (values, [])
        )
    return scaled, limits


def _limit(maps: list[Maps]) -> float | None:
    values = np.concatenate([part.numpy().reshape(-1) for part in maps])
    return float(np.percentile(values, PERCENTILE)) if len(values) else None


def _guesses(stored: Stored, images: Float[Tensor, "n 3 h w"]) -> tuple[list[float], Int64[Tensor, " n"]]:
    """How sure the model is of its first guess at each image, and the guess."""
    if not len(images):
        return [], torch.empty(0, dtype=torch.int64)
    with torch.no_grad():
        found = torch.cat([stored.model(part) for part in images.split(BATCH)]).softmax(dim=1).max(dim=1)
    return found.values.tolist(), found.indices
