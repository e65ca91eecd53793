"""Where do maps lie? The share of attribution inside each object, against the share of the picture that it covers."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LEAST = 5  # images; of fewer no interval is given
RESAMPLED = 1000  # times, for an interval


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one image's map lies on the objects of one class in it.

    Attributes:
        image: which image.
        scene: the class that the model says.
        item: the object class.
        inside: share of the attribution on these objects, in [0, 1].
        area: share of the picture that they cover, in (0, 1].
        hit: whether the map's largest value lies on them: the pointing game of Zhang et al. (2018), adapted to maps of
            scenes, so without a tolerance.
    """

    image: int
    scene: int
    item: int
    inside: float
    area: float
    hit: bool


@dataclass(frozen=True, kw_only=True)
class Gaze:
    """What the looks of many images say of one object class.

    Attributes:
        density: share of attribution over share of area, Σ inside / Σ area; a map that spreads evenly has 1.
        interval: 95 %, from images drawn again with replacement; None for fewer than `LEAST` images.
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


def look(
    attribution: Float[Tensor, "1 h w"], masks: dict[int, Bool[Tensor, "h w"]], *, image: int, scene: int
) -> list[Look]:
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
            image=image, scene=scene, item=item, inside=values[mask].sum().item() / total,
            area=mask.double().mean().item(), hit=bool(mask.flatten()[top]),
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
    inside = torch.tensor([entry.inside for entry in looks], dtype=torch.float64)
    area = torch.tensor([entry.area for entry in looks], dtype=torch.float64)
    return Gaze(
        item=item, images=len(looks), density=(inside.sum() / area.sum()).item(), interval=_interval(inside, area),
        inside=inside.mean().item(), area=area.mean().item(), hits=sum(entry.hit for entry in looks),
        chance=area.sum().item(),
    )  # fmt: skip


def _interval(inside: Float[Tensor, " n"], area: Float[Tensor, " n"]) -> tuple[float, float] | None:
    """The middle 95 % of the ratio over bootstrap samples (Efron & Tibshirani 1993, section 13.3)."""
    if len(inside) < LEAST:
        return None
    drawn = torch.randint(len(inside), (RESAMPLED, len(inside)), generator=torch.Generator().manual_seed(0))
    ratios = inside[drawn].sum(dim=1) / area[drawn].sum(dim=1)
    low, high = torch.quantile(ratios, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def pointing_game(looks: list[Look]) -> tuple[int, float, int]:
    """How often the largest value lies on a labelled object, how often it would by area alone, out of how many."""
    return sum(entry.hit for entry in looks), sum(entry.area for entry in looks), len(looks)
