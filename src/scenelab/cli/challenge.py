"""The commands challenge and score."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from scenelab.cli.output import print_json, print_table


def challenge(
    run: Positional[Path], *, data: Path | None = None, split: Literal["test", "val"] = "test", json: bool = False
) -> None:
    """Make a run's submission to the MiniPlaces challenge: model, five guesses per image, and a card of its cost.

    Writes RUN/results/model_best.pth.tar, SPLIT_predictions.txt and challenge.json, with the errors on val if val is
    there. Fails if the model is over 10 MB or training over four hours of a K40.

    Example: scenelab challenge runs/laptop

    Args:
        run: a run folder.
        data: a data folder other than the one that the run was trained on.
        split: test, or val, which 'scenelab score' can score.
        json: print the card as JSON.
    """
    from scenelab.evaluation.challenge import write_submission
    from scenelab.runs.run import Run

    card = write_submission(Run(run), data=data, split=split)
    if json:
        print_json(card.to_json())
        return
    rows = [
        ["model", f"{card.checkpoint_bytes:,} bytes of {card.largest_bytes:,}"],
        ["training", f"{card.training_flops:.3g} operations, {card.minutes:.1f} min, {card.threads} threads"],
        ["share of 4 h of a K40 at its peak", f"{100 * card.share_of_k40_peak:.2f} %"],
        ["images seen", f"{card.images_seen:,} ({card.epochs:.1f} epochs)"],
        ["guesses", f"{Run(run).results / card.predictions}, {card.images} images"],
    ]
    if card.val_errors:
        first, fifth = card.val_errors[0], card.val_errors[-1]
        rows.append(["error on val", f"{first:.2f} % at one guess, {fifth:.2f} % at five; {card.val_images} images"])
    print_table(f"challenge submission of {run}", ["what", "value"], rows)


def score(predictions: Positional[Path], labels: Positional[Path], *, json: bool = False) -> None:
    """Score five guesses per image: the share of images whose label is not among the first 1, 2, … 5.

    Example: scenelab score runs/laptop/results/val_predictions.txt data/val.txt

    Args:
        predictions: lines 'val/00000001.jpg l1 l2 l3 l4 l5', as written by 'scenelab challenge'.
        labels: lines 'val/00000001.jpg label'.
        json: print the errors as JSON.
    """
    from scenelab.evaluation.challenge import read_guesses, score

    errors = score(read_guesses(predictions), labels)
    if json:
        print_json({f"error_at_{count}": error for count, error in enumerate(errors, start=1)})
        return
    print_table(str(predictions), ["guesses", "error %"], [[str(k), f"{e:.2f}"] for k, e in enumerate(errors, start=1)])
