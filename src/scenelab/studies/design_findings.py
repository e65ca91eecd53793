"""Findings of the design study: differences between variants, and whether they are within noise."""

import math
from statistics import mean
from typing import Any

from scenelab.evaluation.intervals import bernoulli_error, t_quantile
from scenelab.evaluation.study_results import DesignRow, DesignVariant, FinishedRun

LEARNED = 3.0  # ratio to the accuracy of random guessing; below it, a network has not learned
MEANS = "top1 top5 loss images_per_second epochs images_seen training_flops".split()


def judge(variants: list[DesignVariant], *, classes: int, images: int) -> list[DesignRow]:
    """Return the variants with means over seeds, the difference in top-1 from the baseline, and a verdict.

    The variance between seeds is pooled over all variants: s² = Σ(x - x̄)² / Σ(n - 1). A difference of means is
    significant at 95 % if it exceeds t · s · √(1/n + 1/n_baseline). If no variant has several runs, the bound is 1.96
    standard errors of the difference of the two accuracies on this number of images.

    Args:
        variants: variants of the study with their runs.
        classes: number of classes.
        images: number of evaluated images.
    """
    by_name = {variant.name: variant.finished for variant in variants}
    spread, freedom = pooled_spread(variants)
    rows = []
    for variant in variants:
        runs, other = variant.finished, by_name.get(variant.against or "", [])
        values: dict[str, Any] = {"n": len(runs), "spread": spread, "freedom": freedom}
        if runs:
            values |= {key: mean(getattr(run, key) for run in runs) for key in MEANS}
            values["parameters"] = runs[0].parameters
            values["range"] = (min(run.top1 for run in runs), max(run.top1 for run in runs))
        if runs and other:
            values["difference"] = values["top1"] - mean(run.top1 for run in other)
            values["noise"] = _noise(runs, other, spread, freedom, images)
        rows.append(DesignRow(**{**dict(variant), **values}, verdict=_verdict(variant, values, classes)))
    return rows


def pooled_spread(variants: list[DesignVariant]) -> tuple[float | None, int]:
    """Return the standard deviation of top-1 (percent) between seeds, pooled over variants, and its degrees of freedom.

    The standard deviation is None if no variant has two finished runs.
    """
    groups = [[run.top1 for run in variant.finished] for variant in variants]
    squares = sum((value - mean(group)) ** 2 for group in groups for value in group)
    freedom = sum(len(group) - 1 for group in groups if group)
    return (math.sqrt(squares / freedom) if freedom else None), freedom


def _noise(runs: list[FinishedRun], other: list[FinishedRun], spread: float | None, freedom: int, images: int) -> float:
    """Return the largest difference of two means, in percentage points, expected by chance at 95 % confidence."""
    if spread is None:
        shares = [mean(run.top1 for run in side) / 100 for side in (runs, other)]
        return 100 * bernoulli_error(shares) / math.sqrt(images)
    return t_quantile(freedom) * spread * math.sqrt(1 / len(runs) + 1 / len(other))


def _verdict(variant: DesignVariant, values: dict[str, Any], classes: int) -> str:
    diverged = len(variant.runs) - values["n"]
    if not values["n"]:
        return "diverged"
    text = "the reference" if variant.against is None else "nothing to compare with"
    if values["top1"] < LEARNED * 100 / classes:
        text = "does not learn"
    elif "difference" in values and abs(values["difference"]) <= values["noise"]:
        text = "within noise"
    elif "difference" in values:
        text = "better" if values["difference"] > 0 else "worse"
    return f"{text}; {diverged} of {len(variant.runs)} diverged" if diverged else text
