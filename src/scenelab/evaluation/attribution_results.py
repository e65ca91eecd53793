"""Schemas of the results of attribution maps and their tests."""

from dataclasses import dataclass
from typing import Literal

from scenelab.errors import printable
from scenelab.evaluation.intervals import Interval
from scenelab.evaluation.results import Result, SaliencyTest, Value
from scenelab.schema import FileName, Number

Scope = Literal["map", "method", "all"]


class Explanation(Value):
    """Index or file name of an image, predicted and true category, and upper limit of the color scale per method."""

    image: int | FileName
    guess: str
    confidence: Number
    label: str | None
    limits: dict[str, Number]

    @property
    def text(self) -> str:
        """Caption: file name if known, prediction with its probability, and the true category if it is different."""
        lines = [f"{self.guess} {100 * self.confidence:.0f} %"]
        if self.label not in (None, self.guess):
            lines.append(f"is {self.label}")
        return "\n".join(map(printable, [self.image, *lines] if isinstance(self.image, str) else lines))


class Gain(Value):
    """Mean over images of the difference in area from a baseline, and its 95 % interval; positive is better."""

    mean: Number
    interval: Interval | None


class CurveSummary(Value):
    """Mean curve and mean area over images, 95 % interval of the mean area, and gain over each baseline (`better`)."""

    curve: list[Number]
    area: Number
    interval: Interval | None
    better: dict[str, Gain]


class MethodFaithfulness(Value):
    """Deletion and insertion results of a method or, if `baseline` is true, of a baseline."""

    baseline: bool
    deletion: CurveSummary
    insertion: CurveSummary


class Faithfulness(SaliencyTest):
    """Deletion and insertion results by method, baselines first."""

    methods: dict[str, MethodFaithfulness]


class Completeness(SaliencyTest):
    """Mean over images of |Σ integrated gradients - Δ| (`gap`) and |Δ|, for Δ = logit(x) - logit(baseline)."""

    gap: Number
    explained: Number


@dataclass(frozen=True)
class LayerCheck:
    """Mean over images of the rank correlation between maps before and after a layer is randomized.

    `cascading`: this layer and all later ones are random. `independent`: only this layer is. None if most maps are
    constant.
    """

    layer: str  # name in the model; its normalization is randomized with it
    cascading: float | None
    independent: float | None
    error: float | None = 0.0  # half-width of the 95 % interval of `cascading`; None for one image
    images: int = 1  # number of cascading maps that are not constant


class MethodSanity(Value):
    """Verdict on a method as text, and a check per layer, last layer first."""

    verdict: str
    layers: list[LayerCheck]


class Sanity(SaliencyTest):
    """Randomization test results by method, and names of parameters that cannot be randomized (`untouched`)."""

    untouched: list[str]
    methods: dict[str, MethodSanity]


class ItemSummary(Value):
    """Summary of the overlaps with one object class; intervals are None for fewer than `MIN_RATIO_TERMS` images."""

    item: str
    images: int
    density: Number  # Σ inside / Σ area; 1 for an evenly spread map
    interval: Interval | None
    elsewhere: Number  # density of other images' maps on these objects
    gain: Number  # density - elsewhere
    gain_interval: Interval | None
    area: Number
    hits: int  # number of maps with the maximum on the objects
    chance: Number  # expected hits at random positions
    verdict: str  # `more` or `less` attribution than from other images' maps, `no difference` or `too few`


class Pointing(Value):
    """Result of the pointing game (Zhang et al. 2018) with a tolerance of 0 pixels."""

    images: int
    hits: int  # number of maps with the maximum on any object
    chance: Number  # expected hits at random positions
    interval: Interval  # 95 % interval of the hits at random positions, by the normal approximation
    empty: int  # number of maps of zeros, which are not in `images`


class SceneSummary(Value):
    """Overlap of attribution maps with objects in the images of one predicted class, per class of objects."""

    images: int
    items: list[ItemSummary]


class MethodLocalization(Value):
    """Results of one method: pointing game, and summaries per object class, over all images and per predicted scene."""

    pointing: Pointing
    items: list[ItemSummary]
    scenes: dict[str, SceneSummary]


class Localization(SaliencyTest):
    """Localization results by method, and the error messages of invalid annotations."""

    broken: list[str]
    methods: dict[str, MethodLocalization]


class AttributionResult(Result):
    """Content of `attribution.json` or, for image files, of `attribution-files.json` (without split and tests)."""

    split: str | None
    images: int
    digest: str = ""
    percentile: float
    scale: Scope
    methods: dict[str, str]
    galleries: dict[str, list[Explanation]]
    undefined: int = 0  # images without probabilities (NaN or infinite logits), in no gallery
    completeness: Completeness | None = None
    faithfulness: Faithfulness | None = None
    sanity: Sanity | None = None
    objects: Localization | None = None
