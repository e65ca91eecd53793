"""Reconstruction of an attack's target labels and steps from the images on which it called the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from scenelab.course.grading.checks.attack_setting import AGREE, TOLERANCE, Setting, least, slopes
from scenelab.course.grading.checks.base import CheckContext, floats, require_finite, shape_of
from scenelab.course.grading.checks.verdict import CheckFailed
from scenelab_runner.message import Message
from scenelab_runner.networks import CLASSES, LOSSES, MAX_CALLS

MIN_MOVED = 0.25  # minimum fraction of values that a step changes; clipping keeps the others
Pick = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Match:
    """A possible explanation of an attack's last step on one image: the target label, and the image before the step.

    The step has the signs of the gradient of the label's loss at `start`, or the opposite signs.
    """

    label: int
    start: Tensor


@dataclass(frozen=True)
class Attack:
    """A run of the student's attack: its output, and the batches on which it called the model."""

    setting: Setting
    output: Tensor
    calls: list[Tensor]
    reply: Message

    @property
    def called_images(self) -> list[Tensor]:
        """Every image on which the model was called, in order, each of shape C×H×W."""
        return [image for images in self.calls for image in images]

    @property
    def batches(self) -> list[Tensor]:
        """Batches of all images on which the model was called, in order."""
        return [images for images in self.calls if images.shape == self.setting.images.shape]

    def has_steps(self, steps: int, size: float) -> bool:
        """Return whether the attack took `steps` steps that each change most values by `size`, in normalized units."""
        calls, images = self.calls, self.setting.images
        if len(calls) > 1 and all(len(batch) == 1 for batch in calls):  # one image per call: regroup by step
            length = max(1, len(calls) // len(images))
            starts = range(0, length * len(images), length)
            calls = [torch.cat(each) for each in zip(*(calls[at : at + length] for at in starts))]
        path: list[Tensor] = []
        for batch in [*(batch for batch in calls if batch.shape == images.shape), self.output]:
            if not path or not torch.equal(path[-1], batch):
                path.append(batch)
        path_end = path[-steps - 1 :]
        moves = [(after.double() - before.double()).abs() for before, after in zip(path_end, path_end[1:])]
        are_whole = [((move - size).abs() <= TOLERANCE).double().mean() >= AGREE for move in moves]
        return len(moves) == steps and all(are_whole) and len(path) <= steps + 2  # clean images, start, steps


def require_unclipped(attack: Attack) -> None:
    """Raise CheckFailed if the adversarial images are clipped to [0, 1] in normalized space."""
    images, output = attack.setting.images, attack.output
    if output.min() >= 0 and output.max() <= 1 and images.abs().max() > 1:
        reason = "the images are clipped to [0, 1], but they are normalized: their values go from about -2 to 2.6"
        raise CheckFailed(reason, first_row(attack))


def first_row(attack: Attack) -> str:
    """Format the first row of the first image, before and after the attack."""
    before, after = (images[0, 0, 0].tolist() for images in (attack.setting.images, attack.output))
    return f"{attack.setting}\nthe first image's first row: {before}\ngot: {after}"


def perturb(context: CheckContext, setting: Setting) -> Attack:
    """Run the student's attack and return the run; raise CheckFailed if the output has a wrong shape, inf or NaN."""
    reply = setting.call(context, "perturb")
    output = floats(reply, "output", "what perturb returns")
    if output.shape != setting.images.shape:
        raise CheckFailed(f"perturb returned {shape_of(output)} for images {shape_of(setting.images)}")
    require_finite(output, "the adversarial image")
    tensors = (reply.tensors.get(f"call{number}") for number in range(MAX_CALLS))
    calls = [each for each in tensors if each is not None and each.shape[1:] == setting.images.shape[1:]]
    return Attack(setting, output, calls, reply)


def perturb_twice(context: CheckContext, setting: Setting) -> tuple[Attack, Attack]:
    """Run the student's attack with one step (the options of `setting`), then with two; return both runs.

    If the first step on an image was clipped, its target label is reconstructed from the second run.
    """
    longer = replace(setting, options={**setting.options, "num_steps": 2})
    return perturb(context, setting), perturb(context, longer)


def matches_of(short: Attack, longer: Attack) -> list[list[Match]]:
    """Return, per image, all matches: labels whose loss gradient has the signs of the last step, or the opposite signs.

    The step may start at the clean image or at any image on which the model was called, such as a random start. Images
    without a match in `short` use the last step of `longer`.
    """
    setting, network = short.setting, short.setting.network()
    clean, reach = list(setting.images), setting.options["epsilon"] + TOLERANCE
    between = [image for image in longer.called_images if not any(torch.equal(image, each) for each in clean)]
    matches: list[list[Match]] = [[] for _ in clean]
    for attack, starts in ((short, [*clean, *short.called_images]), (longer, between)):
        for index, image in enumerate(clean):
            for start in [] if matches[index] else starts:
                if (start - image).abs().max() <= reach:
                    labels = followed_labels(network, setting.loss, start, attack.output[index])
                    matches[index] += [Match(label, start) for label in labels]
    return matches


def followed_labels(network: nn.Module, loss: str, start: Tensor, end: Tensor) -> list[int]:
    """Return the labels whose loss gradient at `start` has the signs of `end - start`, or the opposite signs.

    Nearly all changed values must agree. If few values changed, return [].
    """
    change = end.double() - start.double()
    moved = change.abs() > TOLERANCE
    if moved.double().mean() <= MIN_MOVED:
        return []
    images = start.double().expand(CLASSES, -1, -1, -1).clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(LOSSES[loss](network(images), torch.arange(CLASSES)), images)
    share = (gradient.sign() * change.sign())[:, moved].mean(dim=1).abs()
    return [int(label) for label in (share >= 2 * AGREE - 1).nonzero()[:, 0]]


def follow(matches: list[list[Match]], setting: Setting, pick: Pick) -> bool:
    """Return whether each image has a match whose label is `pick(logits)` of the clean image or the match's start."""
    network = setting.network()
    clean = pick(network(setting.images.double())).tolist()
    return all(
        any(match.label in (label, int(pick(network(match.start[None].double()))[0])) for match in each)
        for each, label in zip(matches, clean)
    )


def is_picked_anew(attack: Attack) -> bool:
    """Return whether the last step on a single image lowers the loss of a label that only became the least one."""
    network, start = attack.setting.network(), _starts(attack)[-1]
    clean, now = (int(least(network(images.double()))[0]) for images in (attack.setting.images, start[None]))
    return now != clean and followed_labels(network, attack.setting.loss, start, attack.output[0]) == [now]


def is_accumulated(attack: Attack) -> bool:
    """Return whether the last step on a single image follows the sum of the gradients at all images so far."""
    setting, images = attack.setting, _starts(attack)
    move = (attack.output[0] - images[-1]).double()
    moved = move.abs() > TOLERANCE
    if len(images) < 3 or not moved.any():
        return False
    target = least(setting.network()(setting.images.double())).expand(len(images))
    gradients = slopes(replace(setting, images=torch.stack(images)), lambda scores: target)
    alone, together = (
        (gradient.sign() * move.sign())[moved].mean().item() for gradient in (gradients[-1], gradients.sum(dim=0))
    )
    return together <= 1 - 2 * AGREE < alone


def _starts(attack: Attack) -> list[Tensor]:
    """Return the images before each step of an attack on a single image: the clean one, then where it was called."""
    starts = [attack.setting.images[0]]
    for image in attack.called_images:
        if not torch.equal(image, starts[-1]) and not torch.equal(image, attack.output[0]):
            starts.append(image)
    return starts


def changes_least_most(setting: Setting, start: Tensor, end: Tensor) -> bool:
    """Return whether the least confident label's log-probability changed most, compared with all other labels.

    From batch `start` to batch `end`, it must rise most in every image, or fall most in every image.
    """
    network = setting.network()
    with torch.no_grad():
        before, after = (network(images.double()).log_softmax(dim=1) for images in (start, end))
        target = least(network(setting.images.double()))
    change = after - before
    return bool((change.argmax(dim=1) == target).all() or (change.argmin(dim=1) == target).all())
