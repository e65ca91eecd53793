"""scenelab evaluate, predict, models."""

from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from scenelab.cli.output import print_json, print_table


def evaluate(
    run: Positional[Path],
    *,
    data: Path | None = None,
    split: Literal["val", "train", "holdout"] = "val",
    json: bool = False,
) -> None:
    """Evaluate a run's best weights: top-1, top-5, calibration, confusion; numbers and figures go to RUN/results.

    Example: scenelab evaluate runs/starter

    Args:
        run: a run folder.
        data: another data folder than the one that the run was trained on.
        split: which images; holdout are those of --holdout in training.
        json: print the result as JSON.
    """
    result, figures = evaluate_run(run, data=data, split=split)
    if json:
        print_json(result)
        return
    print_result(result)
    print("figures: " + ", ".join(str(path) for path in figures))


def evaluate_run(
    run: Path, *, data: Path | None = None, split: Literal["val", "train", "holdout"] = "val"
) -> tuple[dict[str, Any], list[Path]]:
    """Evaluate, write and draw; returns the result and the figures' paths."""
    from scenelab.evaluation.evaluate import evaluate as measure
    from scenelab.evaluation.figures import draw_all
    from scenelab.runs.loading import open_run
    from scenelab.training.metrics_logger import read_metrics

    opened = open_run(run, data=data, split=split)
    result = measure(opened.run, opened.stored, opened.packed, source=str(opened.source))
    return result, draw_all(result, read_metrics(opened.run), opened.run.results)


def print_result(result: dict[str, Any]) -> None:
    """The table that evaluation ends with."""
    rows = []
    for name, title in (("plain", "image"), ("mirror", "image and mirror image")):
        part = result[name]
        low, high = part["top1_interval"]
        rows.append(
            [title, f"{part['top1']:.2f}", f"{low:.1f}–{high:.1f}", f"{part['top5']:.2f}", f"{part['ece']:.2f}"]
        )
    title = f"{result['model']} on {result['images']} {result['split']} images of {result['source']}"
    print_table(title, ["logits of", "top-1 %", "95 %", "top-5 %", "calibration error %"], rows)
    pairs = result["most_confused"][:5]
    print(
        "most confused: "
        + "; ".join(f"{pair['true']} taken for {pair['predicted']} {pair['count']}/{pair['of']}" for pair in pairs)
    )


def predict(run: Positional[Path], images: Positional[list[Path]], *, json: bool = False) -> None:
    """Say what is on pictures.

    Example: scenelab predict runs/starter holiday.jpg

    Args:
        run: a run folder, or a checkpoint file.
        images: JPEG, PNG, WebP or GIF files of any size.
        json: print the guesses as JSON.
    """
    from scenelab.errors import LabError
    from scenelab.evaluation.predict import predict_files
    from scenelab.runs.network import read_classifier
    from scenelab.runs.run import Run

    if not images:
        raise LabError("images is empty; name at least one file")
    stored = read_classifier(run if run.is_file() else Run(run).best)
    results = predict_files(stored, images)
    if json:
        print_json(results)
        return
    for entry in results:
        print(entry["image"])
        for guess in entry["guesses"]:
            print(f"  {100 * guess['probability']:5.1f} %  {guess['category']}")


def models(*, size: int = 64, speed: bool = False, json: bool = False) -> None:
    """List the networks with their size, their cost and, if asked, their speed here.

    Example: scenelab models --speed

    Args:
        size: side of the pictures in pixels that cost and speed are given for.
        speed: measure training and prediction, a few seconds a network.
        json: print the list as JSON.
    """
    from scenelab.models.flops import describe_models

    networks = describe_models(size, speed=speed)
    if json:
        print_json(networks)
        return
    rows = [
        [
            name, f"{values['parameters']:,}", f"{values['bytes'] / 1e6:.2f}", f"{values['flops'] / 1e6:.0f}",
            *(f"{values[key]:.0f}" for key in ("training_images_per_second", "images_per_second") if speed),
            values["what"],
        ]
        for name, values in networks.items()
    ]  # fmt: skip
    head = ["name", "parameters", "MB", "MFLOP", *(["trained/s", "predicted/s"] if speed else []), "what"]
    print_table(f"models, for 100 classes; an image of {size}×{size} pixels", head, rows)
