"""Checks of projected gradient descent (PGD, Madry et al. 2018), part 3 of the assignment.

They test properties of the adversarial images and of the steps; none computes the attack.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from scenelab.course.grading.checks import attack_path as path
from scenelab.course.grading.checks import attack_setting as setup
from scenelab.course.grading.checks.attack_path import Attack, Pick, perturb, perturb_twice
from scenelab.course.grading.checks.attack_setting import Setting, draw_setting, least, slopes
from scenelab.course.grading.checks.base import CheckContext, check, show
from scenelab.course.grading.checks.verdict import CheckFailed, SubmissionError
from scenelab_runner.networks import CLASSES

NEEDS = ("attack_label",)
SINGLES = 6
DESCENT: dict[str, Any] = {"num_steps": 10, "step_size": 0.02, "epsilon": 0.2}
LONG: dict[str, Any] = {"num_steps": 10, "step_size": 0.2, "epsilon": 10.0}  # far enough for the gradient to turn
WRONG_SIGN = 0.25  # fraction of the points for an attack that raises the loss
MIN_GAIN = 0.35  # fraction of epsilon · ‖gradient‖₁, by which a linear loss can fall. Over 60 seeds PGD reaches 0.96 to
# 0.99, half the steps or half of epsilon 0.5, and moving away from the predicted label at most 0.2


@check("attack", needs=NEEDS)
def attack_stays_close(context: CheckContext) -> None:
    """Every pixel value stays within epsilon of its value in the input, and the image does change."""
    for epsilon, size, steps in ((0.1, 0.01, 10), (0.05, 0.03, 4), (0.02, 0.5, 2), (0.1, 0.01, 30)):
        setting = draw_setting(context, setup.SMALL, num_steps=steps, step_size=size, epsilon=epsilon)
        attack = perturb(context, setting)
        images, output = setting.images, attack.output
        change = (output.double() - images.double()).abs()
        if change.max() == 0:
            raise CheckFailed("the images come back unchanged", str(setting))
        if change.max() > epsilon + 1e-5:
            above = 100 * (change > epsilon + 1e-5).double().mean().item()
            path.require_unclipped(attack)
            raise CheckFailed(
                f"values are up to {change.max():.4f} from where they began, epsilon is {epsilon:g} "
                f"({above:.0f} % of them are too far); clip after each step, around the input, not the last image",
                path.first_row(attack),
            )
        if any((each - images).abs().max() > epsilon + 1e-5 for each in attack.batches):
            context.remark(
                "Between the steps, the images leave the epsilon-neighborhood: they are clipped only at the end. Clip "
                "after each step; otherwise the later steps start outside. It costs no points."
            )


@check("attack", needs=NEEDS)
def attack_descends(context: CheckContext) -> None:
    """The attack lowers the loss of the least confident label."""
    gains, losses, attacks = [], [], []
    for number in range(SINGLES):  # single images: attack_label checks for labels computed over a batch
        setting = draw_setting(context, setup.LINEAR, images=1, number=number, **DESCENT)
        attack = perturb(context, setting)
        near = (attack.output - setting.images).clamp(-DESCENT["epsilon"], DESCENT["epsilon"]) + setting.images
        before, after = (_loss_of_least(setting, each) for each in (setting.images, near))
        losses.append((before, after))
        gains.append((before - after) / (DESCENT["epsilon"] * slopes(setting, least).abs().sum().item()))
        attacks.append(attack)
    gain, (before, after) = sum(gains) / SINGLES, (sum(each) / SINGLES for each in zip(*losses))
    example = (
        f"{attacks[0].setting}; {SINGLES} of them\n"
        f"loss before: {before:.4f}, after: {after:.4f}, that is {100 * gain:.0f} % of what is possible"
    )
    if gain < -MIN_GAIN:
        if not all(_climbs(context, attack.setting) for attack in attacks):
            raise CheckFailed("the loss of the least confident label rises instead of falling", example)
        raise CheckFailed(
            "the loss of the least confident label rises: the step has the wrong sign. Subtract the sign of the "
            "gradient; to add it is the attack that moves away from a label",
            example,
            share=WRONG_SIGN,
        )
    if gain < MIN_GAIN:
        raise CheckFailed("the loss of the least confident label does not fall, or hardly", example)
    _remark_on_path(context, attacks)


def _climbs(context: CheckContext, setting: Setting) -> bool:
    """Return whether one step moves nearly all values along the gradient of the least confident label's loss."""
    single = perturb(context, replace(setting, options={**setting.options, "num_steps": 1}))
    agreement = (single.output.double() - setting.images).sign() * slopes(setting, least).sign()
    return agreement.mean().item() >= 2 * setup.AGREE - 1


def _remark_on_path(context: CheckContext, attacks: list[Attack]) -> None:
    """Add a remark if the last steps follow a label that was picked anew, or the sum of all gradients so far."""
    if all(path.is_picked_anew(attack) for attack in attacks):
        context.remark(
            "The least confident label is picked anew at each step, from the adversarial image: the steps chase "
            "different labels, and the attack is much weaker. Pick it once, from the clean image. It costs no points."
        )
        return
    try:
        long = perturb(context, draw_setting(context, setup.LINEAR, images=1, number=SINGLES, **LONG))
    except (CheckFailed, SubmissionError):  # a remark changes no verdict
        return
    if path.is_accumulated(long):
        context.remark(
            "Gradients accumulate: each step follows the sum of the gradients of all steps so far, because .grad is "
            "not reset. torch.autograd.grad(loss, image) leaves nothing behind. It costs no points."
        )


def _loss_of_least(setting: Setting, images: Tensor) -> float:
    """Return the mean cross-entropy of `images`, each with the clean image's least likely class as target."""
    network = setting.network()
    with torch.no_grad():
        target = least(network(setting.images.double()))
        return nn.functional.cross_entropy(network(images.double()), target).item()


def _always(label: int) -> Pick:
    return lambda scores: torch.full((len(scores),), label)


WRONG_LABELS: dict[str, Pick] = {
    "the most confident one": lambda scores: scores.argmax(dim=1),
    "the second most confident one": lambda scores: scores.topk(2, dim=1).indices[:, 1],
    "the second least confident one": lambda scores: (-scores).topk(2, dim=1).indices[:, 1],
    "one label for the whole batch": lambda scores: scores.mean(dim=0).argmin().expand(len(scores)),
    "the first image's for all": lambda scores: scores[0].argmin().expand(len(scores)),
    **{f"always {label}": _always(label) for label in range(CLASSES)},
}


@check("attack")
def attack_label(context: CheckContext) -> None:
    """The target is each image's own least confident label, computed from the clean image or anew at each step."""
    setting = setup.draw_distinct(context, setup.LINEAR, images=6, num_steps=1, step_size=0.01, epsilon=1.0)
    short, longer = perturb_twice(context, setting)
    if torch.equal(short.output, setting.images):
        raise CheckFailed("the images come back unchanged", str(setting))
    matches = path.matches_of(short, longer)
    if path.follow(matches, setting, least) or path.changes_least_most(setting, setting.images, short.output):
        return
    batches = [images for images in longer.calls if images.shape == setting.images.shape]
    if batches and path.changes_least_most(setting, batches[-1], longer.output):
        return
    if not all(matches):
        raise CheckFailed("the images are not those of the least confident label", _rows(short.output, setting))
    for name, pick in WRONG_LABELS.items():
        if path.follow(matches, setting, pick):
            raise CheckFailed(f"the label is not the least confident one but {name}", str(setting), known=True)
    labels = ", ".join(str(each[0].label) for each in matches)
    text = f"the labels are not the least confident ones but others ({labels})"
    raise CheckFailed(text, _rows(short.output, setting), known=True)


def _rows(output: Tensor, setting: Setting) -> str:
    change, slope = output.double()[0, 0, 0] - setting.images[0, 0, 0], slopes(setting, least)[0, 0, 0]
    return (
        f"{setting}\nchange of the first image's first row:\n{show(change)}\n"
        f"gradient of its least confident label's loss there:\n{show(slope)}"
    )


@check("attack", needs=NEEDS)
def attack_steps(context: CheckContext) -> None:
    """num_steps and step_size are used: each of the num_steps steps moves every pixel value by step_size."""
    for steps, size in ((1, 0.01), (1, 0.03), (5, 0.01)):
        setting = draw_setting(context, setup.LINEAR, num_steps=steps, step_size=size, epsilon=1.0)
        attack = perturb(context, setting)
        change = (attack.output.double() - setting.images.double()).abs()
        if not _moves_whole_steps(change / size, steps) and not attack.has_steps(steps, size):
            path.require_unclipped(attack)
            raise CheckFailed(
                f"{steps} step{'s' * (steps > 1)} of {size:g} moved the values by {change.median():.4f} (median) and "
                f"at most {change.max():.4f}; whole steps, at most {steps * size:g} together, are expected",
                _rows(attack.output, setting),
            )


def _moves_whole_steps(moved: Tensor, steps: int) -> bool:
    """Return whether nearly all values of `moved` (|change| / step_size) are integers, and the largest is `steps`."""
    are_whole = (moved - moved.round()).abs() < 1e-2
    return bool(are_whole.double().mean() >= setup.AGREE) and abs(moved.max().item() - steps) <= 1e-2


@check("attack")
def attack_loss(context: CheckContext) -> None:
    """The attack lowers the loss function that it was constructed with."""
    setting = draw_setting(context, setup.LINEAR, loss="lead", num_steps=1, step_size=0.02, epsilon=1.0)
    short, longer = perturb_twice(context, setting)
    if all(path.matches_of(short, longer)):
        return
    if torch.equal(short.output, setting.images):
        raise CheckFailed("the images come back unchanged", str(setting))
    path.require_unclipped(short)
    network, starts = setting.network(), [*setting.images, *short.called_images]
    is_cross_entropy = all(
        any(path.followed_labels(network, "cross_entropy", start, image) for start in starts) for image in short.output
    )
    why = "it uses cross-entropy whatever it is given" if is_cross_entropy else "another loss gives another direction"
    raise CheckFailed(
        f"the attack does not follow the loss_fn that it was made with: {why}; use self.loss_fn", str(setting)
    )


@check("attack", needs=NEEDS)
def attack_graph(context: CheckContext) -> None:
    """The autograd graph does not grow from step to step, and the adversarial images are detached."""
    reply = perturb(context, draw_setting(context, setup.SMALL, num_steps=8, step_size=0.01, epsilon=0.1)).reply
    depths = reply.values.get("depths")
    if not isinstance(depths, list) or not depths or not all(type(depth) is int for depth in depths):
        raise CheckFailed("the attack never calls the model")
    setup.require_detached(context, reply, "images")
    if max(depths) > 12 and depths[-1] > 2 * max(depths[: max(1, len(depths) // 2)]) - 2:
        raise CheckFailed(
            f"the graph behind the image grows from step to step ({depths[0]}, {depths[1]}, … {depths[-1]} nodes); "
            "detach the image"
        )


@check("attack", needs=NEEDS)
def attack_leaves_model(context: CheckContext) -> None:
    """The attack leaves the input images and the model's weights, statistics and mode unchanged."""
    setting = draw_setting(context, setup.NORMED, num_steps=4, step_size=0.01, epsilon=0.1)
    setup.require_unchanged(context, setting, perturb(context, setting).reply, "attack")
