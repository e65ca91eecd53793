"""Adversarial attacks on any callable from N×C×H×W images to N×K logits.

An attack is an immutable configuration: `PGD(steps=10)(model, images, labels, threat=Linf(8 / 255))`. A call runs the
model in eval mode. Training modes, gradients of parameters, hooks and grad mode stay the same. What the model itself
changes in a forward pass, such as a counter in a buffer or the random state, is not restored.
"""

from scenelab.attacks.apgd import APGD, TargetedAPGD
from scenelab.attacks.attack import Attack, AttackResult
from scenelab.attacks.objectives import AttackLoss, Goal, cross_entropy, dlr, margin
from scenelab.attacks.pgd import FGSM, PGD
from scenelab.attacks.square import Square
from scenelab.attacks.threat import L2, Linf, Threat

__all__ = ["APGD", "FGSM", "PGD", "Attack", "AttackResult", "Square", "TargetedAPGD"]
__all__ += ["L2", "AttackLoss", "Goal", "Linf", "Threat", "cross_entropy", "dlr", "margin"]
