"""Parameter randomization: does a map depend on what the model learned (Adebayo et al. 2018)?

Layers are randomized from the last to the first, cumulatively (cascading) or one at a time (independent). A map that
stays the same does not explain the model; an edge detector would pass for it.
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
from scipy.stats import rankdata
from torch import Tensor, nn

from scenelab.classifier import OnProgress, no_progress
from scenelab.evaluation.intervals import mean_error

SIMILAR = 0.7  # a rank correlation above this: the map hardly changed
DIFFERENT = 0.4  # a rank correlation below this: the map changed

NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)

Explain = Callable[[Any], Tensor]
"""From a model to maps N×1×H×W of fixed images and targets."""


@dataclass(frozen=True)
class LayerCheck:
    """Similarity to the trained model's maps once a layer is random.

    Attributes:
        layer: name of the layer in the model; its normalization is randomized with it.
        cascading, independent: mean rank correlation of the absolute maps in [-1, 1]; NaN if most maps are constant.
        error: half width of the 95 % interval of the cascading mean; NaN for one image.
        images: number of cascading maps that are not constant.
    """

    layer: str
    cascading: float
    independent: float
    error: float = 0.0
    images: int = 1


def randomize_layers(
    model: nn.Module, explain: Explain, *, seed: int = 0, on_progress: OnProgress = no_progress
) -> list[LayerCheck]:
    """Randomize copies of the model layer by layer from the last; the model does not change.

    Layers are the modules with a `reset_parameters`, in the order of their definition; normalizations are reset to
    scale 1, shift 0 and no statistics. The draws depend on the seed alone; the caller's random state does not change.

    Args:
        on_progress: called with 1 per set of maps, `1 + 2 * len(layer_groups(model))` times.
    """

    def explained(network: nn.Module) -> Tensor:
        maps = explain(network)
        on_progress(1)
        return maps

    original = explained(model)
    cascading, checks = copy.deepcopy(model), []
    for number, names in enumerate(reversed(layer_groups(model))):
        independent = copy.deepcopy(model)
        for network in (cascading, independent):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed + number)
                for name in names:
                    network.get_submodule(name).reset_parameters()  # pyright: ignore[reportCallIssue]
        together, error, count = _similarity(original, explained(cascading))
        alone, _, _ = _similarity(original, explained(independent))
        checks.append(LayerCheck(names[0], together, alone, error, count))
    return checks


def layer_groups(model: nn.Module) -> list[list[str]]:
    """Return the names of modules that are randomized together: a layer, and a normalization right behind it."""
    owners: dict[str, str] = {}
    for name, sequence in model.named_modules():
        if isinstance(sequence, nn.Sequential):
            for first, second in pairwise(sequence._modules):
                if isinstance(sequence._modules[second], NORMALIZATIONS):
                    owners[f"{name}.{second}".removeprefix(".")] = f"{name}.{first}".removeprefix(".")
    groups: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        if callable(getattr(module, "reset_parameters", None)):
            groups.setdefault(owners.get(name, name), []).append(name)
    return list(groups.values())


def unrandomized(model: nn.Module) -> list[str]:
    """Return the parameters that keep their trained values, as no module can reset them."""
    names = [name for group in layer_groups(model) for name in group]
    reset = {id(parameter) for name in names for parameter in model.get_submodule(name).parameters(recurse=False)}
    return [name for name, parameter in model.named_parameters() if id(parameter) not in reset]


def _similarity(original: Tensor, maps: Tensor) -> tuple[float, float, int]:
    """Return mean, half width of its 95 % interval, and number of images; NaN if most images have no value."""
    values = rank_correlation(original, maps)
    valid = values[~values.isnan()].tolist()
    if 2 * len(valid) < len(values):
        return math.nan, math.nan, len(valid)
    return mean(valid), mean_error(valid), len(valid)


def rank_correlation(first: Float[Tensor, "n 1 h w"], second: Float[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """Return Spearman's correlation of the absolute values per image; NaN for a constant map."""
    absolute = (maps.detach().abs().flatten(1).double().cpu().numpy() for maps in (first, second))
    ranks = [torch.from_numpy(rankdata(values, axis=1)) for values in absolute]
    centered = [rank - rank.mean(dim=1, keepdim=True) for rank in ranks]
    norms = centered[0].norm(dim=1) * centered[1].norm(dim=1)
    products = (centered[0] * centered[1]).sum(dim=1)
    return torch.where(norms > 0, products / norms, torch.full_like(norms, math.nan))


def verdict(checks: list[LayerCheck]) -> str:
    """Describe the cascade at the worse end of its error, and name layers whose maps do not change alone."""
    if not checks:
        return "the model has no layers that could be randomised"
    last, first = checks[0], checks[-1]
    if math.isnan(last.cascading) or math.isnan(first.cascading):
        return "undecided: the randomised network's maps are empty in most images"
    insensitive = [check.layer for check in checks if check.independent > SIMILAR]
    suffix = f"; alone random, {', '.join(insensitive)} hardly change them"
    return _cascade_verdict(last, first) + (suffix if 0 < len(insensitive) < len(checks) else "")


def _cascade_verdict(last: LayerCheck, first: LayerCheck) -> str:
    if first.cascading - _error(first) > SIMILAR:
        return (
            f"fails: with every layer random the maps are still alike (rank correlation {_format(first)}); they show "
            "the picture, not what the model learned"
        )
    if first.cascading + _error(first) >= DIFFERENT:
        return f"undecided: with every layer random the maps are half alike (rank correlation {_format(first)})"
    if last.cascading + _error(last) >= SIMILAR:
        return (
            f"passes in part: with every layer random the maps are others ({_format(first)}), but they hardly notice "
            f"the last layer ({_format(last)}), so they say little of one class against another"
        )
    return (
        f"passes: randomising the last layer alone changes the maps (rank correlation {_format(last)}), and with every "
        f"layer random they are others ({_format(first)})"
    )


def _error(check: LayerCheck) -> float:
    return 0.0 if math.isnan(check.error) else check.error


def _format(check: LayerCheck) -> str:
    return f"{check.cascading:.2f} ± {_error(check):.2f}"
