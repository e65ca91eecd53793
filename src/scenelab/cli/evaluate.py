"""The commands evaluate, predict and models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from scenelab.cli.arguments import AnySplit, DataFolder, Flag, Json, Pixels, RunFolder
from scenelab.cli.images import report_broken, report_skipped, select_readable
from scenelab.cli.output import print_json, print_table
from scenelab.terminal import say

if TYPE_CHECKING:
    from scenelab.evaluation.evaluate import EvaluationResult


def evaluate(run: RunFolder, *, data: DataFolder = None, split: AnySplit = None, json: Json = False) -> None:
    """Measure accuracy, calibration and confusion on a split.

    Writes the numbers and figures to RUN/results. Exits with status 1 if an image of another data folder is broken; the
    others are evaluated.

    Example: scenelab evaluate runs/starter

    Args:
        split: split to evaluate on; holdout: the images that --holdout kept out of training.
    """
    from scenelab.evaluation.evaluate import draw_all
    from scenelab.evaluation.evaluate import evaluate as measure
    from scenelab.runs.loading import open_run
    from scenelab.training.metrics_logger import read_metrics

    opened = open_run(run, data=data, split=split)
    result = measure(opened.run, opened.stored, opened.dataset, source=str(opened.source))
    figures = draw_all(result, read_metrics(opened.run), opened.run.results)
    if json:
        print_json(result.to_json())
    else:
        print_result(result)
        say(f"results: {figures[-1].with_name(f'{result.split}.json')}")
        say("figures: " + ", ".join(str(path) for path in figures))
    report_skipped(opened.run, opened.dataset)


def print_result(result: "EvaluationResult") -> None:
    """Print the result of an evaluation as a table."""
    from scenelab.data.judging import describe_images

    rows = [
        [name, f"{part.top1:.2f}", "{:.1f}–{:.1f}".format(*part.top1_interval), f"{part.top5:.2f}", f"{part.ece:.2f}"]
        for name, part in (("image", result.plain), ("image and mirror image", result.mirror))
    ]
    title = f"{result.model} on {describe_images(result.images, result.split)} of {result.source}"
    print_table(title, ["logits of", "top-1 %", "95 %", "top-5 %", "calibration error %"], rows)
    pairs = [f"{pair.true} taken for {pair.predicted} {pair.count}/{pair.of}" for pair in result.most_confused[:5]]
    say("most confused: " + "; ".join(pairs))
    if result.undefined:
        say(f"undefined: {result.undefined} of {result.images} images have NaN or infinite scores; they count as wrong")


def predict(
    paths: Annotated[Positional[list[Path]], arg(metavar="[RUN] IMAGE ...", help_behavior_hint="(required)")],
    *,
    json: Json = False,
) -> None:
    """Classify image files with a trained network.

    Exits with status 1 if a file cannot be read; the others are predicted.

    Example: scenelab predict runs/starter holiday.jpg

    Args:
        paths: JPEG, PNG, WebP or GIF files of any size; before them, a run folder, a checkpoint file or the name of a
            network that ships (default: miniplaces, if it is installed).
    """
    from scenelab.data.image_files import OTHER_SUFFIXES, SUFFIXES
    from scenelab.errors import LabError
    from scenelab.evaluation.predict import predict_files
    from scenelab.runs.network import read_classifier
    from scenelab.runs.pretrained import find_run

    is_image = not paths or (not paths[0].is_dir() and paths[0].suffix.lower() in SUFFIXES | OTHER_SUFFIXES)
    network, images = (None, paths) if is_image else (paths[0], paths[1:])
    if not images:
        raise LabError("images is empty; give at least one file")
    if network and network.is_file():
        stored = read_classifier(network)
    else:
        run = find_run(network)
        run.require_folder()
        stored = read_classifier(run.best)
    good, errors = select_readable(images, stored.size)
    results = predict_files(stored, good)
    if json:
        print_json(results)
    for entry in [] if json else results:
        say(entry["image"])
        for guess in entry["guesses"]:
            say(f"  {100 * guess['probability']:5.1f} %  {guess['category']}")
    report_broken(errors, len(images))


def models(*, size: Pixels = 64, speed: Flag = False, json: Json = False) -> None:
    """List the networks with their size and cost.

    Example: scenelab models --speed

    Args:
        size: side of the images in pixels, for cost and speed.
        speed: also measure training and prediction speed on this machine (a few seconds per network).
    """
    from scenelab.models.flops import describe_models

    networks = describe_models(size, speed=speed)
    if json:
        print_json(networks)
        return
    rows = []
    for name, values in networks.items():
        cost = [f"{values['parameters']:,}", f"{values['bytes'] / 1e6:.2f}", f"{values['flops'] / 1e6:.0f}"]
        speeds = [f"{values[key]:.0f}" for key in ("training_images_per_second", "images_per_second") if speed]
        rows.append([name, *cost, *speeds, values["what"]])
    head = ["name", "parameters", "MB", "MFLOP", *(["trained/s", "predicted/s"] if speed else []), "what"]
    print_table(f"models, for 100 classes; an image of {size}×{size} pixels", head, rows)
