"""The handout's questions about training, answered from the config: what is true of the run, and nothing else."""

from scenelab.data.augment import Augment
from scenelab.runs.config import AdversarialConfig, OptimizerConfig, TrainConfig


def describe(config: TrainConfig, *, classes: int | None = None) -> dict[str, str]:
    """Answers by topic: loss, optimizer, schedule, regularization, metrics; each a few sentences of plain text.

    Args:
        classes: how many there are, where that is known.
    """
    return {
        "loss": _loss(config, classes),
        "optimizer": _optimizer(config),
        "schedule": _schedule(config),
        "regularization": _regularization(config),
        "metrics": _metrics(config, classes),
    }


def _loss(config: TrainConfig, classes: int | None) -> str:
    text = f"Cross-entropy of the softmax over {_count(classes)}, averaged over the batch"
    if config.label_smoothing:
        share = f"{config.label_smoothing:g}"
        text += f", against targets of which {share} is spread evenly over all classes (label smoothing)"
    if config.augment.mixup or config.augment.cutmix:
        text += "; a mixed image has the labels of both its sources, in the shares in which it shows them"
    return text + "."


def _optimizer(config: TrainConfig) -> str:
    optimizer: OptimizerConfig = config.optimizer
    decay = f"weight decay {optimizer.weight_decay:g}"
    if not optimizer.decay_vectors:
        decay += ", not on biases and normalisation"
    if optimizer.name == "sgd":
        kind = "Nesterov momentum" if optimizer.nesterov else "momentum"
        text = f"Stochastic gradient descent with {kind} {optimizer.momentum:g}; {decay}, added to the gradient"
    elif optimizer.name == "adamw":
        text = f"AdamW; {decay}, decoupled from the gradient"
    else:
        text = (
            f"Muon for the convolutions (momentum {optimizer.momentum:g}; each update is made orthogonal first), "
            f"AdamW with a peak learning rate of {optimizer.adam_lr:g} for everything else; {decay}, decoupled"
        )
    text += f". Batches of {config.batch_size} images"
    if config.clip_norm:
        text += f"; the gradient's norm is cut to {config.clip_norm:g}"
    if config.autocast:
        text += "; convolutions and products are computed in bfloat16, weights and updates in float32"
    return text + "."


def _schedule(config: TrainConfig) -> str:
    schedule = config.schedule
    text = f"The learning rate has its peak of {config.optimizer.lr:g}"
    if schedule.warmup_epochs:
        text += f" after {schedule.warmup_epochs:g} epochs of linear rise"
    else:
        text += " at the first step"
    text += f" and falls along half a cosine to {schedule.final:g} of it. " if schedule.final else (
        " and falls along half a cosine to zero. "
    )  # fmt: skip
    if config.minutes:
        text += (
            f"The run takes {config.minutes:g} minutes and follows the clock; {config.epochs:g} epochs were planned. "
        )
    else:
        text += f"The run takes {config.epochs:g} epochs. "
    sizes = [
        f"{side}×{side} pixels" + (f" from {share:.0%} of it on" if share else "") for share, side in schedule.sizes
    ]
    return text + f"Pictures have {', then '.join(sizes)}."


def _regularization(config: TrainConfig) -> str:
    augment: Augment = config.augment
    drawn = []
    if augment.flip:
        drawn.append("mirrored half of the time")
    if augment.area is not None:
        low, high = augment.area
        drawn.append(f"cropped to {low:.0%}–{high:.0%} of their area at sides of {_ratio(augment)}")
    if augment.degrees:
        drawn.append(f"rotated by up to {augment.degrees:g} degrees")
    if augment.gain:
        drawn.append(f"changed in colour by up to {augment.gain:.0%} a channel")
    for name in ("brightness", "contrast", "saturation"):
        if getattr(augment, name):
            drawn.append(f"changed in {name} by up to {getattr(augment, name):.0%}")
    if augment.erase:
        drawn.append(f"erased in a rectangle with probability {augment.erase:g}")
    for name in ("mixup", "cutmix"):
        if getattr(augment, name):
            share = "" if augment.mixed == 1 else f" in {augment.mixed:.0%} of the batches"
            values = f"Beta({getattr(augment, name):g}, {getattr(augment, name):g})"
            drawn.append(f"mixed with others{share} ({name}, {values})")
    parts = [f"Training images are {', '.join(drawn)}"] if drawn else ["Training images are taken as they are"]
    if config.optimizer.weight_decay:
        parts.append(f"weights decay by {config.optimizer.weight_decay:g}")
    if config.label_smoothing:
        parts.append("labels are smoothed, which keeps the network from being too sure")
    if config.ema:
        parts.append(f"the weights that are evaluated are a running average ({config.ema:g} a step)")
    if config.adversarial:
        parts.append(_adversarial(config.adversarial))
    if config.half:
        parts.append("they are kept, and evaluated, rounded to half precision")
    return "; ".join(parts) + "."


def _adversarial(adversarial: AdversarialConfig) -> str:
    """What the images are before they are learned from."""
    size = f"{255 * adversarial.epsilon:.3g}/255"
    if adversarial.method == "handout":
        return (
            f"each image is first moved towards the class that the network believes in least, {adversarial.steps} sign "
            f"steps of {adversarial.size:g} and at most {adversarial.epsilon:g} in normalised values"
        )
    if adversarial.method == "free":
        return (
            f"each batch is learned from {adversarial.steps} times, while its images move by at most {size} against "
            "the network (Free adversarial training)"
        )
    steps = "one step" if adversarial.steps == 1 else f"{adversarial.steps} steps"
    return (
        f"each image is first changed by at most {size} so that the network does worse, by {steps} of "
        f"{255 * adversarial.size:.3g}/255 from a random start (adversarial training)"
    )


def _ratio(augment: Augment) -> str:
    low, high = augment.aspect
    return f"{low:.2g} to {high:.2g}"


def _count(classes: int | None, article: str = "") -> str:
    return "the classes" if classes is None else f"{article}{classes} classes"


def _metrics(config: TrainConfig, classes: int | None) -> str:
    kept = (
        "The weights of the epoch with the best top-1 on val are kept, a choice made by looking at val."
        if config.keep == "best"
        else "The weights of the last step are kept; nothing is chosen by looking at val."
    )
    return (
        f"Top-1 and top-5 accuracy: the share of images whose label is the first of {_count(classes, 'the ')}, or "
        "among the first five, by the network's order. A picture often shows more than one scene, and neighbouring "
        "classes (a kitchen, a dining room) share their objects, so a second or third guess can be right where the "
        "label is "
        f"not; top-5 counts such near misses, top-1 does not. {kept}"
    )
