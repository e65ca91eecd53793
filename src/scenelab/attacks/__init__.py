"""Adversarial images for any callable from N×C×H×W images to N×K scores, within a ball in pixel units.

Every attack leaves a module as it found it: modes, buffers, gradients, hooks, grad mode and random state, also when it
raises. It attacks the model in eval mode, in which an image's scores depend on that image alone. Success is asked again
of the images that are returned.
"""

from scenelab.attacks.apgd import apgd, apgd_targeted
from scenelab.attacks.objectives import Goal, cross_entropy, logits_ratio, margin
from scenelab.attacks.pgd import fgsm, pgd
from scenelab.attacks.result import Attacked
from scenelab.attacks.square import square
from scenelab.attacks.threat import L2, Ball, Linf

__all__ = [
    "L2",
    "Attacked",
    "Ball",
    "Goal",
    "Linf",
    "apgd",
    "apgd_targeted",
    "cross_entropy",
    "fgsm",
    "logits_ratio",
    "margin",
    "pgd",
    "square",
]
