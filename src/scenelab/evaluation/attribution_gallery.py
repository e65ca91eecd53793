"""Galleries of attribution maps: selection of images, maps by every method, and scaling of the maps."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.attribution import METHODS
from scenelab.classifier import Model, OnProgress, no_progress
from scenelab.evaluation.attribution_results import Explanation, Scope
from scenelab.evaluation.metrics import is_undefined
from scenelab.evaluation.predict import top1
from scenelab.progress import progress
from scenelab.runs.network import Stored

PERCENTILE = 99.0
BATCH_SIZE = 20
Maps = Float[Tensor, "n 1 h w"]
TITLES = {
    "right": "right and confident",
    "wrong": "wrong and confident",
    "classes": "one image of each class",
    "images": "images",
}
Style = Literal["overlay", "heat"]
SCOPES: dict[Scope, str] = {
    "map": "each map on its own scale",
    "method": "one scale for all maps of a method in this gallery",
    "all": "one scale for all maps of all methods in this gallery, each divided by its mean (1 is an even spread)",
}


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Drawing options: `scope` sets which maps share a color scale, `style` whether maps overlay the gray image."""

    scope: Scope = "map"
    style: Style = "overlay"

    @property
    def caption(self) -> str:
        """Caption that explains the colors."""
        return (
            f"from 0 to the {PERCENTILE:g}th percentile (the number below a map; the maximum if that is 0), larger "
            f"values clipped; {SCOPES[self.scope]}"
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """Image and its maps by method, scaled to [0, 1]."""

    image: Float[Tensor, "3 h w"]
    maps: dict[str, Float[Tensor, "h w"]]
    explanation: Explanation


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Images with attribution maps scaled to [0, 1], and settings for drawing the maps."""

    name: str
    rendering: Rendering
    rows: list[Row]

    @property
    def title(self) -> str:
        """Heading of the gallery."""
        return TITLES[self.name]


def select_examples(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], *, count: int, per_class: bool
) -> dict[str, list[int]]:
    """Return image indices by gallery: `right` and `wrong`, at most `count` images each, most confident first.

    `per_class` adds `classes`: per true class the most confident correct image, else the most confident wrong one.
    Images with undefined probabilities are left out.
    """
    confidence, predictions = logits.softmax(dim=1).max(dim=1)
    order = confidence.argsort(descending=True, stable=True)
    order = order[~is_undefined(logits)[order]]
    is_correct = (predictions == labels)[order]
    right, wrong = order[is_correct], order[~is_correct]
    rows = {"right": right[:count].tolist(), "wrong": wrong[:count].tolist()}
    if per_class:
        ranked = torch.cat([right, wrong])
        rows["classes"] = [int(ranked[labels[ranked] == label][0]) for label in labels[ranked].unique()]
    return rows


def make_gallery(
    name: str,
    sources: list[int] | list[str],
    images: Float[Tensor, "n 3 h w"],
    stored: Stored,
    methods: tuple[str, ...],
    rendering: Rendering,
    *,
    labels: list[int] | None = None,
) -> Gallery:
    """Return a gallery with the maps of every method for the predicted class of each image.

    `sources` are indices in a split or file names. `labels` are the true class indices, if known. Images with undefined
    probabilities are left out.
    """
    gallery = Gallery(name=name, rendering=rendering, rows=[])
    if not len(images):
        return gallery
    confidences, targets = top1(stored.model, images, batch_size=BATCH_SIZE)
    defined = torch.nonzero(~confidences.isnan())[:, 0].tolist()
    if len(defined) < len(images):
        labels = None if labels is None else [labels[row] for row in defined]
        sources, images = [sources[row] for row in defined], images[defined]  # pyright: ignore[reportAssignmentType]
        return make_gallery(name, sources, images, stored, methods, rendering, labels=labels)
    with progress(f"maps: {gallery.title}", len(images) * len(methods)) as advance:
        maps = {method: compute_maps(method, stored.model, images, targets, on_progress=advance) for method in methods}
    scaled, limits = scale_together(maps, rendering.scope)
    for number, (target, confidence) in enumerate(zip(targets.tolist(), confidences.tolist(), strict=True)):
        explanation = Explanation(
            image=sources[number],
            guess=stored.categories[target],
            confidence=confidence,
            label=None if labels is None else stored.categories[labels[number]],
            limits={method: values[number] for method, values in limits.items()},
        )
        image_maps = {method: values[number, 0] for method, values in scaled.items()}
        gallery.rows.append(Row(image=images[number], maps=image_maps, explanation=explanation))
    return gallery


def compute_maps(
    name: str,
    model: Model,
    images: Float[Tensor, "n 3 h w"],
    targets: Int64[Tensor, " n"],
    *,
    on_progress: OnProgress = no_progress,
) -> Maps:
    """Return the maps of a method in METHODS for the target classes, computed in batches."""
    parts = zip(images.split(BATCH_SIZE), targets.split(BATCH_SIZE), strict=True)
    return torch.cat([METHODS[name](model, part, classes, on_progress=on_progress) for part, classes in parts])


def divide_by_mean(maps: Maps) -> Maps:
    """Return each map divided by its own mean over pixels; a uniform map becomes 1, a map of zeros stays 0."""
    means = maps.mean(dim=(1, 2, 3), keepdim=True)
    return maps / torch.where(means > 0, means, torch.ones_like(means))


def scale_maps(maps: Maps, *, percentile: float = PERCENTILE, limit: float | None = None) -> tuple[Maps, list[float]]:
    """Divide each map by `limit`, by default its own `percentile`, and clamp it to [0, 1]; return maps and divisors."""
    values = maps.detach().flatten(1).double().cpu().numpy()  # torch.quantile has a size limit
    limits = torch.from_numpy(np.percentile(values, percentile, axis=1).reshape(-1))
    limits = torch.where(limits > 0, limits, maps.flatten(1).double().amax(dim=1))  # for maps with mostly zeros
    if limit is not None:
        limits = torch.full_like(limits, limit)
    safe = torch.where(limits > 0, limits, torch.ones_like(limits)).to(maps.dtype)
    return (maps / safe.view(-1, 1, 1, 1)).clamp(0, 1), limits.tolist()


def scale_together(maps: dict[str, Maps], scope: Scope) -> tuple[dict[str, Maps], dict[str, list[float]]]:
    """Return maps scaled to [0, 1] and their divisors, by method; SCOPES explains which maps share a divisor."""
    if scope == "all":
        maps = {name: divide_by_mean(values) for name, values in maps.items()}

    def limit(values: Maps) -> float | None:
        if scope == "map":
            return None
        sharing = maps.values() if scope == "all" else [values]
        return float(np.percentile(np.concatenate([part.numpy().reshape(-1) for part in sharing]), PERCENTILE))

    scaled = {name: scale_maps(values, limit=limit(values)) for name, values in maps.items()}
    return {name: pair[0] for name, pair in scaled.items()}, {name: pair[1] for name, pair in scaled.items()}
