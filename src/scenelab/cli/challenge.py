"""scenelab challenge, score."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from scenelab.cli.output import print_json, print_table


def challenge(
    run: Positional[Path], *, data: Path | None = None, split: Literal["test", "val"] = "test", json: bool = False
) -> None:
    """Make a run's entry to the MiniPlaces challenge: five guesses an image, and a card with what training took.

    Writes RUN/results/SPLIT_predictions.txt and RUN/results/challenge.json; fails if the model is over 10 MB.

    Example: scenelab challenge runs/laptop

    Args:
        run: a run folder.
        data: another data folder than the one that the run was trained on.
        split: the test images, or val, which 'scenelab score' can score.
        json: print the card as JSON.
    """
    from scenelab.data.miniplaces import read_list
    from scenelab.evaluation.challenge import guess, list_test_images, make_card, write_guesses
    from scenelab.files import write_json
    from scenelab.models.stored import read_classifier
    from scenelab.runs import Run

    folder = Run(run)
    source = data or Path(folder.read_config()["data"])
    names = list_test_images(source) if split == "test" else [name for name, _ in read_list(source / "val.txt")]
    card = make_card(folder)
    path = folder.results / f"{split}_predictions.txt"
    write_guesses(path, guess(read_classifier(folder.best), source / "images", names))
    card |= {"predictions": path.name, "images": len(names)}
    write_json(folder.results / "challenge.json", card)
    if json:
        print_json(card)
        return
    rows = [
        ["model", f"{card['checkpoint_bytes']:,} bytes of {card['largest_bytes']:,}"],
        [
            "training",
            f"{card['training_flops']:.3g} operations in {card['minutes']:.1f} min on {card['threads']} threads",
        ],
        ["share of 4 h of a K40 at its peak", f"{100 * card['share_of_k40_peak']:.2f} %"],
        ["images seen", f"{card['images_seen']:,} ({card['epochs']:.1f} epochs)"],
        ["guesses", f"{path}, {len(names)} images"],
    ]
    print_table(f"challenge entry of {run}", ["what", "figure"], rows)


def score(predictions: Positional[Path], labels: Positional[Path], *, json: bool = False) -> None:
    """Score five guesses an image: the share of images whose label is not among the first 1, 2, … 5.

    Example: scenelab score runs/laptop/results/val_predictions.txt data/val.txt

    Args:
        predictions: lines 'val/00000001.jpg l1 l2 l3 l4 l5', as 'scenelab challenge' writes.
        labels: lines 'val/00000001.jpg label'.
        json: print the errors as JSON.
    """
    from scenelab.evaluation.challenge import read_guesses, score

    errors = score(read_guesses(predictions), labels)
    if json:
        print_json({f"error_at_{count}": error for count, error in enumerate(errors, start=1)})
        return
    print_table(str(predictions), ["guesses", "error %"], [[str(k), f"{e:.2f}"] for k, e in enumerate(errors, start=1)])
