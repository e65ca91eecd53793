"""Where do maps lie? The share of attribution inside each object, against the share of the picture that it covers."""

import math
from dataclasses import dataclass
from statistics import mean, stdev

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scenelab.evaluation.student import quantile

LEAST = 5  # images; of fewer no interval is given


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one image's map lies on the objects of one class in it.

    Attributes:
        scene: the class that the model says.
        inside: share of the attribution on these objects, in [0, 1].
        area: share of the picture that they cover, in (0, 1].
        hit: whether the map's largest value lies on them (the pointing game, Zhang et al. 2018).
    """

    scene: int
    item: int
    inside: float
    area: float
    hit: bool


@dataclass(frozen=True, kw_only=True)
class Gaze:
    """What the looks of many images say of one object class: density is share of attribution over share of area.

    Attributes:
        density: the geometric mean over the images; 1 is what a map without preferences has.
        interval: 95 %, from Student's t on the logarithms; None for fewer than `LEAST` images.
        hits: how often the largest value lies on the objects; `chance` is how often it would by area alone.
    """

    item: int
    images: int
    density: float
    interval: tuple[float, float] | None
    inside: float
    area: float
    hits: int
    chance: float


def look(attribution: Float[Tensor, "1 h w"], masks: dict[int, Bool[Tensor, "h w"]], *, scene: int) -> list[Look]:
    """Hold one map of values from 0 against the masks of the objects; objects that cover no pixel are passed over.

    A map of nothing but zeros has no place and gives no looks.
    """
    values = attribution[0].double().clamp_min(0)
    total = values.sum().item()
    if not total:
        return []
    top = int(values.argmax())
    return [
        Look(
            scene=scene, item=item, inside=values[mask].sum().item() / total, area=mask.double().mean().item(),
            hit=bool(mask.flatten()[top]),
        )
        for item, mask in sorted(masks.items()) if mask.any()
    ]  # fmt: skip


def summarize_looks(looks: list[Look]) -> list[Gaze]:
    """Looks by object class, the densest first."""
    by_item: dict[int, list[Look]] = {}
    for entry in looks:
        by_item.setdefault(entry.item, []).append(entry)
    return sorted((_gaze(item, entries) for item, entries in by_item.items()), key=lambda gaze: -gaze.density)


def _gaze(item: int, looks: list[Look]) -> Gaze:
    logs = [math.log(max(entry.inside, 1e-6) / entry.area) for entry in looks]
    centre, interval = mean(logs), None
    if len(logs) >= LEAST:
        away = quantile(len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))
        interval = (math.exp(centre - away), math.exp(centre + away))
    return Gaze(
        item=item, images=len(looks), density=math.exp(centre), interval=interval,
        inside=mean(entry.inside for entry in looks), area=mean(entry.area for entry in looks),
        hits=sum(entry.hit for entry in looks), chance=sum(entry.area for entry in looks),
    )  # fmt: skip


def pointing_game(looks: list[Look]) -> tuple[int, float, int]:
    """How often the largest value lies on a labelled object, how often it would by area alone, out of how many."""
    return sum(entry.hit for entry in looks), sum(entry.area for entry in looks), len(looks)


def union(masks: dict[int, Bool[Tensor, "h w"]], side: int) -> Bool[Tensor, "h w"]:
    """The pixels on any object."""
    joined = torch.zeros(side, side, dtype=torch.bool)
    for mask in masks.values():
        joined |= mask
    return joined
