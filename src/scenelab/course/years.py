"""Handouts by year, told from the names that a submission defines; needs no torch."""

from __future__ import annotations

from collections.abc import Iterable

YEARS = (2019, 2022, 2024)
LATER = frozenset("default_cnn_model default_vit_model".split())
TRANSFORMS = frozenset("get_train_transforms get_val_transforms".split())
ATTACK = frozenset("PGDAttack default_attack".split())
ATTENTION = frozenset("GradAttention default_attention vis_grad_attention".split())


def year_of(defined: Iterable[str]) -> int:
    """Return the year of the handout whose names a file defines: 2019, 2022, or 2024, which has no attention maps."""
    names = set(defined)
    if not names & LATER and ("default_model" in names or not names & TRANSFORMS):
        return 2019
    return 2024 if names & ATTACK and not names & ATTENTION else 2022
