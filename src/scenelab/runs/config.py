"""What a training run is: frozen, checked, and written into the run folder word for word."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from scenelab.data.augment import Augment
from scenelab.errors import LabError
from scenelab.fields import build, require_fields

LARGEST_SIDE = 4096  # pixels
LONGEST_RUN = 10**6  # epochs, or minutes: two years
"""What a config may ask for at most: far beyond any use, and short of what a machine could not even begin."""


def _require(ok: bool, name: str, got: object, expected: str) -> None:
    if not ok:
        raise LabError(f"{name} is {got!r}; expected {expected}")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Which optimiser learns.

    Attributes:
        name: `sgd` with momentum, `adamw` (Loshchilov & Hutter 2019), or `muon` (Jordan et al. 2024) for the
            convolution weights with AdamW for the rest.
        lr: peak learning rate; for `muon` that of the convolution weights.
        momentum: of SGD and Muon.
        weight_decay: L2 for SGD as the handout has it, decoupled for the others.
        decay_vectors: whether biases and norm parameters are decayed too (the handout does).
        adam_lr: peak learning rate of the AdamW part of `muon`.
    """

    name: Literal["sgd", "adamw", "muon"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_vectors: bool = True
    nesterov: bool = False
    adam_lr: float = 2e-3

    def __post_init__(self) -> None:
        require_fields(self, "optimizer.", most={"lr": 1e6, "adam_lr": 1e6, "weight_decay": 1e6})
        _require(self.name in ("sgd", "adamw", "muon"), "optimizer.name", self.name, "sgd, adamw or muon")
        _require(self.lr > 0, "optimizer.lr", self.lr, "a number above 0")
        _require(self.adam_lr > 0, "optimizer.adam_lr", self.adam_lr, "a number above 0")
        _require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "a number in [0, 1)")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning rate and picture size over time.

    Attributes:
        warmup_epochs: linear rise from 0 to the peak, a step at a time.
        final: learning rate at the end as a share of the peak, reached along half a cosine.
        sizes: `(from, side)` pairs: from this share of the run on, train on side×side pictures; the first is 0.
    """

    warmup_epochs: float = 0.0
    final: float = 0.0
    sizes: tuple[tuple[float, int], ...] = ((0.0, 128),)

    def __post_init__(self) -> None:
        require_fields(self, "schedule.", most={"warmup_epochs": LONGEST_RUN})
        _require(self.warmup_epochs >= 0, "schedule.warmup_epochs", self.warmup_epochs, "0 or more")
        _require(0 <= self.final <= 1, "schedule.final", self.final, "a share in [0, 1]")
        starts = [start for start, _ in self.sizes]
        ordered = bool(starts) and starts[0] == 0 and starts == sorted(set(starts)) and starts[-1] < 1
        _require(ordered, "schedule.sizes", self.sizes, "shares rising from 0.0, all below 1")
        fit = all(16 <= side <= LARGEST_SIDE for _, side in self.sizes)
        _require(fit, "schedule.sizes", self.sizes, f"sides from 16 to {LARGEST_SIDE} pixels")


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Which adversarial images are trained on.

    Attributes:
        method: `pgd` (Madry et al. 2018); `fast`, one step from a random start (Wong et al. 2020); `free`, each batch
            replayed while its images move (Shafahi et al. 2019); or `handout`, its attack towards the least likely
            class.
        epsilon: largest change of a value of a pixel, in pixel units; for `handout` of a normalised value.
        steps: of the attack, or replays of a batch for `free`; `fast` has 1.
        step_size: of each; 0 takes the method's own: 2.5 ε / steps for `pgd`, 1.25 ε for `fast`, ε for `free`, 0.01 for
            `handout`.
        probed: training images that are attacked after each epoch, to notice that the network only learned to hide.
    """

    method: Literal["pgd", "fast", "free", "handout"]
    epsilon: float
    steps: int = 1
    step_size: float = 0.0
    probed: int = 256

    def __post_init__(self) -> None:
        require_fields(self, "adversarial.", most={"steps": 10_000, "step_size": 1, "probed": 10**6})
        methods = ("pgd", "fast", "free", "handout")
        _require(self.method in methods, "adversarial.method", self.method, ", ".join(methods))
        _require(0 < self.epsilon <= 1, "adversarial.epsilon", self.epsilon, "above 0, at most 1, such as 4/255")
        _require(self.steps >= 1, "adversarial.steps", self.steps, "1 or more")
        _require(self.method != "fast" or self.steps == 1, "adversarial.steps", self.steps, "1 for fast")
        _require(self.step_size >= 0, "adversarial.step_size", self.step_size, "0 (the method's own) or more")
        _require(self.probed >= 1, "adversarial.probed", self.probed, "1 or more")

    @property
    def size(self) -> float:
        """The size of a step."""
        own = {"pgd": 2.5 * self.epsilon / self.steps, "fast": 1.25 * self.epsilon, "free": self.epsilon}
        return self.step_size or own.get(self.method, 0.01)

    @property
    def passes(self) -> float:
        """Operations of a training step over those of one without an attack: an attack's step computes no gradient of
        the weights, which is a third of the work; the handout's looks at the clean images as well.
        """
        if self.method == "free":
            return float(self.steps)
        return 1 + 2 / 3 * self.steps + (1 / 3 if self.method == "handout" else 0)


MOST = {
    "epochs": LONGEST_RUN,
    "minutes": LONGEST_RUN,
    "evaluate_every": LONGEST_RUN,
    "batch_size": 2**16,
    "seed": 2**63 - 1,
    "clip_norm": 1e9,
    "stored_size": LARGEST_SIDE,
    "eval_size": LARGEST_SIDE,
    "accumulate": 2**16,
    "log_every": 10**9,
    "checkpoint_seconds": 10**9,
    "threads": 1024,
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole training run, but for where the data lies and where the result goes.

    Attributes:
        recipe: the name of the function that made this.
        model: a name that `scenelab models` lists.
        conv: its convolution, torch's (`native`) or the one by hand (`custom`).
        epochs: passes over the training images; a part of one is allowed.
        minutes: time from the first step to the end of the last evaluation. The schedule then follows the clock, and
            `epochs` is only what was planned; 0 lets the epochs decide.
        plan: choose precision, picture sizes, epochs and the average's decay for the minutes from the speed measured
            when the run starts.
        evaluate_every: epochs from one evaluation to the next; the last epoch always ends with one.
        holdout: share of the training images that is not trained on but evaluated in place of val, which is then not
            opened at all; 0 trains on all and evaluates on val.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016).
        clip_norm: largest norm of the whole gradient; 0 does not clip.
        ema: decay a step of the averaged weights that are evaluated and kept; 0 keeps no average.
        stored_size: side of the packed pictures in pixels, from which crops are cut.
        eval_size: side at which pictures are evaluated.
        damaged: whether images that are missing or cannot be decoded end the run before it begins, or are left out.
        keep: which weights become `model_best.pth.tar`: those of the epoch with the `best` val top-1, as the
            handout does, or the `last`.
        adversarial: train on adversarial images of this kind.
        half: keep the weights of `model_best.pth.tar` in float16; what is evaluated are then the rounded weights.
        autocast: compute convolutions and products in bfloat16; weights, their updates and evaluation stay in float32.
        resident: hold all training pictures in the device's memory, from the start on.
        compile: run the network through `torch.compile`.
        accumulate: parts that a batch is learned from one after the other before the weights move: less memory, the
            same step but for batch normalisation, whose statistics are those of a part.
        checkpoint_seconds: longest time between two checkpoints.
        threads: CPU threads, 0 for all cores that this process may use.
    """

    recipe: str = "custom"
    model: str = "simplenet"
    conv: Literal["native", "custom"] = "native"
    epochs: float = 90.0
    minutes: float = 0.0
    plan: bool = False
    evaluate_every: int = 1
    batch_size: int = 256
    seed: int = 0
    holdout: float = 0.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augment: Augment = field(default_factory=Augment)
    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    ema: float = 0.0
    stored_size: int = 128
    eval_size: int = 128
    damaged: Literal["refuse", "skip"] = "refuse"
    keep: Literal["best", "last"] = "last"
    adversarial: AdversarialConfig | None = None
    half: bool = False
    channels_last: bool = True
    autocast: bool = False
    compile: bool = False
    resident: bool = False
    accumulate: int = 1
    log_every: int = 10
    checkpoint_seconds: float = 120.0
    threads: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        require_fields(self, most=MOST)
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        _require(self.conv in ("native", "custom"), "conv", self.conv, "native or custom")
        _require(self.epochs > 0, "epochs", self.epochs, "a number above 0")
        _require(self.minutes >= 0, "minutes", self.minutes, "0 (no limit) or more")
        _require(not self.plan or self.minutes > 0, "minutes", self.minutes, "more than 0 where sizes are planned")
        _require(self.evaluate_every >= 1, "evaluate_every", self.evaluate_every, "1 or more")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        _require(0 <= self.holdout < 1, "holdout", self.holdout, "a share in [0, 1)")
        _require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "a share in [0, 1)")
        _require(self.clip_norm >= 0, "clip_norm", self.clip_norm, "0 or more")
        _require(0 <= self.ema < 1, "ema", self.ema, "a decay in [0, 1)")
        _require(self.stored_size >= 16, "stored_size", self.stored_size, "16 pixels or more")
        _require(self.eval_size >= 16, "eval_size", self.eval_size, "16 pixels or more")
        _require(self.damaged in ("refuse", "skip"), "damaged", self.damaged, "refuse or skip")
        _require(self.keep in ("best", "last"), "keep", self.keep, "best or last")
        _require(self.accumulate >= 1, "accumulate", self.accumulate, "1 or more")
        alone = self.adversarial is None or self.accumulate == 1
        _require(alone, "accumulate", self.accumulate, "1 with adversarial training")
        _require(self.log_every >= 1, "log_every", self.log_every, "1 or more")
        _require(self.checkpoint_seconds >= 0, "checkpoint_seconds", self.checkpoint_seconds, "0 or more")
        _require(self.threads >= 0, "threads", self.threads, "0 (all) or more")


def to_plain(config: TrainConfig) -> dict[str, Any]:
    """As nested dictionaries of plain values, ready for JSON."""
    return dataclasses.asdict(config)


def from_plain(values: Any) -> TrainConfig:
    """Build a config from what `to_plain` wrote, through JSON or not.

    Raises:
        LabError: a name is unknown or missing, or a value is of another kind or out of its range.
    """
    return build(TrainConfig, values, required=("optimizer", "schedule", "augment"))
