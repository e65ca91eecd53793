"""What an attack did, told from the images that it called the model with: labels followed, steps taken."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from scenelab.course.grading.checks.attack_setting import AGREE, TOLERANCE, Setting, least
from scenelab.course.grading.checks.base import CheckContext, CheckFailed, floats, require_finite, shape_of
from scenelab.course.grading.scenelab_runner.networks import CLASSES, LOSSES, MAX_CALLS
from scenelab.course.grading.scenelab_runner.wire import Message

MIN_MOVED = 0.25  # share of the values that must move: the others were cut short
Pick = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Match:
    """A label whose loss an image's last step follows, and the image where the step may have begun."""

    label: int
    start: Tensor


@dataclass(frozen=True)
class Attack:
    """A run of the student's attack: its output, and the batches that it called the model with."""

    setting: Setting
    output: Tensor
    calls: list[Tensor]
    reply: Message

    @property
    def called_images(self) -> list[Tensor]:
        """The single images of all calls, in order."""
        return [image for images in self.calls for image in images]

    def has_steps(self, steps: int, size: float) -> bool:
        """Return whether the called images lie `steps` steps of `size` apart, from a random start."""
        calls, images = self.calls, self.setting.images
        if len(calls) > 1 and all(len(batch) == 1 for batch in calls):  # image by image: as many calls for each
            length = max(1, len(calls) // len(images))
            starts = range(0, length * len(images), length)
            calls = [torch.cat(each) for each in zip(*(calls[at : at + length] for at in starts), strict=False)]
        path: list[Tensor] = []
        for batch in [*(batch for batch in calls if batch.shape == images.shape), self.output]:
            if not path or not torch.equal(path[-1], batch):
                path.append(batch)
        moves = [(after.double() - before.double()).abs() for before, after in pairwise(path[-steps - 1 :])]
        are_whole = [((move - size).abs() <= TOLERANCE).double().mean() >= AGREE for move in moves]
        return len(moves) == steps and all(are_whole) and len(path) <= steps + 2  # the clean images, the start


def perturb(context: CheckContext, setting: Setting) -> Attack:
    """Run the student's attack; fail if it returns other than images of the right shape and finite values."""
    reply = setting.call(context, "perturb")
    output = floats(reply, "output", "what perturb returns")
    if output.shape != setting.images.shape:
        raise CheckFailed(f"perturb returned {shape_of(output)} for images {shape_of(setting.images)}")
    require_finite(output, "the adversarial image")
    tensors = (reply.tensors.get(f"call{number}") for number in range(MAX_CALLS))
    calls = [each for each in tensors if each is not None and each.shape[1:] == setting.images.shape[1:]]
    return Attack(setting, output, calls, reply)


def perturb_twice(context: CheckContext, setting: Setting) -> tuple[Attack, Attack]:
    """Run the attack with one step, and with two, which tells where the first is cut short."""
    longer = replace(setting, options={**setting.options, "num_steps": 2})
    return perturb(context, setting), perturb(context, longer)


def matches_of(short: Attack, longer: Attack) -> list[list[Match]]:
    """Return for each image the labels whose loss its last step follows, up or down.

    The step goes from the clean image or from one that the model was called with, alone or in a batch, such as a random
    start.
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
    """Return the labels for which a change has the signs of the loss's gradient, or all of them reversed."""
    change = end.double() - start.double()
    moved = change.abs() > TOLERANCE
    if moved.double().mean() <= MIN_MOVED:
        return []
    images = start.double().expand(CLASSES, -1, -1, -1).clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(LOSSES[loss](network(images), torch.arange(CLASSES)), images)
    share = (gradient.sign() * change.sign())[:, moved].mean(dim=1).abs()
    return [int(label) for label in (share >= 2 * AGREE - 1).nonzero()[:, 0]]


def follow(matches: list[list[Match]], setting: Setting, pick: Pick) -> bool:
    """Return whether each label is the one picked from the clean images, or from the image where its step began."""
    network = setting.network()
    clean = pick(network(setting.images.double())).tolist()
    return all(
        any(match.label in (label, int(pick(network(match.start[None].double()))[0])) for match in each)
        for each, label in zip(matches, clean, strict=True)
    )


def changes_least_most(setting: Setting, start: Tensor, end: Tensor) -> bool:
    """Return whether the least confident label's score changed most for each image, as by its score's gradient."""
    network = setting.network()
    with torch.no_grad():
        before, after = (network(images.double()).log_softmax(dim=1) for images in (start, end))
        target = least(network(setting.images.double()))
    change = after - before
    return bool((change.argmax(dim=1) == target).all() or (change.argmin(dim=1) == target).all())
