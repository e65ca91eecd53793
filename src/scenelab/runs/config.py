"""Training configs: frozen, checked, and written into the run folder word for word."""

import dataclasses
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from scenelab.data.augment import Augment
from scenelab.errors import LabError
from scenelab.schema import Line, Share, config_class, parse

MAX_RESOLUTION = 4096  # pixels
MAX_EPOCHS = 10**6  # also minutes: two years
"""Bounds of a config: far beyond any use, and short of what a machine could not even begin."""

Resolution = Annotated[int, Field(ge=16, le=MAX_RESOLUTION)]
Epochs = Annotated[float, Field(gt=0, le=MAX_EPOCHS)]
Minutes = Annotated[float, Field(ge=0, le=MAX_EPOCHS)]
LearningRate = Annotated[float, Field(gt=0, le=1e6)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
PathText = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]


def _rising(steps: tuple[tuple[float, int], ...]) -> tuple[tuple[float, int], ...]:
    starts = [start for start, _ in steps]
    if not starts or starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= 1:
        raise ValueError("expected shares that rise from 0.0 and stay below 1")
    return steps


Resolutions = Annotated[tuple[tuple[BelowOne, Resolution], ...], Field(max_length=1000), AfterValidator(_rising)]


@config_class("optimizer")
class OptimizerConfig:
    """The optimizer and its settings.

    Attributes:
        name: `sgd` with momentum, `adamw` (Loshchilov & Hutter 2019), or `muon` (Jordan et al. 2024) for the
            convolution weights with AdamW for the rest.
        lr: peak learning rate; for `muon` that of the convolution weights.
        momentum: of SGD and Muon.
        weight_decay: L2 for SGD as in the handout, decoupled for the others.
        decay_vectors: decay biases and norm parameters too (the handout does).
        adam_lr: peak learning rate of the AdamW part of `muon`.
    """

    name: Literal["sgd", "adamw", "muon"] = "sgd"
    lr: LearningRate = 0.1
    momentum: BelowOne = 0.9
    weight_decay: Annotated[float, Field(ge=0, le=1e6)] = 1e-4
    decay_vectors: bool = True
    nesterov: bool = False
    adam_lr: LearningRate = 2e-3


@config_class("schedule")
class ScheduleConfig:
    """Learning rate and image resolution over time.

    Attributes:
        warmup_epochs: linear rise from 0 to the peak, per step.
        final: learning rate at the end as a share of the peak, reached along half a cosine.
        sizes: `(start, resolution)` pairs: from this share of the run on, train at this resolution; the first is 0.
    """

    warmup_epochs: Minutes = 0.0
    final: Share = 0.0
    sizes: Resolutions = ((0.0, 128),)


@config_class("adversarial")
class AdversarialConfig:
    """The adversarial examples that are trained on.

    Attributes:
        method: `pgd` (Madry et al. 2018); `fast`, one step from a random start (Wong et al. 2020); `free`, each batch
            replayed while its images move (Shafahi et al. 2019); or `handout`, its attack towards the least likely
            class.
        epsilon: largest change of a pixel value, in pixel units; for `handout` of a normalised value.
        steps: of the attack, or replays per batch for `free`; `fast` has 1.
        step_size: 0 takes the method's default: 2.5 ε / steps for `pgd`, 1.25 ε for `fast`, ε for `free`, 0.01 for
            `handout`.
        probed: training images that are attacked after each epoch, to detect catastrophic overfitting.
    """

    method: Literal["pgd", "fast", "free", "handout"]
    epsilon: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    step_size: Share = 0.0
    probed: Annotated[int, Field(ge=1, le=10**6)] = 256

    @field_validator("steps")
    @classmethod
    def _one_step_if_fast(cls, steps: int, info: ValidationInfo) -> int:
        if info.data.get("method") == "fast" and steps != 1:
            raise ValueError("expected 1 for fast")
        return steps

    @property
    def size(self) -> float:
        """The step size."""
        defaults = {"pgd": 2.5 * self.epsilon / self.steps, "fast": 1.25 * self.epsilon, "free": self.epsilon}
        return self.step_size or defaults.get(self.method, 0.01)

    @property
    def passes(self) -> float:
        """Operations of a training step relative to one without an attack.

        A step of the attack computes no gradient of the weights, which is a third of the work; the handout's method
        also runs on the clean images.
        """
        if self.method == "free":
            return float(self.steps)
        return 1 + 2 / 3 * self.steps + (1 / 3 if self.method == "handout" else 0)


@config_class()
class TrainConfig:
    """A whole training run except for the data folder and the run folder.

    Attributes:
        recipe: name of the recipe.
        model: a name listed by `scenelab models`.
        conv: its convolution: torch's (`native`) or ours (`custom`).
        epochs: passes over the training images; may be fractional.
        minutes: time limit, the last evaluation included; the schedule then follows the clock. 0 sets no limit.
        plan: choose precision, resolutions, epochs and the average's decay to fit `minutes`, from the speed
            measured at the start.
        batch_size: images per step, over all processes.
        seed: of initialization, order, augmentation and random starts.
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
        holdout: share of the training images that is evaluated in place of val and not trained on; val is then never
            opened. 0 trains on all and evaluates on val.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016).
        clip_norm: maximum norm of the whole gradient; 0 does not clip.
        ema: decay per step of the averaged weights, which are evaluated and saved; 0 keeps no average.
        stored_size: resolution of the cached images in pixels, from which crops are taken.
        eval_size: resolution at which images are evaluated.
        damaged: `refuse` ends the run before it begins if an image is missing or cannot be decoded; `skip` omits it.
        keep: the weights saved as `model_best.pth.tar`: of the epoch with the `best` val top-1, as in the handout, or
            the `last`.
        adversarial: train on adversarial examples of this kind.
        channels_last: memory layout of images and weights.
        half: save the weights of `model_best.pth.tar` in float16; the rounded weights are then evaluated.
        autocast: compute convolutions and matrix products in bfloat16; weights, updates and evaluation stay in float32.
        resident: keep all training images in the device's memory.
        compile: run the network through `torch.compile`.
        accumulate: parts of a batch whose gradients are summed before a step: less memory and the same step, except
            that batch normalisation takes its statistics per part.
        log_every: steps between two rows of metrics.
        checkpoint_seconds: maximum time between two checkpoints.
        threads: CPU threads; 0 takes all cores available to this process.
        device: auto, cpu or cuda; auto takes the GPU if there is one.
    """

    recipe: Line = "custom"
    model: Line = "simplenet"
    conv: Literal["native", "custom"] = "native"
    epochs: Epochs = 90.0
    minutes: Minutes = 0.0
    plan: bool = False
    evaluate_every: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = 1
    batch_size: Annotated[int, Field(ge=1, le=2**16)] = 256
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    holdout: BelowOne = 0.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augment: Augment = field(default_factory=Augment)
    label_smoothing: BelowOne = 0.0
    clip_norm: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    ema: BelowOne = 0.0
    stored_size: Resolution = 128
    eval_size: Resolution = 128
    damaged: Literal["refuse", "skip"] = "refuse"
    keep: Literal["best", "last"] = "last"
    adversarial: AdversarialConfig | None = None
    half: bool = False
    channels_last: bool = True
    autocast: bool = False
    compile: bool = False
    resident: bool = False
    accumulate: Annotated[int, Field(ge=1, le=2**16)] = 1
    log_every: Annotated[int, Field(ge=1, le=10**9)] = 10
    checkpoint_seconds: Annotated[float, Field(ge=0, le=1e9)] = 120.0
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    device: Line = "auto"

    @field_validator("plan")
    @classmethod
    def _minutes_if_planned(cls, plan: bool, info: ValidationInfo) -> bool:
        if plan and info.data.get("minutes") == 0:
            raise ValueError("expected false without minutes, which the plan fits")
        return plan

    @field_validator("accumulate")
    @classmethod
    def _whole_batch_if_adversarial(cls, accumulate: int, info: ValidationInfo) -> int:
        if info.data.get("adversarial") is not None and accumulate != 1:
            raise ValueError("expected 1 with adversarial training")
        return accumulate


@config_class()
class RunConfig:
    """Content of a run folder's `config.json`.

    Attributes:
        version: of the format.
        data: folder or address of the training images.
        cache: folder of the decoded images; None for the one inside `data`.
        train_digest: of the list of training images.
        attached_attack: the attack of the handout's code that was trained with.
    """

    version: Literal[1] = 1
    data: PathText
    cache: PathText | None = None
    train_digest: Line = ""
    attached_attack: Line | None = None
    train: TrainConfig


def to_plain(config: TrainConfig | RunConfig) -> dict[str, Any]:
    """Return nested dictionaries of plain values, ready for JSON."""
    return dataclasses.asdict(config)


def from_plain(values: Any) -> TrainConfig:
    """Build a config from what `to_plain` returned, through JSON or not.

    Raises:
        LabError: a key is unknown or missing, or a value is of the wrong type or out of range.
    """
    for name in ("optimizer", "schedule", "augment") if isinstance(values, dict) else ():
        if name not in values:
            raise LabError(f"the config does not fit this version of scenelab: {name} is missing")
    return parse(TrainConfig, values, "the config does not fit this version of scenelab: ")
