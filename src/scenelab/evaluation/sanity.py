"""Parameter randomization test: do maps depend on the learned parameters (Adebayo et al. 2018)?

Layers are randomized from the last to the first, cumulatively (cascading) or one at a time (independent).
"""

import copy
import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import mean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scenelab.attribution import METHODS
from scenelab.classifier import OnProgress, no_progress
from scenelab.evaluation.attribution_gallery import BATCH_SIZE
from scenelab.evaluation.attribution_results import LayerCheck, MethodSanity, Sanity
from scenelab.evaluation.faithfulness import edge_map
from scenelab.evaluation.intervals import mean_error
from scenelab.evaluation.predict import top1
from scenelab.evaluation.results import stamp_test
from scenelab.progress import progress
from scenelab.runs.network import Stored

SIMILAR = 0.7  # above this rank correlation, a map hardly changed
DIFFERENT = 0.4  # below this rank correlation, a map changed
NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)

Explain = Callable[[Any], Tensor]  # function from a model to N×1×H×W maps of fixed images and targets


def randomize_layers(
    model: nn.Module, explain: Explain, *, seed: int = 0, on_progress: OnProgress = no_progress
) -> list[LayerCheck]:
    """Randomize copies of a model layer by layer, last first, and return the maps' rank correlation per layer.

    `explain` returns maps of fixed images for a model. Layers are modules with a method `reset_parameters`, in the
    order of definition. Normalizations get scale 1, shift 0 and initial statistics. Random draws depend on `seed` only.
    `on_progress` is called with 1 after each set of maps, `1 + 2 * len(layer_groups(model))` times.
    """
    original, cascading, checks = explain(model), copy.deepcopy(model), []
    on_progress(1)
    for number, names in enumerate(reversed(layer_groups(model))):
        independent = copy.deepcopy(model)
        for network in (cascading, independent):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed + number)
                for name in names:
                    network.get_submodule(name).reset_parameters()  # pyright: ignore[reportCallIssue]
        together, error, count = _similarity(original, explain(cascading))
        on_progress(1)
        alone, _, _ = _similarity(original, explain(independent))
        on_progress(1)
        checks.append(LayerCheck(names[0], together, alone, error, count))
    return checks


def layer_groups(model: nn.Module) -> list[list[str]]:
    """Return groups of module names to randomize together: a layer and the normalization after it."""
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
    """Return the names of parameters that keep their trained values because no module can reset them."""
    names = [name for group in layer_groups(model) for name in group]
    reset = {id(parameter) for name in names for parameter in model.get_submodule(name).parameters(recurse=False)}
    return [name for name, parameter in model.named_parameters() if id(parameter) not in reset]


def _similarity(original: Tensor, maps: Tensor) -> tuple[float | None, float | None, int]:
    """Return mean and 95 % half-width of the rank correlation over images, and the number of these images.

    Images with a constant map are left out. If most images are left out, mean and half-width are None.
    """
    values = rank_correlation(original, maps)
    valid = values[~values.isnan()].tolist()
    if 2 * len(valid) < len(values):
        return None, None, len(valid)
    return mean(valid), mean_error(valid), len(valid)


def rank_correlation(first: Float[Tensor, "n 1 h w"], second: Float[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """Return Spearman's rank correlation over pixels of the absolute values, per image; NaN for a constant map."""
    ranks = [torch.stack([*map(_ranks, maps.detach().abs().flatten(1).double().cpu())]) for maps in (first, second)]
    centered = [rank - rank.mean(dim=1, keepdim=True) for rank in ranks]
    norms = centered[0].norm(dim=1) * centered[1].norm(dim=1)
    products = (centered[0] * centered[1]).sum(dim=1)
    return torch.where(norms > 0, products / norms, torch.full_like(norms, math.nan))


def _ranks(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ranks from 1, with their mean for equal values; all NaN if a value is NaN."""
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(dim=0) - (counts - 1) / 2).double()[places]
    return torch.full_like(ranks, math.nan) if values.isnan().any() else ranks


def check_sanity(stored: Stored, images: Float[Tensor, "n 3 h w"], names: tuple[str, ...]) -> Sanity:
    """Run the parameter randomization test on each method and on an edge detector.

    All maps explain the class that the trained model predicts.
    """
    targets = top1(stored.model, images, batch_size=BATCH_SIZE)[1]
    checks = {}
    with progress("sanity", len(names) * (1 + 2 * len(layer_groups(stored.model))), unit="sets of maps") as advance:
        for name in names:
            explain = partial(METHODS[name], images=images, targets=targets)
            checks[name] = randomize_layers(stored.model, explain, on_progress=advance)
    checks["edges"] = randomize_layers(stored.model, lambda model: edge_map(images))
    methods = {name: MethodSanity(verdict=verdict(layers), layers=layers) for name, layers in checks.items()}
    return Sanity(**stamp_test(names, images), untouched=unrandomized(stored.model), methods=methods)


def verdict(checks: list[LayerCheck]) -> str:
    """Return the cascading test's verdict as text, with layers that hardly change the maps when randomized alone."""
    if not checks:
        return "the model has no layers that could be randomized"
    last, first = checks[0], checks[-1]
    if last.cascading is None or first.cascading is None:
        return "undecided: the randomized network's maps are empty in most images"
    text = _cascade_verdict(last.cascading, last.error or 0.0, first.cascading, first.error or 0.0)
    insensitive = [check.layer for check in checks if check.independent is not None and check.independent > SIMILAR]
    if 0 < len(insensitive) < len(checks):
        text += f"; alone random, {', '.join(insensitive)} hardly change them"
    return text


def _cascade_verdict(last: float, last_error: float, first: float, first_error: float) -> str:
    all_random, last_random = f"{first:.2f} ± {first_error:.2f}", f"{last:.2f} ± {last_error:.2f}"
    if first - first_error > SIMILAR:
        return (
            f"fails: with every layer random the maps are still alike (rank correlation {all_random}); they show "
            "the image, not what the model learned"
        )
    if first + first_error >= DIFFERENT:
        return f"undecided: with every layer random the maps are half alike (rank correlation {all_random})"
    if last + last_error >= SIMILAR:
        return (
            f"passes in part: with every layer random the maps differ ({all_random}), but with only the last layer "
            f"random they hardly do ({last_random}), so they say little about one class against another"
        )
    return (
        f"passes: the maps differ with the last layer random (rank correlation {last_random}) and with every layer "
        f"random ({all_random})"
    )
