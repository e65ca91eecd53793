"""Schemas of the results of evaluation and challenge. Like the other modules of results, it imports no torch."""

from dataclasses import dataclass

from scenelab.evaluation.intervals import Interval, wilson
from scenelab.evaluation.results import Result, Share, Stamped, Value
from scenelab.runs.provenance import TrainingResult
from scenelab.schema import FileName, Line, Number

SCORE_COLUMNS = ("class", "images", "precision %", "recall %", "95 %", "F1 %")


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Predictions with confidence in (low, high]: their count, and their mean confidence and accuracy in [0, 1]."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Accuracy on the images with at least this confidence (in [0, 1]); coverage and accuracy are in percent."""

    confidence: float
    coverage: float
    images: int
    accuracy: float
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """Scores of a class in percent, NaN where undefined, and its number of images."""

    precision: Number
    recall: Number
    f1: Number
    support: int


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """Number of images of class `true` predicted as class `predicted`; `of` is the number of images of class `true`."""

    true: str
    predicted: str
    count: int
    of: int


class Accuracy(Value):
    """Top-1 and top-5 accuracy, 95 % intervals, and calibration error, in percent; mean cross-entropy in nats."""

    top1: Number
    top1_interval: Interval
    top5: Number
    top5_interval: Interval
    loss: Number
    ece: Number


class Calibrated(Value):
    """Loss and calibration error of probabilities with a temperature, in the units of `Accuracy`.

    If the temperature was fitted on these images (`is_fitted`), each half is calibrated by the other half.
    """

    temperature: float
    is_fitted: bool
    loss: Number
    ece: Number
    reliability: list[Bin]


class Rejection(Value):
    """Images of the classes (`known`) that the threshold keeps, and `unknown` others that it calls none of these.

    If the threshold was fitted on the known images, each half is judged by the other half's; None if these are too
    small. `auroc` is the area under the ROC curve of the score.
    """

    threshold: float
    known: Share | None
    unknown: Share | None = None
    auroc: float | None = None


class EvaluationResult(Result):
    """Content of `results/SPLIT.json`: metrics on a split; a class without images has an accuracy of NaN, null in JSON.

    `undefined` images have no probabilities (NaN or infinite logits) and count as misclassified; confusion matrix and
    reliability leave them out. Accuracy, loss and `reliability` are of temperature 1; `coverage` has calibrated
    confidences. `precision` says in words how the logits were computed.
    """

    split: str
    source: FileName
    images: int
    digest: str
    epoch: int
    plain: Accuracy
    mirror: Accuracy
    per_class: dict[str, Number]
    most_confused: list[ConfusedPair]
    reliability: list[Bin]
    confusion: list[list[int]]
    undefined: int = 0
    scores: dict[str, ClassScore] = {}  # noqa: RUF012
    coverage: list[Coverage] = []  # noqa: RUF012
    calibrated: Calibrated | None = None
    rejection: Rejection | None = None
    precision: Line = "float32"


class ChallengeCard(Stamped, TrainingResult):
    """Content of `results/challenge.json`: training cost, limits, and top-1 to top-5 errors on val, if available."""

    largest_bytes: int
    k40_budget_flops: float
    share_of_k40_peak: float
    assumed_utilization: float = 1.0
    predictions: str = ""
    images: int = 0
    val_images: int = 0
    val_errors: tuple[float, ...] = ()


def score_rows(scores: dict[str, ClassScore]) -> list[list[str]]:
    """Return the cells of `SCORE_COLUMNS` of each class that has images, with a Wilson interval of its recall."""
    rows = []
    for name, score in scores.items():
        if score.support:
            precision = "never predicted" if score.precision != score.precision else f"{score.precision:.0f}"
            low, high = wilson(round(score.recall * score.support / 100), score.support)
            cells = [precision, f"{score.recall:.0f}", f"{low:.0f}–{high:.0f}", f"{score.f1:.0f}"]
            rows.append([name, str(score.support), *cells])
    return rows
