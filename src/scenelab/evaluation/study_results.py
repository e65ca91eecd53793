"""Schemas of the result files of studies."""

from scenelab.evaluation.intervals import Interval
from scenelab.evaluation.results import Share, Value
from scenelab.evaluation.robustness_results import MaskingSign
from scenelab.runs.config import TrainConfig
from scenelab.runs.provenance import Environment, TrainingResult

Curve = list[tuple[int, float]]
"""Pairs of step and value."""


class Study(Value):
    """Base class of studies: config of the runs, and environment of the process that wrote the study."""

    config: TrainConfig
    environment: Environment


class ValImages(Value):
    """Name of the data folder, and numbers of training and val images."""

    folder: str
    train_images: int
    val_images: int


class HeldOutImages(Value):
    """Name of the data folder, and number of training images that are held out."""

    folder: str
    held_out: int


class EpochAccuracy(Value):
    """Top-1 accuracy in percent after an epoch."""

    epoch: int
    step: int
    top1: float


class EpochMetrics(EpochAccuracy):
    """Mean loss (nats) and accuracy (percent) of one epoch on the train or val split."""

    loss: float
    top5: float


class ConvRun(Value):
    """Run of the convolution study: cost, training loss by step, and metrics per epoch by split."""

    peak_memory_bytes: int
    images_per_second: float
    accounting: TrainingResult
    loss: Curve
    accuracy: dict[str, list[EpochMetrics]]


class LossDifference(Value):
    """Absolute difference of two loss curves: first, median and largest value, and all values by step."""

    first: float
    median: float
    largest: float
    largest_at_step: int
    curve: Curve


class FinalMetrics(Value):
    """Metrics after the last epoch; accuracies in percent."""

    train_loss: float
    train_top1: float
    val_loss: float
    val_top1: float
    val_top5: float
    val_top1_interval: Interval


class ConvComparison(Value):
    """Comparison of the runs with native and custom convolution; ratios are custom over native."""

    sides: dict[str, ConvRun]
    speed_vs_native: float
    memory_vs_native: float
    loss_difference: LossDifference
    final: dict[str, FinalMetrics]
    largest_top1_difference: float


class ConvStudy(Study, ConvComparison):
    """Content of the convolution study's `study.json`."""

    what: str
    data: ValImages


class DesignRun(Value):
    """Run of the design study: training loss by step, accuracy per epoch by split, and `message` if it diverged."""

    seed: int
    message: str = ""
    curve: Curve = []  # noqa: RUF012
    accuracy: dict[str, list[EpochAccuracy]] = {}  # noqa: RUF012


class FinishedRun(DesignRun):
    """Run of the design study that did not diverge: training costs, held-out accuracy (percent) and loss (nats)."""

    images_seen: int
    epochs: float
    minutes: float
    images_per_second: float
    parameters: int
    training_flops: int
    steps: int
    top1: float
    top5: float
    loss: float


class DesignVariant(Value):
    """Variant of the design study and its runs; `against` is the name of the baseline variant."""

    name: str
    what: str
    ladder: bool
    against: str | None
    runs: list[FinishedRun | DesignRun]

    @property
    def finished(self) -> list[FinishedRun]:
        """Runs that did not diverge."""
        return [run for run in self.runs if isinstance(run, FinishedRun)]


class DesignRow(DesignVariant):
    """Variant of the design study with its verdict.

    Attributes:
        n: number of finished runs; without any, the means are missing.
        spread: standard deviation of top-1 between seeds, pooled over all variants; None without repeated runs.
        freedom: degrees of freedom of `spread`.
        range: smallest and largest top-1 accuracy.
        difference: mean top-1 minus that of the baseline, in percentage points.
        noise: critical value of |difference| at significance level 0.05, in percentage points.
    """

    n: int
    spread: float | None
    freedom: int
    verdict: str
    top1: float = 0.0
    top5: float = 0.0
    loss: float = 0.0
    images_per_second: float = 0.0
    epochs: float = 0.0
    images_seen: float = 0.0
    training_flops: float = 0.0
    parameters: int = 0
    range: tuple[float, float] = (0.0, 0.0)
    difference: float | None = None
    noise: float | None = None


class DesignStudy(Study):
    """Content of the design study's `design.json`; `guessing_loss` is the loss of uniform probabilities, in nats."""

    data: HeldOutImages
    reference: str
    guessing_loss: float
    variants: list[DesignRow]


class WorstCase(Share):
    """Accuracy under all attacks at one ε and all smaller ε; `name` is ε as text, such as `4/255`."""

    epsilon: float
    name: str


class DivergedVariant(Value):
    """Variant of the adversarial study whose training diverged."""

    name: str
    what: str
    message: str


class AdversarialRow(Value):
    """Variant of the adversarial study: cost of training, clean accuracy in percent, and accuracy under attack."""

    name: str
    what: str
    minutes: float
    epochs: float
    images_seen: int
    training_flops: int
    stopped: str
    top1: float
    top1_interval: Interval
    clean: Share
    worst: list[WorstCase]
    warnings: list[MaskingSign]


class AdversarialStudy(Study):
    """Content of `adversarial.json`; `epsilon` is the training radius ε, `images` the number of attacked images."""

    epsilon: float
    images: int
    held_out: int
    data: str
    variants: list[AdversarialRow | DivergedVariant]

    @property
    def finished(self) -> list[AdversarialRow]:
        """Variants whose training did not diverge."""
        return [row for row in self.variants if isinstance(row, AdversarialRow)]

    @property
    def columns(self) -> list[str]:
        """Each positive ε of the attacks, as text such as `4/255`."""
        return list(dict.fromkeys(part.name for row in self.finished for part in row.worst if part.epsilon))


class LayerSignal(Value):
    """Root mean square of a layer's signal and of its gradient relative to its weights; see `studies.signal`."""

    layer: str
    signal: float
    gradient: float


class Distance(Value):
    """Smoothed loss at a step, the range of the published losses there, and how far it lies outside."""

    step: int
    loss: float
    low: float
    high: float
    outside: float


class BaselineRow(Value):
    """Run of the handout's program, and the published curves with its settings.

    Attributes:
        warmup: steps of linear warm-up of the learning rate.
        loss: training loss by step, counted from 0.
        top1: val accuracy in percent by number of steps.
        plateau: first step at which the smoothed loss is 0.05 nats below that of guessing; None if there is none.
        published: smoothed training losses by team.
        published_top1: val accuracies by team.
        published_plateau: `plateau` by team.
        distance: largest distance of the smoothed loss from the range of the published ones; None without them.
    """

    name: str
    network: str
    warmup: int
    loss: Curve
    top1: Curve
    plateau: int | None
    published: dict[str, Curve]
    published_top1: dict[str, Curve]
    published_plateau: dict[str, int | None]
    distance: Distance | None


class BaselineStudy(Study):
    """Content of `baseline.json`; `signals` has the layers of each network with random weights."""

    data: ValImages
    guessing_loss: float
    runs: list[BaselineRow]
    signals: dict[str, list[LayerSignal]]
