"""Part 3: projected gradient descent."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from scenelab.course.grading.checks.attack_setting import (
    AGREE,
    LINEAR,
    NORMED,
    SMALL,
    TOLERANCE,
    Setting,
    agrees,
    call_student,
    draw_setting,
    least,
    reference,
    require_detached,
    require_left_alone,
    setting,
)
from scenelab.course.grading.checks.base import (
    CheckContext,
    CheckFailed,
    check,
    comparison,
    floats,
    require_finite,
    shape_of,
)
from scenelab.course.grading.scenelab_runner.networks import CLASSES, LOSSES, MAX_CALLS
from scenelab.course.grading.scenelab_runner.wire import Message

Pick = Callable[[Tensor], Tensor]

SINGLES = 6
DESCENT = {"num_steps": 10, "step_size": 0.02, "epsilon": 0.2}
WRONG_SIGN = 0.25  # of the points that an attack in the wrong direction earns
MIN_MOVED = 0.25  # of the values: the others were cut short
MIN_GAIN = 0.35  # of what the reference lowers the loss by: half the steps or half of epsilon reach 0.5, moving away
# from the predicted label 0.05 to 0.24 (60 seeds)


def _perturb(context: CheckContext, made: Setting) -> tuple[Tensor, Message]:
    """The student's adversarial images, of the right shape and made of numbers."""
    reply = call_student(context, "perturb", made)
    found = floats(reply, "output", "what perturb returns")
    if found.shape != made.images.shape:
        raise CheckFailed(f"perturb returned {shape_of(found)} for images {shape_of(made.images)}")
    require_finite(found, "the adversarial image")
    return found, reply


def _loss_of_least(made: Setting, images: Tensor) -> Tensor:
    """Cross-entropy of the least confident label of the clean images, for each image."""
    network = made.network()
    with torch.no_grad():
        target = least(network(made.images.double()))
        return nn.functional.cross_entropy(network(images.double()), target, reduction="none")


@check("attack", needs=("attack_label",))
def attack_stays_close(context: CheckContext) -> None:
    """No value of any pixel is further than epsilon from where it began, and the image does change."""
    for epsilon, size, steps in ((0.1, 0.01, 10), (0.05, 0.03, 4), (0.02, 0.5, 2), (0.1, 0.01, 30)):
        made = setting(context, SMALL, num_steps=steps, step_size=size, epsilon=epsilon)
        found, _ = _perturb(context, made)
        change = (found.double() - made.images.double()).abs()
        if change.max() == 0:
            raise CheckFailed("the images come back unchanged", str(made))
        if change.max() > epsilon + 1e-5:
            above = 100 * (change > epsilon + 1e-5).double().mean().item()
            clipped = found.min() >= 0 and found.max() <= 1 and made.images.abs().max() > 1
            why = "clip after each step, around the input, not the last image"
            if clipped:
                why = "they are clipped to [0, 1], but the images are normalised: their values go from about -2 to 2.6"
            raise CheckFailed(
                f"values are up to {change.max():.4f} from where they began, epsilon is {epsilon:g} "
                f"({above:.0f} % of them are too far); {why}",
                f"{made}\nthe first image's first row: {made.images[0, 0, 0].tolist()}\ngot: {found[0, 0, 0].tolist()}",
            )


@check("attack", needs=("attack_label",))
def attack_descends(context: CheckContext) -> None:
    """The attack lowers the loss of the least confident label."""
    gains, losses, runs = [], [], []
    for number in range(SINGLES):  # one image each: labels that are taken over a batch have a check of their own
        made = draw_setting(context, LINEAR, 1, 6, "cross_entropy", DESCENT, f"{context.name} {number}")
        found, _ = _perturb(context, made)
        near = torch.clamp(found - made.images, -made.options["epsilon"], made.options["epsilon"])
        before, after = _loss_of_least(made, made.images), _loss_of_least(made, made.images + near)
        best = _loss_of_least(made, reference(made))
        gains.append(((before - after) / (before - best)).mean().item())
        losses.append(torch.stack([before.mean(), after.mean(), best.mean()]))
        runs.append((made, found))
    gained, (before, after, best) = sum(gains) / len(gains), torch.stack(losses).mean(dim=0).tolist()
    example = (
        f"{runs[0][0]}; {SINGLES} of them\nloss before: {before:.4f}, after: {after:.4f}, by the reference: {best:.4f}"
    )
    if gained < -MIN_GAIN:
        if not all(any(agrees(found, reference(m, sign=1, anew=anew)) for anew in (False, True)) for m, found in runs):
            raise CheckFailed("the loss of the least confident label rises instead of falling", example)
        raise CheckFailed(
            "the loss of the least confident label rises: the step has the wrong sign. Subtract the sign of the "
            "gradient; to add it is the attack that moves away from a label",
            example, share=WRONG_SIGN,
        )  # fmt: skip
    if gained < MIN_GAIN:
        raise CheckFailed("the loss of the least confident label does not fall, or hardly", example)


@dataclass(frozen=True)
class _Match:
    """A label whose loss an image's last step follows, and the images where the step may have begun."""

    label: int
    begin: Tensor


@dataclass(frozen=True)
class _Run:
    """What an attack gave, and the images that it called the model with."""

    output: Tensor
    called: list[Tensor]


def _run_twice(context: CheckContext, made: Setting) -> tuple[_Run, _Run]:
    """The attack with its one step, and with two: where the first is cut short, the second one tells."""
    longer = Setting(made.layers, made.images, {**made.options, "num_steps": 2}, made.loss, made.weights)
    runs = []
    for each in (made, longer):
        output, reply = _perturb(context, each)
        runs.append(_Run(output, _called_with(made, reply)))
    return runs[0], runs[1]


def _matches(made: Setting, runs: tuple[_Run, _Run]) -> list[list[_Match]]:
    """For each image, the labels whose loss its last step follows, up or down.

    The step goes from the clean image or from one that the model was called with, alone or in a batch, such as a random
    start.
    """
    short, longer = runs
    clean = list(made.images)
    between = [image for image in _images_of(longer) if not any(torch.equal(image, each) for each in clean)]
    reach, network = made.options["epsilon"] + TOLERANCE, made.network()
    found: list[list[_Match]] = [[] for _ in clean]
    for run, begins in ((short, [*clean, *_images_of(short)]), (longer, between)):
        for index, image in enumerate(clean):
            for begin in [] if found[index] else begins:
                if (begin - image).abs().max() <= reach:
                    change = run.output[index].double() - begin.double()
                    found[index] += [_Match(label, begin) for label in _followed(network, made.loss, begin, change)]
    return found


def _images_of(run: _Run) -> list[Tensor]:
    return [image for images in run.called for image in images]


def _called_with(made: Setting, reply: Message) -> list[Tensor]:
    """Images that the attack called the model with, in order, in batches of any number."""
    tensors = (reply.tensors.get(f"call{number}") for number in range(MAX_CALLS))
    return [each for each in tensors if each is not None and each.shape[1:] == made.images.shape[1:]]


def _followed(network: nn.Module, loss: str, begin: Tensor, change: Tensor) -> list[int]:
    """Labels for which a change has the signs of the loss's gradient, all of them or all turned round."""
    moved = change.abs() > TOLERANCE
    if moved.double().mean() <= MIN_MOVED:
        return []
    images = begin.double().expand(CLASSES, -1, -1, -1).clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(LOSSES[loss](network(images), torch.arange(CLASSES)), images)
    share = (gradient.sign() * change.sign())[:, moved].mean(dim=1).abs()
    return [int(label) for label in (share >= 2 * AGREE - 1).nonzero()[:, 0]]


def _are(matches: list[list[_Match]], made: Setting, pick: Pick) -> bool:
    """Whether each image's label is the one picked from the clean images, or from that where its step began."""
    network = made.network()
    clean = pick(network(made.images.double())).tolist()
    return all(
        any(match.label in (label, int(pick(network(match.begin[None].double()))[0])) for match in each)
        for each, label in zip(matches, clean, strict=True)
    )


@check("attack")
def attack_label(context: CheckContext) -> None:
    """The label is the least confident one, of the clean image or of each step's; each image has its own."""
    made = setting(context, LINEAR, images=6, differ=True, num_steps=1, step_size=0.01, epsilon=1.0)
    runs = _run_twice(context, made)
    short, longer = runs
    if torch.equal(short.output, made.images):
        raise CheckFailed("the images come back unchanged", str(made))
    matches = _matches(made, runs)
    if _are(matches, made, least) or _label_of_most_change(made, made.images, short.output):
        return
    whole = [images for images in longer.called if images.shape == made.images.shape]
    if whole and _label_of_most_change(made, whole[-1], longer.output):
        return
    others: list[tuple[str, Pick]] = [
        ("the most confident one", lambda scores: scores.argmax(dim=1)),
        ("the second most confident one", lambda scores: scores.topk(2, dim=1).indices[:, 1]),
        ("the second least confident one", lambda scores: (-scores).topk(2, dim=1).indices[:, 1]),
        ("one label for the whole batch", lambda scores: scores.mean(dim=0).argmin().expand(len(scores))),
        ("the first image's for all", lambda scores: scores[0].argmin().expand(len(scores))),
        *((f"always {label}", _always(label)) for label in range(CLASSES)),
    ]
    for name, pick in others if all(matches) else []:
        if _are(matches, made, pick):
            raise CheckFailed(f"the label is not the least confident one but {name}", str(made), known=True)
    example = _rows(short.output, reference(made), made)
    if all(matches):
        labels = ", ".join(str(each[0].label) for each in matches)
        text = f"the labels are not the least confident ones but others ({labels})"
        raise CheckFailed(text, example, known=True)
    raise CheckFailed("the images are not those of the least confident label", example)


def _always(label: int) -> Pick:
    return lambda scores: torch.full((len(scores),), label)


def _label_of_most_change(made: Setting, begin: Tensor, found: Tensor) -> bool:
    """Whether it is the least confident label whose score changed most for each image, as by its score's gradient."""
    network = made.network()
    with torch.no_grad():
        before, after = (network(images.double()).log_softmax(dim=1) for images in (begin, found))
        target = least(network(made.images.double()))
    change = after - before
    return bool((change.argmax(dim=1) == target).all() or (change.argmin(dim=1) == target).all())


@check("attack", needs=("attack_label",))
def attack_steps(context: CheckContext) -> None:
    """num_steps and step_size are used: each step moves every value by step_size."""
    for steps, size in ((1, 0.01), (1, 0.03), (5, 0.01)):
        made = setting(context, LINEAR, num_steps=steps, step_size=size, epsilon=1.0)
        found, reply = _perturb(context, made)
        change = (found.double() - made.images.double()).abs()
        expected = [(reference(made, sign=s, anew=a) - made.images).abs() for s in (-1, 1) for a in (False, True)]
        if any(agrees(change, each) for each in expected) or _steps_fit(change, steps, size):
            continue
        if _path_fits(made, found, reply, steps, size):
            continue
        moved = change.median().item()
        raise CheckFailed(
            f"{steps} step{'s' * (steps > 1)} of {size:g} moved the values by {moved:.4f} (median); "
            f"{expected[0].median():.4f} is expected", _rows(found, reference(made), made),
        )  # fmt: skip


def _steps_fit(change: Tensor, steps: int, size: float) -> bool:
    """Whether values have moved by whole steps, and nearly all by so many: another label, but the steps are right."""
    whole = (change / size - (change / size).round()).abs() < 1e-2
    return (
        bool(whole.double().mean() >= AGREE)
        and bool((change / size).max() <= steps + 1e-2)
        and bool((change / size).max() >= steps - 1e-2)
    )


def _chunks(items: list[Tensor], count: int) -> list[list[Tensor]]:
    """So many parts of one length, one after the other."""
    size = max(1, len(items) // count)
    return [items[start : start + size] for start in range(0, size * count, size)]


def _path_fits(made: Setting, found: Tensor, reply: Message, steps: int, size: float) -> bool:
    """Whether the images that the model was called with lie so many steps of that size apart, from a random start."""
    path: list[Tensor] = []
    called = _called_with(made, reply)
    if len(called) > 1 and all(len(images) == 1 for images in called):  # image by image: as many calls for each
        called = [torch.cat(each) for each in zip(*_chunks(called, len(made.images)), strict=False)]
    for images in [*(images for images in called if images.shape == made.images.shape), found]:
        if not path or not torch.equal(path[-1], images):
            path.append(images)
    moves = [(after.double() - before.double()).abs() for before, after in pairwise(path[-steps - 1 :])]
    whole = [((move - size).abs() <= TOLERANCE).double().mean() >= AGREE for move in moves]
    return len(whole) == steps and all(whole) and len(path) <= steps + 2  # the clean images for the label, the start


@check("attack")
def attack_loss(context: CheckContext) -> None:
    """The loss that the attack was made with is the one that it lowers."""
    made = setting(context, LINEAR, loss="lead", num_steps=1, step_size=0.02, epsilon=1.0)
    runs = _run_twice(context, made)
    if all(_matches(made, runs)):
        return
    short, _ = runs
    network, begins = made.network(), [*made.images, *_images_of(short)]
    other = all(
        any(_followed(network, "cross_entropy", begin, image.double() - begin.double()) for begin in begins)
        for image in short.output
    )
    why = "it uses cross-entropy whatever it is given" if other else "another loss gives another direction"
    raise CheckFailed(
        f"the attack does not follow the loss_fn that it was made with: {why}; use self.loss_fn", str(made)
    )


@check("attack", needs=("attack_label",))
def attack_graph(context: CheckContext) -> None:
    """The graph of gradients does not grow from step to step, and the images that come back are detached."""
    made = setting(context, SMALL, num_steps=8, step_size=0.01, epsilon=0.1)
    _, reply = _perturb(context, made)
    depths = reply.values.get("depths")
    if not isinstance(depths, list) or not depths or not all(type(depth) is int for depth in depths):
        raise CheckFailed("the attack never calls the model")
    require_detached(context, reply, "images")
    if max(depths) > 12 and depths[-1] > 2 * max(depths[: max(1, len(depths) // 2)]) - 2:
        raise CheckFailed(
            f"the graph behind the image grows from step to step ({depths[0]}, {depths[1]}, … {depths[-1]} nodes); "
            "detach the image"
        )


@check("attack", needs=("attack_label",))
def attack_leaves_model(context: CheckContext) -> None:
    """Images, weights, statistics and mode of the model are the same afterwards."""
    made = setting(context, NORMED, num_steps=4, step_size=0.01, epsilon=0.1)
    _, reply = _perturb(context, made)
    require_left_alone(context, made, reply, "attack")


def _rows(found: Tensor, expected: Tensor, made: Setting) -> str:
    rows = (found.double()[0, 0, 0] - made.images[0, 0, 0], expected[0, 0, 0] - made.images[0, 0, 0])
    return f"{made}\nchange of the first image's first row; {comparison(*rows)}"
