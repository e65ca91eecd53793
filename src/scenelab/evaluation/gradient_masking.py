"""Signs of gradient masking: gradient-based attacks fail, but the model is not robust (Athalye et al. 2018)."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.attacks import PGD, Goal, Linf, cross_entropy
from scenelab.attacks.gradient_ascent import loss_and_grad
from scenelab.classifier import Model, eval_mode, logits_of
from scenelab.evaluation.robustness_results import MaskingSign

LARGE_EPSILON = 0.5  # at this radius, every image can become gray
STEPS = 20
TOLERANCE = 1e-4  # change of the logits between two passes, relative to their spread
MAX_WITHOUT_GRADIENT = 0.05  # fraction of the images
SLACK = 2.0  # percentage points of accuracy that chance may explain
TEXTS = {
    "randomized": "the scores of an image differ by {:.2g} of their spread between two passes: a single gradient says "
    "little; attack the mean over many passes",
    "probabilities": "the scores add up to 1: they are probabilities, whose gradient vanishes where the model is "
    "confident; attack its logits",
    "vanishing": "{:.0f} % of the images have no gradient of the loss: rounding, a step or a saturated function hides "
    "it, and attacks that follow the gradient do not move",
    "large": "with ε = {:g}, at which every image can become gray, {:.0f} % of the images are still robust: the attack "
    "fails, not the perturbation",
    "steps": "{:.0f} % of the images are robust to {} steps, {:.0f} % to one step: the loss is rugged, or the model "
    "was trained against one step alone (catastrophic overfitting)",
    "not monotone": "at ε = {:.4f} {:.1f} % of the images are robust, at the smaller {:.4f} only {:.1f} %: the larger "
    "ball contains the adversarial examples of the smaller one",
    "black box": "at ε = {} an attack without gradients fooled {} of {} images that resisted all attacks with "
    "gradients: the gradients do not lead to adversarial examples",
}


def _sign(name: str, *values: float | str) -> MaskingSign:
    return MaskingSign(name, TEXTS[name].format(*values))


def check_model(
    model: Model, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], *, epsilon: float | None
) -> Iterator[MaskingSign]:
    """Yield the signs of gradient masking that a model shows on correctly classified images.

    Signs: random outputs, probabilities in place of logits, vanishing gradients, failure of PGD at ε = 0.5 and, if
    `epsilon` is given, fewer images fooled by PGD with 20 steps than with one step at this radius.
    """
    with eval_mode(model), torch.no_grad():
        first, second = logits_of(model, images), logits_of(model, images)
    change = (first - second).abs().max().item() / (first.std().item() or 1.0)
    if change > TOLERANCE:
        yield _sign("randomized", change)
    if first.min() >= 0 and bool(((first.sum(dim=1) - 1).abs() < 1e-3).all()):
        yield _sign("probabilities")
    with eval_mode(model):
        grads = loss_and_grad(model, images.detach().clone(), Goal(labels=labels), cross_entropy)[2]
    without = (grads.abs().flatten(1).amax(dim=1) <= torch.finfo(grads.dtype).tiny).float().mean().item()
    if without > MAX_WITHOUT_GRADIENT:
        yield _sign("vanishing", 100 * without)

    def robust(attack: PGD, radius: float) -> float:
        return 100 * (~attack(model, images, labels, threat=Linf(radius)).success).float().mean().item()

    large = robust(PGD(steps=STEPS, random_start=True), LARGE_EPSILON)
    if large > SLACK:
        yield _sign("large", LARGE_EPSILON, large)
    if epsilon is not None:
        one = robust(PGD(steps=1, step_size=epsilon, keep_best=False, early_stop=False), epsilon)
        many = robust(PGD(steps=STEPS, keep_best=False, early_stop=False), epsilon)
        if many > one + SLACK:
            yield _sign("steps", many, STEPS, one)


def check_black_box(epsilon: str, *, fooled: int, given: int, images: int) -> Iterator[MaskingSign]:
    """Yield a sign of gradient masking if `fooled` is more than 2 % of `images`.

    `epsilon` is ε as text, `fooled` the number of images that only the gradient-free attack fooled, `given` the number
    that resisted the other attacks, `images` the total.
    """
    if 100 * fooled > SLACK * images:
        yield _sign("black box", epsilon, fooled, given)


def check_monotone(accuracies: list[tuple[float, float]]) -> Iterator[MaskingSign]:
    """Yield a sign of masking if accuracy, in pairs (ε, percent), rises by over 2 points from one ε to the next."""
    for (small, before), (large, after) in pairwise(accuracies):
        if after > before + SLACK:
            yield _sign("not monotone", large, after, small, before)
            return
