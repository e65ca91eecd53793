"""Training configs: frozen, validated dataclasses that are saved in the run folder."""

import dataclasses
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from scenelab.data.augment_config import Augment
from scenelab.errors import LabError
from scenelab.schema import FILE_NAME, Line, Share, config_class, parse

MAX_RESOLUTION = 4096  # pixels
MAX_EPOCHS = 10**6  # also the maximum of minutes (two years)
"""Upper bounds of config values: far above any real use, but still small enough to start a run."""

Resolution = Annotated[int, Field(ge=16, le=MAX_RESOLUTION)]
Epochs = Annotated[float, Field(gt=0, le=MAX_EPOCHS)]
Minutes = Annotated[float, Field(ge=0, le=MAX_EPOCHS)]
LearningRate = Annotated[float, Field(gt=0, le=1e6)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
PathText = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$"), FILE_NAME[0], FILE_NAME[1]]


def _rising(steps: tuple[tuple[float, int], ...]) -> tuple[tuple[float, int], ...]:
    starts = [start for start, _ in steps]
    if not starts or starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= 1:
        raise ValueError("expected shares that rise from 0.0 and stay below 1")
    return steps


Resolutions = Annotated[tuple[tuple[BelowOne, Resolution], ...], Field(max_length=1000), AfterValidator(_rising)]


@config_class("optimizer")
class OptimizerConfig:
    """Optimizer and its hyperparameters.

    Attributes:
        name: `sgd` with momentum, `adamw` (Loshchilov & Hutter 2019), or `muon` (Jordan et al. 2024) for the
            convolution weights and AdamW for all other parameters.
        lr: peak learning rate; with `muon`, of the convolution weights.
        momentum: momentum of SGD and Muon.
        weight_decay: L2 penalty for SGD, as in the handout; decoupled weight decay for AdamW and Muon.
        decay_vectors: apply weight decay to biases and norm parameters too, as in the handout.
        nesterov: use Nesterov momentum in SGD.
        adam_lr: peak learning rate of AdamW within `muon`.
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
    """Schedule of the learning rate and the image resolution.

    Attributes:
        warmup_epochs: epochs of linear warmup from 0 to the peak learning rate, updated per step.
        final: final learning rate as a fraction of the peak.
        decay: curve from the peak to the final learning rate.
        sizes: `(start, resolution)` pairs: train at this resolution, in pixels, from this fraction of the run on. The
            first start is 0.
    """

    warmup_epochs: Minutes = 0.0
    final: Share = 0.0
    decay: Literal["cosine", "linear"] = "cosine"
    sizes: Resolutions = ((0.0, 128),)


@config_class("adversarial")
class AdversarialConfig:
    """Adversarial training: the attack on training images and its parameters.

    Attributes:
        method: `pgd` (Madry et al. 2018); `fast`, one step from a random start (Wong et al. 2020); `free`, which
            replays each batch and updates its perturbation (Shafahi et al. 2019); or `handout`, the handout's targeted
            attack on the least likely class.
        epsilon: radius of the L∞ ball for pixel values in [0, 1]; for `handout`, for normalized values.
        steps: number of attack steps, or of replays per batch for `free`; must be 1 for `fast`.
        step_size: size of an attack step, in the unit of `epsilon`; 0 selects the method's default: 2.5 ε / steps for
            `pgd`, 1.25 ε for `fast`, ε for `free`, 0.01 for `handout`.
        probed: maximum number of training images attacked after each epoch to detect catastrophic overfitting.
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
        """Size of an attack step: `step_size`, or the method's default if `step_size` is 0."""
        defaults = {"pgd": 2.5 * self.epsilon / self.steps, "fast": 1.25 * self.epsilon, "free": self.epsilon}
        return self.step_size or defaults.get(self.method, 0.01)

    @property
    def relative_flops(self) -> float:
        """FLOPs of a training step relative to a step without an attack.

        An attack step costs 2/3 of a training step, because it computes no weight gradients. The handout's method adds
        a forward pass on the clean images.
        """
        if self.method == "free":
            return float(self.steps)
        return 1 + 2 / 3 * self.steps + (1 / 3 if self.method == "handout" else 0)


@config_class("finetune")
class FinetuneConfig:
    """Fine-tuning: the trained network to start from, and what is trained when.

    Attributes:
        network: run folder, checkpoint file, or name of a network that ships. Its last layer is replaced by a new one.
        head_epochs: first epochs in which only the last layer is trained.
        first_rate: learning rate of the first layer as a fraction of that of the last layer; in between it grows
            geometrically with depth.
    """

    network: PathText
    head_epochs: Minutes = 2.0
    first_rate: Annotated[float, Field(gt=0, le=1)] = 0.1


@config_class()
class TrainConfig:
    """Configuration of a training run, without the data folder and the run folder.

    Attributes:
        recipe: name of the recipe.
        model: name of the network; `scenelab models` lists them.
        conv: implementation of convolution: `native` (PyTorch) or `custom` (scenelab.conv).
        epochs: number of passes over the training images; may be fractional.
        minutes: time limit, including the last evaluation; learning rate and resolution then depend on elapsed time.
            0 sets no limit.
        plan: choose precision, resolutions, epochs and the decay of the weight average to fit `minutes`, based on the
            speed measured at the start.
        speeds: images per second that the plan expects, by resolution. If a run's speed differs by more than 15 %, it
            is planned again; empty for runs without a plan.
        batch_size: images per step, over all processes.
        seed: seed of initialization, data order, augmentation and random starts of attacks.
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
        holdout: fraction of the training images to hold out and evaluate instead of val, which is then not read. 0
            trains on all images and evaluates on val.
        fold: index of the part to hold out, from 0; parts with different indices are disjoint.
        patience: stop after this many evaluations without a better top-1 accuracy; 0 trains to the end.
        balanced: draw the images of an epoch with replacement, all classes equally often.
        label_smoothing: fraction of the target spread evenly over all classes (Szegedy et al. 2016).
        clip_norm: maximum norm of the gradient over all parameters; 0 does not clip.
        ema: decay per step of the weights' moving average, which is evaluated and saved; 0 keeps no average.
        stored_size: side in pixels of the cached images, from which crops are taken.
        eval_size: side of the images in pixels during evaluation.
        damaged: `refuse` stops before training if an image is missing or cannot be decoded; `skip` omits the image.
        keep: epoch whose weights are saved as `model_best.pth.tar`: `best` (highest val top-1, as in the handout) or
            `last`.
        adversarial: settings of adversarial training; None trains on clean images.
        finetune: settings of fine-tuning; None trains from scratch.
        channels_last: use the channels-last memory layout for images and weights.
        half: save the weights of `model_best.pth.tar` in float16, and evaluate the rounded weights.
        autocast: compute convolutions and matrix products in bfloat16; weights, updates and evaluation stay in float32.
        resident: keep all training images in the device's memory.
        compile: compile the network with `torch.compile`.
        accumulate: number of micro-batches per step, whose gradients are summed. Saves memory; batch normalization
            computes its statistics per micro-batch.
        log_every: steps between two rows of metrics.
        checkpoint_seconds: maximum seconds between two checkpoints.
        threads: number of CPU threads; 0 uses all cores available to the process.
        device: a PyTorch device, such as cpu, cuda, cuda:1 or mps; `auto` is cuda, else mps, else cpu.
    """

    recipe: Line = "custom"
    model: Line = "simplenet"
    conv: Literal["native", "custom"] = "native"
    epochs: Epochs = 90.0
    minutes: Minutes = 0.0
    plan: bool = False
    speeds: tuple[tuple[Resolution, Annotated[float, Field(gt=0)]], ...] = ()
    evaluate_every: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = 1
    batch_size: Annotated[int, Field(ge=1, le=2**16)] = 256
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    holdout: BelowOne = 0.0
    fold: Annotated[int, Field(ge=0, le=1000)] = 0
    patience: Annotated[int, Field(ge=0, le=MAX_EPOCHS)] = 0
    balanced: bool = False
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
    finetune: FinetuneConfig | None = None
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

    @field_validator("keep")
    @classmethod
    def _best_if_patient(cls, keep: str, info: ValidationInfo) -> str:
        if info.data.get("patience") and keep != "best":
            raise ValueError("expected best with patience")
        return keep

    @field_validator("accumulate")
    @classmethod
    def _whole_batch_if_adversarial(cls, accumulate: int, info: ValidationInfo) -> int:
        if info.data.get("adversarial") is not None and accumulate != 1:
            raise ValueError("expected 1 with adversarial training")
        return accumulate

    @property
    def relative_flops(self) -> float:
        """FLOPs of a training step relative to a step without an attack."""
        return self.adversarial.relative_flops if self.adversarial else 1.0


@config_class()
class RunConfig:
    """Content of a run folder's `config.json`.

    Attributes:
        version: version of the file format.
        data: path of the data folder.
        cache: folder of the cached images; None for `default_cache(data)`.
        train_digest: SHA-256 that identifies the training set and the resolution of its cache.
        attached_attack: name of the student's attack if adversarial training uses it, else None.
        train: configuration of the training.
    """

    version: Literal[1] = 1
    data: PathText
    cache: PathText | None = None
    train_digest: Line = ""
    attached_attack: Line | None = None
    train: TrainConfig


def to_plain(config: TrainConfig | RunConfig) -> dict[str, Any]:
    """Return a config as nested dictionaries of JSON-compatible values."""
    return dataclasses.asdict(config)


def from_plain(values: Any) -> TrainConfig:
    """Return the config that `to_plain` converted to `values`, also after a JSON round trip.

    Raises:
        LabError: a key is unknown or missing, or a value has an invalid type or is out of range.
    """
    for name in ("optimizer", "schedule", "augment") if isinstance(values, dict) else ():
        if name not in values:
            raise LabError(f"the config does not fit this version of scenelab: {name} is missing")
    return parse(TrainConfig, values, "the config does not fit this version of scenelab: ")
