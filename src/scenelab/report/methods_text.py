"""Answers to the handout's questions about training, generated from the config of a run."""

from scenelab.data.augment_config import Augment
from scenelab.runs.config import AdversarialConfig, TrainConfig


def describe(config: TrainConfig, *, classes: int | None = None) -> dict[str, str]:
    """Return a dictionary of texts: `loss`, `optimizer`, `schedule`, `regularization` and `metrics`.

    Args:
        config: config of the run.
        classes: number of classes, or None if unknown.
    """
    number = "the classes" if classes is None else f"{classes} classes"
    return {
        "loss": _loss(config, number),
        "optimizer": _optimizer(config),
        "schedule": _schedule(config),
        "regularization": _regularization(config),
        "metrics": _metrics(config, "the classes" if classes is None else f"the {classes} classes"),
    }


def start(config: TrainConfig) -> str:
    """Return what training starts from: scratch, or the network that is fine-tuned."""
    if config.finetune is None:
        return "trained from scratch"
    return f"fine-tuned from the network `{config.finetune.network}`, with a new last layer,"


def _loss(config: TrainConfig, classes: str) -> str:
    text = f"Cross-entropy of the softmax over {classes}, averaged over the batch"
    if config.label_smoothing:
        text += f". Label smoothing spreads {config.label_smoothing:g} of each target evenly over all classes"
    if config.augment.mixes:
        text += ". The target of a mixed image weights the labels of its two sources by their shares of the image"
    return text + "."


def _optimizer(config: TrainConfig) -> str:
    optimizer = config.optimizer
    decay = f"weight decay {optimizer.weight_decay:g}"
    if not optimizer.decay_vectors:
        decay += ", except for biases and normalization"
    if optimizer.name == "sgd":
        kind = "Nesterov momentum" if optimizer.nesterov else "momentum"
        text = f"Stochastic gradient descent with {kind} {optimizer.momentum:g}; {decay}, added to the gradient"
    elif optimizer.name == "adamw":
        text = f"AdamW; {decay}, decoupled from the gradient"
    else:
        text = (
            f"Muon with momentum {optimizer.momentum:g} for the convolutions, which orthogonalizes each update, and "
            f"AdamW with a peak learning rate of {optimizer.adam_lr:g} for all other parameters; {decay}, decoupled "
            "from the gradient"
        )
    text += f". The batch size is {config.batch_size}"
    if config.clip_norm:
        text += f"; the gradient norm is clipped to {config.clip_norm:g}"
    if config.autocast:
        text += "; convolutions and matrix products run in bfloat16, weights and updates are in float32"
    return text + "."


def _schedule(config: TrainConfig) -> str:
    schedule = config.schedule
    start = f"rises linearly for {schedule.warmup_epochs:g} epochs to" if schedule.warmup_epochs else "starts at"
    end = f"{schedule.final:g} of it" if schedule.final else "zero"
    curve = "linearly" if schedule.decay == "linear" else "along half a cosine"
    text = f"The learning rate {start} its peak of {config.optimizer.lr:g} and decays {curve} to {end}. "
    if tuning := config.finetune:
        text += f"In the first {tuning.head_epochs:g} epochs only the last layer is trained. The learning rate of the "
        text += f"first layer is {tuning.first_rate:g} of that of the last one; in between it grows with depth. "
    if config.minutes:
        text += f"The run takes {config.minutes:g} minutes; the schedule follows the clock, not the planned number of "
        text += f"epochs ({config.epochs:g}). "
    else:
        text += f"The run takes {config.epochs:g} epochs. "
    sizes = [
        f"{side}×{side} pixels" + (f" from {share:.0%} of the run on" if share else "")
        for share, side in schedule.sizes
    ]
    return f"{text}The training resolution is {', then '.join(sizes)}."


def _regularization(config: TrainConfig) -> str:
    changes = _augmentation(config.augment)
    sentences = [f"Training images are {', '.join(changes)}" if changes else "Training images are not augmented"]
    if config.optimizer.weight_decay:
        sentences.append(f"The weight decay is {config.optimizer.weight_decay:g}")
    if config.label_smoothing:
        sentences.append("Label smoothing keeps the network from being overconfident")
    if config.ema:
        sentences.append(f"The evaluated weights are an exponential moving average (decay {config.ema:g} per step)")
    if config.adversarial:
        sentences.append(_adversarial(config.adversarial))
    if config.half:
        sentences.append("The weights are saved and evaluated in half precision")
    return ". ".join(sentences) + "."


def _augmentation(augment: Augment) -> list[str]:
    changes = ["flipped horizontally with probability 0.5"] if augment.flip else []
    if augment.area is not None:
        low, high = augment.area
        ratios = "{:.2g} to {:.2g}".format(*augment.aspect)
        changes.append(f"cropped to {low:.0%}–{high:.0%} of their area with an aspect ratio of {ratios}")
    if augment.degrees:
        changes.append(f"rotated by up to {augment.degrees:g} degrees")
    if augment.gain:
        changes.append(f"scaled by up to {augment.gain:.0%} per color channel")
    for name in ("brightness", "contrast", "saturation"):
        if strength := getattr(augment, name):
            changes.append(f"changed in {name} by up to {strength:.0%}")
    if augment.erase:
        changes.append(f"erased in a rectangle with probability {augment.erase:g}")
    batches = "" if augment.mixed == 1 else f" in {augment.mixed:.0%} of the batches"
    for name in ("mixup", "cutmix") if augment.mixes else ():
        if beta := getattr(augment, name):
            changes.append(f"mixed with others{batches} ({name}, Beta({beta:g}, {beta:g}))")
    return changes


def _adversarial(adversarial: AdversarialConfig) -> str:
    epsilon, steps = f"{255 * adversarial.epsilon:.3g}/255", adversarial.steps
    if adversarial.method == "handout":
        return (
            f"Adversarial training moves each image towards its least likely class, by {steps} sign steps of "
            f"{adversarial.size:g} and at most {adversarial.epsilon:g} in normalized values"
        )
    if adversarial.method == "free":
        return (
            f"Free adversarial training takes {steps} steps on each batch, while its images move by at most {epsilon} "
            "to increase the loss"
        )
    return (
        f"Adversarial training changes each image by at most {epsilon} to increase the loss, with "
        f"{'one step' if steps == 1 else f'{steps} steps'} of {255 * adversarial.size:.3g}/255 from a random start"
    )


def _metrics(config: TrainConfig, classes: str) -> str:
    judged = "the held-out training images, so these were" if config.holdout else "val, so val was"
    selection = (
        f"The saved weights are those of the epoch with the best top-1 accuracy on {judged} used for selection."
        if config.keep == "best"
        else "The saved weights are those of the last step; val was not used for selection."
    )
    return (
        f"Top-1 and top-5 accuracy are the shares of images whose label is the first, or among the first five, of "
        f"{classes} as the network ranks them. An image often shows more than one scene, and similar classes (a "
        "kitchen, a dining room) share objects, so the second or third prediction may be right as well. Top-5 accuracy "
        f"counts such near misses; top-1 accuracy does not. {selection}"
    )
