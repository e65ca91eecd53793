"""The attacks that measure robustness, and their budget."""

from dataclasses import dataclass
from typing import NamedTuple

from scenelab.attacks import APGD, FGSM, PGD, Attack, Square, TargetedAPGD

LEFTOVER = ("apgd-t", "square")  # these attack only images that resist the others


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Strength of the attacks."""

    steps: int = 20  # of PGD and of APGD-CE
    targeted_steps: int = 20  # of APGD-T per class
    classes: int = 9  # that APGD-T tries
    queries: int = 500  # of Square


THOROUGH = Effort(steps=100, targeted_steps=100, classes=9, queries=5000)
"""The budget of AutoAttack (Croce & Hein 2020), without FAB."""


class Method(NamedTuple):
    """An attack and its description for the report."""

    attack: Attack
    description: str
    quantize: bool = False


def methods(effort: Effort) -> dict[str, Method]:
    """Return the attacks in the order in which they run."""
    steps, targeted_steps, classes = effort.steps, effort.targeted_steps, effort.classes
    targeted = f"Auto-PGD on the targeted DLR loss, {classes} classes, {targeted_steps} steps each"
    return {
        "fgsm": Method(FGSM(), "one step of ε"),
        "pgd": Method(PGD(steps=steps, random_start=True), f"PGD, {steps} steps from a random start"),
        "apgd-ce": Method(APGD(steps=steps), f"Auto-PGD on cross-entropy, {steps} steps"),
        "pgd-8bit": Method(PGD(steps=steps), f"PGD, {steps} steps, each image on whole levels of 8 bits", True),
        "apgd-t": Method(TargetedAPGD(steps=targeted_steps, classes=classes), targeted),
        "square": Method(Square(queries=effort.queries), f"Square, {effort.queries} queries and no gradient"),
    }
