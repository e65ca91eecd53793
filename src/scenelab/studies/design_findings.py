"""What the runs of the design study say: differences between variants, and which of them are within noise."""

import math
from statistics import mean
from typing import Any

from scenelab.evaluation.intervals import bernoulli_error, t_quantile

LEARNED = 3.0  # times the accuracy of guessing; below that a network has not learned


def judge(variants: list[dict[str, Any]], *, classes: int, images: int) -> list[dict[str, Any]]:
    """Add to each variant its means, their difference from the variant that it is judged against, and a verdict.

    The spread from seed to seed is pooled over all variants with several runs: s² = Σ(x - x̄)² / Σ(n - 1), and a
    difference of means counts when it is larger than t · s · √(1/n + 1/n_other), at 95 %. Where all have one run, the
    error of an accuracy on so many images takes the place of s: √(p·(1 - p) / images).

    Args:
        variants: each with `against`, the name of the other or None, and `runs`, a list of `seed`, `top1`, `top5`,
            `loss` (or `message` where training diverged).
        classes, images: of the images that were judged on.
    """
    by_name = {variant["name"]: _finished(variant) for variant in variants}
    spread, freedom = pooled_spread(variants)
    judged = []
    for variant in variants:
        runs = by_name[variant["name"]]
        values: dict[str, Any] = {"n": len(runs), "spread": spread, "freedom": freedom}
        if runs:
            kept = ("top1", "top5", "loss", "images_per_second", "epochs", "images_seen", "training_flops")
            values |= {key: mean(run[key] for run in runs) for key in kept}
            values["parameters"] = runs[0]["parameters"]
            values["range"] = [min(run["top1"] for run in runs), max(run["top1"] for run in runs)]
        other = by_name.get(variant["against"] or "", [])
        if runs and other:
            values["difference"] = values["top1"] - mean(run["top1"] for run in other)
            values["noise"] = _noise(runs, other, spread, freedom, images)
        values["verdict"] = _verdict(variant, values, classes)
        judged.append({**variant, **values})
    return judged


def _finished(variant: dict[str, Any]) -> list[dict[str, Any]]:
    return [run for run in variant["runs"] if "top1" in run]


def pooled_spread(variants: list[dict[str, Any]]) -> tuple[float | None, int]:
    """Standard deviation of top-1 from seed to seed in points, and its degrees of freedom; None without two runs."""
    squares, freedom = 0.0, 0
    for variant in variants:
        values = [run["top1"] for run in _finished(variant)]
        if len(values) > 1:
            squares += sum((value - mean(values)) ** 2 for value in values)
            freedom += len(values) - 1
    return (math.sqrt(squares / freedom) if freedom else None), freedom


def _noise(
    runs: list[dict[str, Any]], other: list[dict[str, Any]], spread: float | None, freedom: int, images: int
) -> float:
    """How large a difference of two means can be by chance, in points, at 95 %."""
    if spread is None:
        shares = [mean(run["top1"] for run in side) / 100 for side in (runs, other)]
        return 100 * bernoulli_error(shares) / math.sqrt(images)
    return t_quantile(freedom) * spread * math.sqrt(1 / len(runs) + 1 / len(other))


def _verdict(variant: dict[str, Any], values: dict[str, Any], classes: int) -> str:
    lost = len(variant["runs"]) - values["n"]
    if not values["n"]:
        return "diverged"
    text = "the reference" if variant["against"] is None else "nothing to compare with"
    if values["top1"] < LEARNED * 100 / classes:
        text = "does not learn"
    elif "difference" in values and abs(values["difference"]) <= values["noise"]:
        text = "within noise"
    elif "difference" in values:
        text = "better" if values["difference"] > 0 else "worse"
    return f"{text}; {lost} of {len(variant['runs'])} diverged" if lost else text


def to_markdown(study: dict[str, Any]) -> str:
    """Settings, the two tables and the figure."""
    config, place, data = study["config"], study["environment"], study["data"]
    versions = ", ".join(f"{name} {number}" for name, number in place["versions"].items())
    precision = "bfloat16" if config["autocast"] else "float32"
    sizes = ", then ".join(f"{side} pixels" for _, side in config["schedule"]["sizes"])
    spread, freedom = study["variants"][0]["spread"], study["variants"][0]["freedom"]
    noise = (
        "Each variant was trained once; differences are held against the error of an accuracy on so many images."
        if spread is None
        else f"From seed to seed top-1 varies by {spread:.2f} points (pooled standard deviation, {freedom} degrees of "
        "freedom); what is larger than chance at 95 % is called better or worse. All are judged on the same images, "
        "and about one comparison in twenty is called so by chance."
    )
    ladder = [variant for variant in study["variants"] if variant["ladder"]]
    rest = [variant for variant in study["variants"] if not variant["ladder"]]
    return "\n".join(
        [
            "# From a plain network to ours",
            "",
            f"Each run has {config['minutes']:g} minutes on {config['threads']} threads ({place['processor']}; "
            f"{versions}), {sizes}, batches of {config['batch_size']}, {precision}; judged on {data['held_out']} "
            f"images held out of train (`{data['folder']}`), mirror-averaged. {noise} `{place['command']}`",
            "",
            "## Networks, with the handout's optimiser",
            "",
            "SGD at 0.1 with momentum, the gradient's norm cut to 1; each row is compared with the one above it.",
            "",
            *_table(ladder),
            "",
            "## Our recipe, and one choice changed",
            "",
            *_table(rest),
            "",
            "![Loss and accuracy of the networks; differences from our recipe](design.png)",
            "",
        ]
    )


def _table(variants: list[dict[str, Any]]) -> list[str]:
    head = "| variant | what | parameters | images/s | epochs | top-1 % (range, n) | top-5 % | loss | difference |"
    lines = [f"{head} verdict |", "|---|---|---:|---:|---:|---:|---:|---:|---:|---|"]
    for variant in variants:
        lead = f"| {variant['name']} | {variant['what']} |"
        if not variant["n"]:
            lines.append(f"{lead} | | | | | | | {variant['runs'][0]['message'].partition(';')[0]} |")
            continue
        low, high = variant["range"]
        spread = f"{low:.1f}–{high:.1f}, n {variant['n']}" if variant["n"] > 1 else "n 1"
        lines.append(
            f"{lead} {variant['parameters']:,} | {variant['images_per_second']:.0f} | {variant['epochs']:.1f} | "
            f"{variant['top1']:.2f} ({spread}) | {variant['top5']:.2f} | {variant['loss']:.3f} | "
            f"{_difference(variant)} | {variant['verdict']} |"
        )
    return lines


def _difference(variant: dict[str, Any]) -> str:
    return f"{variant['difference']:+.2f} ± {variant['noise']:.2f}" if "difference" in variant else "–"
