"""Schemas of the results of attacks."""

from dataclasses import dataclass

from scenelab.evaluation.results import Result, Share, Value
from scenelab.schema import Number

LEFTOVER = ("apgd-t", "square")  # costly attacks, run only on images that resist all attacks before


@dataclass(frozen=True)
class MaskingSign:
    """Sign of gradient masking: a key of TEXTS (`sign`), and an explanation with measured values (`text`)."""

    sign: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Compute budget of the attacks."""

    steps: int = 20  # of PGD and APGD-CE
    targeted_steps: int = 20  # of APGD-T, per target class
    classes: int = 9  # target classes of APGD-T
    queries: int = 500  # of Square, per image


class Outcome(Value):
    """Result of one attack at one ε."""

    given: int  # number of attacked images
    fooled: list[int]  # indices, among the images of the measurement, on which the attack succeeded
    left: Share  # attacked images on which it failed, out of all images of the measurement
    png: int  # number of successful adversarial examples that still fool the model after saving as PNG
    largest: Number  # largest L∞ norm of a perturbation, in pixel units
    seconds: float


class EpsilonResult(Value):
    """Results per attack at one ε; accuracy under all attacks at this ε (`alone`) or at all ε up to it (`worst`)."""

    epsilon: float
    name: str
    attacks: dict[str, Outcome]
    alone: Share
    worst: Share


class RobustnessResult(Result):
    """Content of `results/robustness.json`; `begun` has the partial results at the ε of an interrupted measurement."""

    version: str
    split: str
    digest: str
    images: int
    norm: str
    effort: Effort
    seed: int
    methods: dict[str, str]
    epsilons: list[EpsilonResult]
    clean: Share
    begun: EpsilonResult | None = None
    checked: int = 0
    warnings: tuple[MaskingSign, ...] = ()
    undefined: int = 0  # images without probabilities (NaN or infinite logits), counted as misclassified
