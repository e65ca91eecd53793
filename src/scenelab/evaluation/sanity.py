"""Does a map depend on what the model has learned? Randomising its parameters (Adebayo et al. 2018).

Parameters are drawn anew, layer by layer: all from the last down to one (cascading), or one alone (independent). A
normalisation goes with the layer that it follows. A map that stays as it was does not explain the model; an edge
detector would pass for it.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scenelab.asking import Advance, silent

SAME = 0.7  # a rank correlation above this means that the map hardly changed
CHANGED = 0.4  # and one below this that it did

NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)

Explain = Callable[[Any], Tensor]
"""From a model to maps N×1×H×W of fixed images and targets."""


@dataclass(frozen=True)
class LayerCheck:
    """How like the maps are to those of the trained model once a layer (and, cascading, all behind it) is random.

    Attributes:
        layer: its name in the model; of a layer with its normalisation the layer's.
        cascading, independent: rank correlation of the absolute maps, the mean over the images, in [-1, 1]; NaN where
            the maps are the same everywhere in most images, so that there is nothing to compare.
    """

    layer: str
    cascading: float
    independent: float


def check_layers(model: nn.Module, explain: Explain, *, seed: int = 0, advance: Advance = silent) -> list[LayerCheck]:
    """Randomise the layers from the last to the first; the model itself stays as it is.

    Layers are the modules that have a `reset_parameters`, in the order in which they were made; normalisation goes
    back to scale 1, shift 0 and no statistics. The draws are a function of the seed, and the caller's random state is
    not touched.

    Args:
        advance: called with 1 whenever maps were made, `1 + 2 * len(layers(model))` times.
    """

    def watched(changed: nn.Module) -> Tensor:
        maps = explain(changed)
        advance(1)
        return maps

    original = watched(model)
    cascade, checks = copy.deepcopy(model), []
    for number, names in enumerate(reversed(layers(model))):
        alone = copy.deepcopy(model)
        for changed in (cascade, alone):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed + number)
                for name in names:
                    changed.get_submodule(name).reset_parameters()  # pyright: ignore[reportCallIssue]
        likeness = [_likeness(original, watched(changed)) for changed in (cascade, alone)]
        checks.append(LayerCheck(names[0], *likeness))
    return checks


def layers(model: nn.Module) -> list[list[str]]:
    """The names of what is randomised at once: a layer with parameters, and the normalisations that follow it."""
    found: list[list[str]] = []
    for name, module in model.named_modules():
        if callable(getattr(module, "reset_parameters", None)):
            if found and isinstance(module, NORMALISATIONS):
                found[-1].append(name)
            else:
                found.append([name])
    return found


def _likeness(original: Tensor, maps: Tensor) -> float:
    values = rank_correlation(original, maps)
    valid = values[~values.isnan()].tolist()
    return mean(valid) if 2 * len(valid) >= len(values) else math.nan


def rank_correlation(first: Float[Tensor, "n 1 h w"], second: Float[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """Spearman's correlation of the absolute values, image by image; ties have their mean rank.

    Where a map has one value everywhere it orders nothing, and the correlation is NaN.
    """
    ranks = [_ranks(maps.abs().flatten(1).double()) for maps in (first, second)]
    centred = [rank - rank.mean(dim=1, keepdim=True) for rank in ranks]
    norms = centred[0].norm(dim=1) * centred[1].norm(dim=1)
    products = (centred[0] * centred[1]).sum(dim=1)
    return torch.where(norms > 0, products / norms, torch.full_like(norms, math.nan))


def _ranks(values: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Ranks from 0, equal values sharing the mean of theirs."""
    ranks = torch.empty_like(values)
    for row, line in enumerate(values):
        _, inverse, counts = line.unique(return_inverse=True, return_counts=True)
        ends = counts.cumsum(0).double()
        ranks[row] = (ends - (counts + 1) / 2)[inverse]
    return ranks


def verdict(checks: list[LayerCheck]) -> str:
    """What the cascade says, in words."""
    if not checks:
        return "the model has no layers that could be randomised"
    last, first = checks[0].cascading, checks[-1].cascading
    if math.isnan(last) or math.isnan(first):
        return "undecided: the randomised network's maps are empty in most images"
    if first > SAME:
        return (
            f"fails: with every layer random the maps are still alike (rank correlation {first:.2f}); they show the "
            "picture, not what the model learned"
        )
    if first < CHANGED and last < SAME:
        return (
            f"passes: randomising the last layer alone changes the maps (rank correlation {last:.2f}), and with every "
            f"layer random they are others ({first:.2f})"
        )
    if first < CHANGED:
        return (
            f"passes in part: with every layer random the maps are others ({first:.2f}), but they hardly notice the "
            f"last layer ({last:.2f}), so they say little of one class against another"
        )
    return f"undecided: with every layer random the maps are half alike (rank correlation {first:.2f})"
