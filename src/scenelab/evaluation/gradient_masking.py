"""Signs of gradient masking, where attacks fail on a model that is not robust (Athalye et al. 2018)."""

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
    """One sign.

    Attributes:
        sign: short name.
        text: what was seen and what it means.
    """

    sign: str
    text: str


def check_outputs(model: Model, images: Float[Tensor, "n c h w"]) -> list[MaskingSign]:
    """Check that the model is deterministic and returns logits, not probabilities."""
    signs = []
    with eval_mode(model), torch.no_grad():
        first, second = logits_of(model, images), logits_of(model, images)
    change = (first - second).abs().max().item() / (first.std().item() or 1.0)
    if change > TOLERANCE:
        text = (
            f"the same image has scores that differ by {change:.2g} of their spread from one look to the next: a "
            "single gradient says little; attack the mean over many looks"
        )
        signs.append(MaskingSign("randomised", text))
    if first.min() >= 0 and bool(((first.sum(dim=1) - 1).abs() < 1e-3).all()):
        text = (
            "the scores add up to 1: they are probabilities, whose gradient vanishes where the model is sure; "
            "attack its logits"
        )
        signs.append(MaskingSign("probabilities", text))
    return signs


def check_gradients(model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]) -> list[MaskingSign]:
    """Check that the loss has a gradient."""
    with eval_mode(model):
        grads = loss_and_grad(model, images.detach().clone(), Goal(labels=labels), cross_entropy)[2]
    without = (grads.abs().flatten(1).amax(dim=1) <= torch.finfo(grads.dtype).tiny).float().mean().item()
    if without <= MAX_WITHOUT_GRADIENT:
        return []
    text = (
        f"{100 * without:.0f} % of the images have no gradient of the loss: rounding, a step or a saturated function "
        "is in the way, and attacks that follow it stand still"
    )
    return [MaskingSign("vanishing", text)]


def check_large(model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]) -> list[MaskingSign]:
    """Check that a nearly unlimited perturbation fools nearly all images."""
    attack = PGD(steps=STEPS, random_start=True)
    robust = _robust_percent(model, images, labels, attack, LARGE_EPSILON)
    if robust <= SLACK:
        return []
    text = (
        f"with ε = {LARGE_EPSILON:g}, at which every image can be made grey, {robust:.0f} % still stand: the attack "
        "fails, not the perturbation"
    )
    return [MaskingSign("large", text)]


def check_steps(
    model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], *, epsilon: float
) -> list[MaskingSign]:
    """Check that many steps fool at least as many images as one."""
    one_step = PGD(steps=1, step_size=epsilon, keep_best=False, early_stop=False)
    many_steps = PGD(steps=STEPS, keep_best=False, early_stop=False)
    one, many = (_robust_percent(model, images, labels, attack, epsilon) for attack in (one_step, many_steps))
    if many <= one + SLACK:
        return []
    text = (
        f"{STEPS} steps leave {many:.0f} % standing, one step {one:.0f} %: the loss is rugged, or the "
        "model was trained against one step alone (catastrophic overfitting)"
    )
    return [MaskingSign("steps", text)]


def _robust_percent(model: Model, images: Tensor, labels: Tensor, attack: PGD, epsilon: float) -> float:
    return 100 * (~attack(model, images, labels, threat=Linf(epsilon)).success).float().mean().item()


def check_black_box(epsilon: str, *, fooled: int, images: int) -> list[MaskingSign]:
    """Check that an attack without gradients fools no images that resist gradient attacks.

    Args:
        epsilon: name for the text.
        fooled: images that resisted all gradient attacks and not the one without gradients.
        images: all attacked images.
    """
    if 100 * fooled <= SLACK * images:
        return []
    text = (
        f"at ε = {epsilon} {fooled} of {images} images were fooled without any gradient that all attacks with "
        "gradients had left: the gradients do not show the way"
    )
    return [MaskingSign("black box", text)]


def check_monotone(epsilons: list[float], accuracies: list[float]) -> list[MaskingSign]:
    """Check that robust accuracy falls with ε.

    Args:
        epsilons: in ascending order.
        accuracies: worst case at each, in percent.
    """
    for (small, before), (large, after) in pairwise(zip(epsilons, accuracies, strict=True)):
        if after > before + SLACK:
            text = (
                f"at ε = {large:.4f} {after:.1f} % stand, at the smaller {small:.4f} only {before:.1f} %: whatever "
                "fools within the smaller ball is in the larger one as well"
            )
            return [MaskingSign("not monotone", text)]
    return []
