"""Localization: share of attribution inside each object, against its area and against another image's map."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scenelab.evaluation.intervals import bernoulli_error, ratio

Masks = dict[int, Bool[Tensor, "h w"]]
"""Masks of the objects in an image by object class."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Attribution of one image on the objects of one class.

    Attributes:
        image: index of the image.
        scene: predicted class.
        item: object class.
        inside: share of the attribution on these objects, in [0, 1].
        elsewhere: the same share for another image's map, due to the method and the habits of photographers alone.
        area: share of the image that the objects cover, in (0, 1].
        hit: whether the map's maximum is on them.
    """

    image: int
    scene: int
    item: int
    inside: float
    elsewhere: float
    area: float
    hit: bool


@dataclass(frozen=True, kw_only=True)
class ItemSummary:
    """Overlaps of many images with one object class.

    Attributes:
        density: Σ inside / Σ area; 1 for an evenly spread map.
        interval: 95 %; None for fewer than `MIN_RATIO_TERMS` images, like `gain_interval`.
        elsewhere: density of other images' maps on these objects.
        gain: density - elsewhere.
        hits: number of maps whose maximum is on the objects; `chance` is the number expected by area.
    """

    item: int
    images: int
    density: float
    interval: tuple[float, float] | None
    elsewhere: float
    gain: float
    gain_interval: tuple[float, float] | None
    area: float
    hits: int
    chance: float

    @property
    def verdict(self) -> str:
        """Whether the object gets more or less attribution than from other images' maps."""
        if self.gain_interval is None:
            return "too few"
        low, high = self.gain_interval
        return "more" if low > 0 else "less" if high < 0 else "no difference"


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """Result of the pointing game (Zhang et al. 2018, without their tolerance).

    Attributes:
        images: number of images that count.
        hits: maps whose maximum is on any object.
        chance: hits expected by the area of the objects.
        interval: 95 % of chance, by the normal approximation of draws of unequal probability.
        empty: images with a map of zeros, which do not count.
    """

    images: int
    hits: int
    chance: float
    interval: tuple[float, float]
    empty: int


def overlaps(
    attribution: Float[Tensor, "1 h w"], other: Float[Tensor, "1 h w"], masks: Masks, *, image: int, scene: int
) -> list[Overlap]:
    """Compare a map of at least 0 with object masks; empty masks are skipped, and a map of zeros gives none.

    Args:
        other: the map of another image.
    """
    shares, other_shares = _shares(attribution), _shares(other)
    if shares is None:
        return []
    if other_shares is None:
        other_shares = torch.full_like(shares, 1 / shares.numel())
    top = peak(attribution)
    return [
        Overlap(
            image=image,
            scene=scene,
            item=item,
            inside=shares[mask].sum().item(),
            elsewhere=other_shares[mask].sum().item(),
            area=mask.double().mean().item(),
            hit=bool(mask[top]),
        )
        for item, mask in sorted(masks.items())
        if mask.any()
    ]


def _shares(attribution: Float[Tensor, "1 h w"]) -> Float[Tensor, "h w"] | None:
    values = attribution[0].double().clamp_min(0)
    total = values.sum()
    return values / total if total else None


def peak(attribution: Float[Tensor, "1 h w"]) -> tuple[int, int]:
    """Return row and column of the maximum; of several, the one nearest to their centroid."""
    places = (attribution[0] == attribution.max()).nonzero().double()
    nearest = int((places - places.mean(dim=0)).square().sum(dim=1).argmin())
    row, column = places[nearest].long().tolist()
    return row, column


def pointing_game(attributions: Float[Tensor, "n 1 h w"], masks: list[Masks]) -> Pointing:
    """Play the pointing game on maps of at least 0; images without a visible object are skipped."""
    hits, chances, empty = 0, [], 0
    for values, objects in zip(attributions, masks, strict=True):
        covered = torch.zeros(values.shape[1:], dtype=torch.bool)
        for mask in objects.values():
            covered |= mask
        if not covered.any():
            continue
        if not (values > 0).any():
            empty += 1
            continue
        hits += bool(covered[peak(values)])
        chances.append(covered.double().mean().item())
    chance, radius = sum(chances), bernoulli_error(chances)
    interval = (chance - radius, chance + radius)
    return Pointing(images=len(chances), hits=hits, chance=chance, interval=interval, empty=empty)


def summarize(entries: list[Overlap]) -> list[ItemSummary]:
    """Summarize overlaps by object class, most images first."""
    by_item: dict[int, list[Overlap]] = {}
    for entry in entries:
        by_item.setdefault(entry.item, []).append(entry)
    return sorted((_summarize(item, part) for item, part in by_item.items()), key=lambda summary: -summary.images)


def _summarize(item: int, entries: list[Overlap]) -> ItemSummary:
    def column(value: Callable[[Overlap], float]) -> Tensor:
        return torch.tensor([value(entry) for entry in entries], dtype=torch.float64)

    area, inside = column(lambda entry: entry.area), column(lambda entry: entry.inside)
    elsewhere = column(lambda entry: entry.elsewhere)
    density, interval = ratio(inside, area)
    gain, gain_interval = ratio(inside - elsewhere, area)
    return ItemSummary(
        item=item,
        images=len(entries),
        density=density,
        interval=interval,
        elsewhere=ratio(elsewhere, area)[0],
        gain=gain,
        gain_interval=gain_interval,
        area=area.mean().item(),
        hits=sum(entry.hit for entry in entries),
        chance=area.sum().item(),
    )
