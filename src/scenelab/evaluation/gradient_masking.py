"""Signs of gradient masking, where attacks fail on a model that is not robust (Athalye et al. 2018)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.attacks import PGD, Goal, Linf, cross_entropy
from scenelab.attacks.gradient_ascent import loss_and_grad
from scenelab.classifier import Model, eval_mode, logits_of

LARGE_EPSILON = 0.5  # every image can become gray
STEPS = 20
TOLERANCE = 1e-4  # change of the logits between two passes, relative to their spread
MAX_WITHOUT_GRADIENT = 0.05  # share of images
SLACK = 2.0  # points of accuracy that chance may explain


@dataclass(frozen=True)
class MaskingSign:
    """Short name of a sign, and what was measured and what it means."""

    sign: str
    text: str


def check_outputs(model: Model, images: Float[Tensor, "n c h w"]) -> Iterator[MaskingSign]:
    """Check that the model is deterministic and returns logits, not probabilities."""
    with eval_mode(model), torch.no_grad():
        first, second = logits_of(model, images), logits_of(model, images)
    change = (first - second).abs().max().item() / (first.std().item() or 1.0)
    if change > TOLERANCE:
        yield MaskingSign(
            "randomised",
            f"the scores of an image differ by {change:.2g} of their spread between two passes: a single gradient says "
            "little; attack the mean over many passes",
        )
    if first.min() >= 0 and bool(((first.sum(dim=1) - 1).abs() < 1e-3).all()):
        yield MaskingSign(
            "probabilities",
            "the scores add up to 1: they are probabilities, whose gradient vanishes where the model is confident; "
            "attack its logits",
        )


def check_gradients(
    model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]
) -> Iterator[MaskingSign]:
    """Check that the loss has a gradient."""
    with eval_mode(model):
        grads = loss_and_grad(model, images.detach().clone(), Goal(labels=labels), cross_entropy)[2]
    without = (grads.abs().flatten(1).amax(dim=1) <= torch.finfo(grads.dtype).tiny).float().mean().item()
    if without > MAX_WITHOUT_GRADIENT:
        yield MaskingSign(
            "vanishing",
            f"{100 * without:.0f} % of the images have no gradient of the loss: rounding, a step or a saturated "
            "function hides it, and attacks that follow the gradient do not move",
        )


def check_large(model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]) -> Iterator[MaskingSign]:
    """Check that a nearly unlimited perturbation fools nearly all images."""
    robust = _robust_percent(model, images, labels, PGD(steps=STEPS, random_start=True), LARGE_EPSILON)
    if robust > SLACK:
        yield MaskingSign(
            "large",
            f"with ε = {LARGE_EPSILON:g}, at which every image can become gray, {robust:.0f} % of the images are still "
            "robust: the attack fails, not the perturbation",
        )


def check_steps(
    model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], *, epsilon: float
) -> Iterator[MaskingSign]:
    """Check that many steps fool at least as many images as one."""
    one_step = PGD(steps=1, step_size=epsilon, keep_best=False, early_stop=False)
    many_steps = PGD(steps=STEPS, keep_best=False, early_stop=False)
    one, many = (_robust_percent(model, images, labels, attack, epsilon) for attack in (one_step, many_steps))
    if many > one + SLACK:
        yield MaskingSign(
            "steps",
            f"{many:.0f} % of the images are robust to {STEPS} steps, {one:.0f} % to one step: the loss is rugged, or "
            "the model was trained against one step alone (catastrophic overfitting)",
        )


def _robust_percent(model: Model, images: Tensor, labels: Tensor, attack: PGD, epsilon: float) -> float:
    return 100 * (~attack(model, images, labels, threat=Linf(epsilon)).success).float().mean().item()


def check_black_box(epsilon: str, *, fooled: int, images: int) -> Iterator[MaskingSign]:
    """Check that an attack without gradients fools no images that resist gradient attacks.

    Args:
        epsilon: name for the text.
        fooled: images that resisted all gradient attacks and not the one without gradients.
        images: all attacked images.
    """
    if 100 * fooled > SLACK * images:
        yield MaskingSign(
            "black box",
            f"at ε = {epsilon} an attack without gradients fooled {fooled} of {images} images that resisted all "
            "attacks with gradients: the gradients do not lead to adversarial examples",
        )


def check_monotone(accuracies: list[tuple[float, float]]) -> Iterator[MaskingSign]:
    """Check that worst-case accuracy, in percent, falls with ε; pairs of both in ascending order of ε."""
    for (small, before), (large, after) in pairwise(accuracies):
        if after > before + SLACK:
            yield MaskingSign(
                "not monotone",
                f"at ε = {large:.4f} {after:.1f} % of the images are robust, at the smaller {small:.4f} only "
                f"{before:.1f} %: the larger ball contains the adversarial examples of the smaller one",
            )
            return
