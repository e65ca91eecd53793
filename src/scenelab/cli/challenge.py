"""The commands challenge and score."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from scenelab.cli.arguments import DataFolder, Json, RunFolder
from scenelab.cli.output import print_json, print_table


def challenge(
    run: RunFolder, *, data: DataFolder = None, split: Literal["test", "val"] = "test", json: Json = False
) -> None:
    """Write a run's submission to the MiniPlaces challenge.

    Writes RUN/results/model_best.pth.tar, SPLIT_predictions.txt (five guesses per image) and challenge.json (training
    cost, and errors on val if present). Fails if the model exceeds 10 MB or the training four hours of a K40.

    Example: scenelab challenge runs/laptop

    Args:
        split: split to predict: test, or val, whose predictions 'scenelab score' can score.
    """
    from scenelab.evaluation.challenge import write_submission
    from scenelab.progress import format_duration
    from scenelab.runs.run import Run

    card = write_submission(Run(run), data=data, split=split)
    if json:
        print_json(card.to_json())
        return
    rows = [
        ["model", f"{card.checkpoint_bytes:,} bytes of {card.largest_bytes:,}"],
        [
            "training",
            f"{card.training_flops:.3g} operations, {format_duration(60 * card.minutes)}, {card.threads} threads",
        ],
        ["share of 4 h of a K40 at its peak", f"{100 * card.share_of_k40_peak:.2f} %"],
        ["images seen", f"{card.images_seen:,} ({card.epochs:.1f} epochs)"],
        ["guesses", f"{Run(run).results / card.predictions}, {card.images} images"],
    ]
    if card.val_errors:
        first, fifth = card.val_errors[0], card.val_errors[-1]
        rows.append(["error on val", f"{first:.2f} % at one guess, {fifth:.2f} % at five; {card.val_images} images"])
    print_table(f"challenge submission of {run}", ["what", "value"], rows)


def score(
    predictions: Annotated[Positional[Path], arg(metavar="PREDICTIONS")],
    labels: Annotated[Positional[Path], arg(metavar="LABELS")],
    *,
    json: Json = False,
) -> None:
    """Score the predictions of a challenge submission.

    Prints the percentage of images whose label is not among the first 1, 2, ... 5 guesses.

    Example: scenelab score runs/laptop/results/val_predictions.txt data/val.txt

    Args:
        predictions: file of lines 'val/00000001.jpg l1 l2 l3 l4 l5', as 'scenelab challenge' writes it.
        labels: file of lines 'val/00000001.jpg label'.
    """
    from scenelab.evaluation.challenge import read_guesses, score

    errors = score(read_guesses(predictions), labels)
    if json:
        print_json({f"error_at_{count}": error for count, error in enumerate(errors, start=1)})
        return
    print_table(str(predictions), ["guesses", "error %"], [[str(k), f"{e:.2f}"] for k, e in enumerate(errors, start=1)])
