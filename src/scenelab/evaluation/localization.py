"""Where do maps lie? The share of attribution inside each object, against the share of the picture that it covers, and
against what the map of another picture has there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scenelab.evaluation.intervals import bernoulli_error, ratio


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one image's map lies on the objects of one class in it.

    Attributes:
        image: which image.
        scene: the class that the model says.
        item: the object class.
        inside: share of the attribution on these objects, in [0, 1].
        elsewhere: the same share of another image's map: what a method and the habit of photographs to have things in
            the middle give by themselves.
        area: share of the picture that they cover, in (0, 1].
        hit: whether the map's largest value lies on them.
    """

    image: int
    scene: int
    item: int
    inside: float
    elsewhere: float
    area: float
    hit: bool


@dataclass(frozen=True, kw_only=True)
class Gaze:
    """What the looks of many images say of one object class.

    Attributes:
        density: share of attribution over share of area, Σ inside / Σ area; a map that spreads evenly has 1.
        interval: 95 %; None for fewer than `MIN_RATIO_TERMS` images, as for the others.
        elsewhere: the density that maps of other images have on these objects.
        gain: density - elsewhere, with its own interval, since both are of the same objects.
        hits: how often the largest value lies on the objects; `chance` is how often it would by area alone.
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
        """Whether the object is looked at more or less than other images' maps would do there."""
        if self.gain_interval is None:
            return "too few"
        low, high = self.gain_interval
        return "more" if low > 0 else "less" if high < 0 else "no difference"


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """The pointing game (Zhang et al. 2018, without their tolerance), image by image.

    Attributes:
        hits: images whose largest value lies on any labelled object, of `images`.
        chance: how many would by the area that objects cover.
        interval: 95 % of what chance gives: the sum of draws of unequal probability is nearly normal.
        empty: images whose map is nothing but zeros, which are not counted.
    """

    images: int
    hits: int
    chance: float
    interval: tuple[float, float]
    empty: int


def look(
    attribution: Float[Tensor, "1 h w"], other: Float[Tensor, "1 h w"], masks: dict[int, Bool[Tensor, "h w"]], *,
    image: int, scene: int,
) -> list[Look]:  # fmt: skip
    """Hold one map of values from 0 against the masks of the objects; objects that cover no pixel are passed over.

    A map of nothing but zeros has no place and gives no looks.

    Args:
        other: the map of another image.
    """
    shares = [_shares(values) for values in (attribution, other)]
    if shares[0] is None:
        return []
    own, others = shares[0], shares[1] if shares[1] is not None else torch.full_like(shares[0], 1 / shares[0].numel())
    top = peak(attribution)
    return [
        Look(
            image=image, scene=scene, item=item, inside=own[mask].sum().item(), elsewhere=others[mask].sum().item(),
            area=mask.double().mean().item(), hit=bool(mask[top]),
        )
        for item, mask in sorted(masks.items()) if mask.any()
    ]  # fmt: skip


def _shares(attribution: Float[Tensor, "1 h w"]) -> Float[Tensor, "h w"] | None:
    values = attribution[0].double().clamp_min(0)
    total = values.sum()
    return values / total if total else None


def peak(attribution: Float[Tensor, "1 h w"]) -> tuple[int, int]:
    """Where the largest value is; of several equal ones that nearest to their middle."""
    places = (attribution[0] == attribution.max()).nonzero().double()
    nearest = int((places - places.mean(dim=0)).square().sum(dim=1).argmin())
    row, column = places[nearest].long().tolist()
    return row, column


def point(attributions: Float[Tensor, "n 1 h w"], masks: list[dict[int, Bool[Tensor, "h w"]]]) -> Pointing:
    """Play the pointing game on maps of values from 0; images without an object that covers a pixel are left out."""
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
    middle = sum(chances)
    away = bernoulli_error(chances)
    return Pointing(images=len(chances), hits=hits, chance=middle, interval=(middle - away, middle + away), empty=empty)


def summarize_looks(looks: list[Look]) -> list[Gaze]:
    """Looks by object class, those of most images first."""
    by_item: dict[int, list[Look]] = {}
    for entry in looks:
        by_item.setdefault(entry.item, []).append(entry)
    return sorted((_gaze(item, entries) for item, entries in by_item.items()), key=lambda gaze: -gaze.images)


def _gaze(item: int, looks: list[Look]) -> Gaze:
    def column(value: Callable[[Look], float]) -> Tensor:
        return torch.tensor([value(entry) for entry in looks], dtype=torch.float64)

    area, inside = column(lambda entry: entry.area), column(lambda entry: entry.inside)
    elsewhere = column(lambda entry: entry.elsewhere)
    density, interval = ratio(inside, area)
    gain, gain_interval = ratio(inside - elsewhere, area)
    return Gaze(
        item=item, images=len(looks), density=density, interval=interval, elsewhere=ratio(elsewhere, area)[0],
        gain=gain, gain_interval=gain_interval, area=area.mean().item(), hits=sum(entry.hit for entry in looks),
        chance=area.sum().item(),
    )  # fmt: skip
