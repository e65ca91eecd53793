"""The commands evaluate and models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from scenelab.cli.arguments import AnySplit, DataFolder, Flag, Json, Pixels, RunFolder
from scenelab.cli.images import report_skipped
from scenelab.cli.output import print_json, print_table
from scenelab.errors import cut
from scenelab.terminal import say

MAX_CLASSES, FEW_CLASSES = 30, 10  # in a table
if TYPE_CHECKING:
    from scenelab.evaluation.accuracy_results import EvaluationResult


def evaluate(
    run: RunFolder,
    *,
    data: DataFolder = None,
    split: AnySplit = None,
    unknown: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None,
    precision: Literal["auto", "float32"] = "auto",
    json: Json = False,
) -> None:
    """Measure accuracy, calibration and confusion on a split.

    Writes the numbers and figures to RUN/results. On the run's own held-out images, also fits the temperature that
    calibrates the probabilities of all commands, and the threshold below which an image is none of the classes
    (RUN/calibration.json). Another labeled folder is judged whole, its classes matched by name. Exits with status 1 if
    an image of it is broken; the others are evaluated.

    Example: scenelab evaluate runs/starter --data more-images --split all

    Args:
        split: split to evaluate on; holdout: the images that --holdout kept out of training.
        unknown: folder of images of none of the classes, to measure how many are recognized as such.
        precision: auto: bfloat16 on CPUs where it is faster, and float32 for images with two classes close in score.
    """
    from scenelab.data.judging import open_unlabeled
    from scenelab.evaluation.evaluate import draw_all
    from scenelab.evaluation.evaluate import evaluate as measure
    from scenelab.runs.loading import open_run
    from scenelab.training.metrics_logger import read_metrics

    opened = open_run(run, data=data, split=split, calibrated=True)
    others = open_unlabeled(unknown, opened.dataset.size) if unknown else None
    source = str(opened.source)
    result = measure(opened.run, opened.stored, opened.dataset, others, source=source, precision=precision)
    figures = draw_all(result, read_metrics(opened.run), opened.run.results)
    if json:
        print_json(result.to_json())
    else:
        print_result(result)
        say(f"results: {figures[-1].with_name(f'{result.split}.json')}")
        say("figures: " + ", ".join(str(path) for path in figures))
        if opened.run.held_out == "holdout" != result.split and not opened.run.calibration.exists():
            say(f"to calibrate the probabilities: scenelab evaluate {opened.run.folder} --split holdout")
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
    say(f"precision: {result.precision}")
    _print_classes(result)
    pairs = [f"{pair.true} taken for {pair.predicted} {pair.count}/{pair.of}" for pair in result.most_confused[:5]]
    say("most confused: " + "; ".join(pairs))
    if result.undefined:
        say(f"undefined: {result.undefined} of {result.images} images have NaN or infinite scores; they count as wrong")
    for point in result.coverage[2:6:3]:
        interval = "{:.1f}–{:.1f}".format(*point.interval)
        say(
            f"answers only from a probability of {100 * point.confidence:.0f} % on: {point.images} of {result.images} "
            f"images, top-1 {point.accuracy:.1f} % ({interval})"
        )
    if part := result.calibrated:
        how = "each half of the images calibrated by the other" if part.is_fitted else "fitted on held-out images"
        say(f"calibration error with temperature {part.temperature:.2f}: {part.ece:.1f} %, {how}")
    if part := result.rejection:
        names = ("images of the classes are kept", f"other images are recognized, AUROC {part.auroc or 0:.3f}")
        for share, what in zip((part.known, part.unknown), names, strict=True):
            if share:
                say(f"none of these: {share.images} of {share.of}, {share.text} %, {what}")


def _print_classes(result: "EvaluationResult") -> None:
    """Print the scores of each class, or of the ten with the lowest F1 if there are more than 30."""
    from scenelab.evaluation.accuracy_results import SCORE_COLUMNS, score_rows

    scores = {name: score for name, score in result.scores.items() if score.support}
    title = "classes"
    if len(scores) > MAX_CLASSES:
        scores = dict(sorted(scores.items(), key=lambda item: item[1].f1)[:FEW_CLASSES])
        title = f"the {FEW_CLASSES} classes with the lowest F1 (all are in the JSON file)"
    print_table(title, list(SCORE_COLUMNS), score_rows(scores))
    if absent := [name for name, score in result.scores.items() if not score.support]:
        say(f"no images of {len(absent)} of {len(result.scores)} classes: {cut(absent)}")


def models(*, size: Pixels = 64, speed: Flag = False, json: Json = False) -> None:
    """List the networks with their size and cost.

    Example: scenelab models --speed

    Args:
        size: side of the images in pixels, for cost and speed.
        speed: also measure training and prediction speed on this machine (a few seconds per network).
    """
    from scenelab.models.costs import COSTS_SIDE, describe_costs

    if speed or size != COSTS_SIDE:
        from scenelab.models.flops import describe_models

        networks = describe_models(size, speed=speed)
    else:
        networks = describe_costs()
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
