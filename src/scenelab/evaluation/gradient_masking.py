"""Signs that a model only hides its gradients: attacks then fail, and nothing is robust (Athalye et al. 2018; Carlini
et al. 2019, section 3).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.attacks.gradient_ascent import look
from scenelab.attacks.objectives import Goal, cross_entropy
from scenelab.attacks.pgd import pgd
from scenelab.attacks.threat import Linf
from scenelab.classifier import Model, ask, evaluating

LARGE = 0.5  # ε at which any image can be made grey, so that nothing can be told from it
STEPS = 20
CHANGED = 1e-4  # of scores, relative to their spread, from one look to the next
VANISHED = 0.05  # share of images without a gradient
SLACK = 2.0  # points of accuracy that may be lost to chance where none should be


@dataclass(frozen=True)
class Warned:
    """One sign.

    Attributes:
        sign: its short name.
        text: what was seen and what it means.
    """

    sign: str
    text: str


def check_answers(model: Model, images: Float[Tensor, "n c h w"]) -> list[Warned]:
    """Does the model answer the same twice, and with scores rather than probabilities?"""
    found = []
    with evaluating(model), torch.no_grad():
        first, second = ask(model, images), ask(model, images)
    spread = first.std().item() or 1.0
    change = (first - second).abs().max().item() / spread
    if change > CHANGED:
        found.append(
            Warned(
                "randomised",
                f"the same image has scores that differ by {change:.2g} of their spread from one look to the next: a "
                "single gradient says little; attack the mean over many looks",
            )
        )
    totals = first.sum(dim=1)
    if first.min() >= 0 and bool(((totals - 1).abs() < 1e-3).all()):
        found.append(
            Warned(
                "probabilities",
                "the scores add up to 1: they are probabilities, whose gradient vanishes where the model is sure; "
                "attack its logits",
            )
        )
    return found


def check_gradients(model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]) -> list[Warned]:
    """Is there a gradient to follow at all?"""
    with evaluating(model):
        slopes = look(model, images.detach().clone(), Goal(labels=labels), cross_entropy, slopes=True)[2]
    without = (slopes.abs().flatten(1).amax(dim=1) <= torch.finfo(slopes.dtype).tiny).float().mean().item()
    if without <= VANISHED:
        return []
    text = (
        f"{100 * without:.0f} % of the images have no gradient of the loss: rounding, a step or a saturated function "
        "is in the way, and attacks that follow it stand still"
    )
    return [Warned("vanishing", text)]


def check_large(
    model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], *, steps: int = STEPS
) -> list[Warned]:
    """Does a perturbation that may do nearly everything reach nearly all?"""
    found = pgd(model, images, labels, ball=Linf(LARGE), steps=steps, random_start=True)
    left = 100 * (~found.success).float().mean().item()
    if left <= SLACK:
        return []
    text = (
        f"with ε = {LARGE:g}, at which every image can be made grey, {left:.0f} % still stand: the attack fails, not "
        "the perturbation"
    )
    return [Warned("large", text)]


def check_steps(
    model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], *, epsilon: float
) -> list[Warned]:
    """Do more steps find at least as much as one?"""
    few, many = (
        pgd(model, images, labels, ball=Linf(epsilon), steps=steps, step_size=size, best=False, leave=False)
        for steps, size in ((1, epsilon), (STEPS, None))
    )
    standing = [100 * (~found.success).float().mean().item() for found in (few, many)]
    if standing[1] <= standing[0] + SLACK:
        return []
    text = (
        f"{STEPS} steps leave {standing[1]:.0f} % standing, one step {standing[0]:.0f} %: the loss is rugged, or the "
        "model was trained against one step alone (catastrophic overfitting)"
    )
    return [Warned("steps", text)]


def check_black_box(epsilon: str, *, fooled: int, images: int) -> list[Warned]:
    """Did an attack without gradients fool what those with gradients could not?

    Args:
        fooled: images that stood all attacks with gradients and not the one without.
        images: that were attacked in all.
    """
    if 100 * fooled <= SLACK * images:
        return []
    text = (
        f"at ε = {epsilon} {fooled} of {images} images were fooled without any gradient that all attacks with "
        "gradients "
        "had left: the gradients do not show the way"
    )
    return [Warned("black box", text)]


def check_monotone(epsilons: list[float], accuracies: list[float]) -> list[Warned]:
    """Does a larger ball leave no more images standing?

    Args:
        epsilons: rising.
        accuracies: in percent, of the worst case at each.
    """
    for (small, before), (large, after) in pairwise(zip(epsilons, accuracies, strict=True)):
        if after > before + SLACK:
            text = (
                f"at ε = {large:.4f} {after:.1f} % stand, at the smaller {small:.4f} only {before:.1f} %: whatever "
                "fools within the smaller ball is in the larger one as well"
            )
            return [Warned("not monotone", text)]
    return []
