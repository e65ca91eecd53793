"""What the two runs say, as numbers and as text."""

import statistics
from typing import Any

from scenelab.evaluation.intervals import wilson

ROUNDING = 1e-4  # of the loss: two float32 networks with equal weights are nearer than this


def compare(sides: dict[str, dict[str, Any]], *, val_images: int) -> dict[str, Any]:
    """Ratios of custom to native, the distance of the loss curves, the final accuracies.

    Args:
        sides: `native` and `custom`, each as `read_side` gives it, with a loss for every step.
        val_images: how many images the val accuracy was counted on.
    """
    native, custom = sides["native"], sides["custom"]
    losses = zip(native["loss"], custom["loss"], strict=True)
    distance = [[step, abs(value - other)] for (step, value), (_, other) in losses]
    at, largest = max(distance, key=lambda pair: pair[1])
    return {
        "sides": sides,
        "speed_vs_native": custom["images_per_second"] / native["images_per_second"],
        "memory_vs_native": custom["peak_memory_bytes"] / native["peak_memory_bytes"],
        "loss_difference": {
            "first": distance[0][1],
            "median": statistics.median(value for _, value in distance),
            "largest": largest,
            "largest_at_step": at,
            "curve": distance,
        },
        "final": {side: _final(values, val_images) for side, values in sides.items()},
        "largest_top1_difference": max(
            abs(row["top1"] - other["top1"])
            for row, other in zip(native["accuracy"]["val"], custom["accuracy"]["val"], strict=True)
        ),
    }


def _final(side: dict[str, Any], val_images: int) -> dict[str, Any]:
    train, val = (side["accuracy"][split][-1] for split in ("train", "val"))
    return {
        "train_loss": train["loss"],
        "train_top1": train["top1"],
        "val_loss": val["loss"],
        "val_top1": val["top1"],
        "val_top5": val["top5"],
        "val_top1_interval": wilson(round(val["top1"] / 100 * val_images), val_images),
    }


def to_markdown(study: dict[str, Any]) -> str:
    """Settings, table, three sentences and the figure."""
    config, place, data = study["config"], study["environment"], study["data"]
    accounting = study["sides"]["native"]["accounting"]
    versions = ", ".join(f"{name} {number}" for name, number in place["versions"].items())
    hardware = f"{place['processor']}, {accounting['threads']} threads, device {accounting['device']}"
    return "\n".join(
        [
            "# Native and custom convolution",
            "",
            f"{study['what']}. Recipe `{config['recipe']}`, {accounting['steps']} steps of {config['batch_size']} "
            f"images, {config['optimizer']['name']} at a peak learning rate of {config['optimizer']['lr']:g}, "
            f"seed {config['seed']}; {data['train_images']} training and {data['val_images']} val images "
            f"(`{data['folder']}`).",
            "",
            f"{hardware}; {versions}; `{place['command']}`.",
            "",
            *_table(study),
            "",
            " ".join([_speed(study), _loss(study), _accuracy(study)]),
            "",
            "![Loss, its difference, accuracy, speed and memory of both sides](study.png)",
            "",
        ]
    )


def _table(study: dict[str, Any]) -> list[str]:
    sides, final = study["sides"], study["final"]

    def row(name: str, values: dict[str, float], form: str, last: str) -> str:
        return f"| {name} | {format(values['native'], form)} | {format(values['custom'], form)} | {last} |"

    def ended(key: str, name: str, form: str) -> str:
        values = {side: final[side][key] for side in final}
        return row(name, values, form, f"{values['custom'] - values['native']:+{form}}")

    mebibytes = {side: values["peak_memory_bytes"] / 2**20 for side, values in sides.items()}
    loss = study["loss_difference"]
    speed = {side: values["images_per_second"] for side, values in sides.items()}
    return [
        "| | native | custom | custom to native |",
        "|---|---:|---:|---:|",
        row("training images/s", speed, ".1f", f"{study['speed_vs_native']:.2f} ×"),
        row("peak memory of the process, MiB", mebibytes, ".0f", f"{study['memory_vs_native']:.2f} ×"),
        ended("train_loss", "training loss, last epoch", ".4f"),
        ended("val_loss", "val loss", ".4f"),
        ended("val_top1", "val top-1, %", ".2f"),
        ended("val_top5", "val top-5, %", ".2f"),
        f"| largest difference of the loss curves | | | {loss['largest']:.2g} (step {loss['largest_at_step']}) |",
        f"| largest difference of the val top-1 curves | | | {study['largest_top1_difference']:.2f} |",
    ]


def _speed(study: dict[str, Any]) -> str:
    native, custom = study["sides"]["native"], study["sides"]["custom"]
    faster = "faster" if study["speed_vs_native"] >= 1 else "slower"
    return (
        f"**Speed and memory:** the custom convolution trains {faster} than the native one, at "
        f"{study['speed_vs_native']:.2f} times its speed ({custom['images_per_second']:.0f} against "
        f"{native['images_per_second']:.0f} images/s), and the process needs {study['memory_vs_native']:.2f} times its "
        f"memory ({custom['peak_memory_bytes'] / 2**20:.0f} against {native['peak_memory_bytes'] / 2**20:.0f} MiB, "
        "Python and the libraries included)."
    )


def _loss(study: dict[str, Any]) -> str:
    difference, start = study["loss_difference"], study["sides"]["native"]["loss"][0][1]
    text = (
        f"**Convergence:** both sides begin with the same weights and see the same batches; their losses are "
        f"{difference['first']:.1g} apart at the first step, {difference['median']:.2g} in the median and "
        f"{difference['largest']:.2g} at most (step {difference['largest_at_step']})"
    )
    if difference["first"] <= ROUNDING * start:
        return text + ": the same sums added up in another order, whose last bits training amplifies."
    return text + ", which at the first step is more than rounding explains."


def _accuracy(study: dict[str, Any]) -> str:
    native, custom = study["final"]["native"], study["final"]["custom"]
    low, high = native["val_top1_interval"]
    where = "inside" if low <= custom["val_top1"] <= high else "outside"
    return (
        f"**Result:** they end at {native['val_top1']:.2f} % (native) and {custom['val_top1']:.2f} % (custom) top-1 on "
        f"val; the custom one lies {where} the 95 % interval of the native one, {low:.2f} to {high:.2f} %."
    )
