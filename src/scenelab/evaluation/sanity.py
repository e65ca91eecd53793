"""Does a map depend on what the model has learned? Randomising its parameters (Adebayo et al. 2018).

Parameters are drawn anew, layer by layer: all from the last down to one (cascading), or one alone (independent). A
normalisation goes with the layer that it follows. A map that stays as it was does not explain the model; an edge
detector would pass for it.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scenelab.classifier import Advance, silent
from scenelab.evaluation.intervals import mean_error

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
        error: how far the cascading mean lies at most from that of all images, at 95 %; NaN for one image.
        images: how many of the cascading maps could be compared.
    """

    layer: str
    cascading: float
    independent: float
    error: float = 0.0
    images: int = 1


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
        (together, error, count), (single, _, _) = (_likeness(original, watched(made)) for made in (cascade, alone))
        checks.append(LayerCheck(names[0], together, single, error, count))
    return checks


def layers(model: nn.Module) -> list[list[str]]:
    """The names of what is randomised at once: a layer, and in a sequence the normalisation behind it."""
    behind = {
        f"{name}.{second}".removeprefix("."): f"{name}.{first}".removeprefix(".")
        for name, sequence in model.named_modules() if isinstance(sequence, nn.Sequential)
        for first, second in pairwise(sequence._modules)
        if isinstance(sequence._modules[second], NORMALISATIONS)
    }  # fmt: skip
    found: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        if callable(getattr(module, "reset_parameters", None)):
            found.setdefault(behind.get(name, name), []).append(name)
    return list(found.values())


def untouched(model: nn.Module) -> list[str]:
    """Parameters that stay as they were trained, since no module knows how to draw them anew."""
    drawn = {
        f"{name}.{own}".removeprefix(".")
        for names in layers(model) for name in names
        for own, _ in model.get_submodule(name).named_parameters(recurse=False)
    }  # fmt: skip
    return [name for name, _ in model.named_parameters() if name not in drawn]


def _likeness(original: Tensor, maps: Tensor) -> tuple[float, float, int]:
    """Mean, its error at 95 %, and how many images have it; NaN where most have not."""
    values = rank_correlation(original, maps)
    valid = values[~values.isnan()].tolist()
    if 2 * len(valid) < len(values):
        return math.nan, math.nan, len(valid)
    return mean(valid), mean_error(valid), len(valid)


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
    """What the cascade says, in words, at the worse end of its error; and which layers the maps do not notice alone."""
    if not checks:
        return "the model has no layers that could be randomised"
    last, first = checks[0], checks[-1]
    if math.isnan(last.cascading) or math.isnan(first.cascading):
        return "undecided: the randomised network's maps are empty in most images"
    deaf = [check.layer for check in checks if check.independent > SAME]
    told = _cascade(last, first)
    return told + (f"; alone random, {', '.join(deaf)} hardly change them" if 0 < len(deaf) < len(checks) else "")


def _cascade(last: LayerCheck, first: LayerCheck) -> str:
    if first.cascading - _error(first) > SAME:
        return (
            f"fails: with every layer random the maps are still alike (rank correlation {_told(first)}); they show the "
            "picture, not what the model learned"
        )
    if first.cascading + _error(first) >= CHANGED:
        return f"undecided: with every layer random the maps are half alike (rank correlation {_told(first)})"
    if last.cascading + _error(last) >= SAME:
        return (
            f"passes in part: with every layer random the maps are others ({_told(first)}), but they hardly notice the "
            f"last layer ({_told(last)}), so they say little of one class against another"
        )
    return (
        f"passes: randomising the last layer alone changes the maps (rank correlation {_told(last)}), and with every "
        f"layer random they are others ({_told(first)})"
    )


def _error(check: LayerCheck) -> float:
    return 0.0 if math.isnan(check.error) else check.error


def _told(check: LayerCheck) -> str:
    return f"{check.cascading:.2f} ± {_error(check):.2f}"
