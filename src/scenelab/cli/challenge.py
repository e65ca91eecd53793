"""scenelab challenge, score."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from scenelab.cli.output import print_json, print_table


def challenge(
    run: Positional[Path], *, data: Path | None = None, split: Literal["test", "val"] = "test", json: bool = False
) -> None:
    """Make a run's entry to the MiniPlaces challenge: the model, five guesses an image, a card with what it took.

    Writes RUN/results/model_best.pth.tar, SPLIT_predictions.txt and challenge.json, which has the errors on val too
    where it is there; fails if the model is over 10 MB or training over a K40's four hours.

    Example: scenelab challenge runs/laptop

    Args:
        run: a run folder.
        data: another data folder than the one that the run was trained on.
        split: the test images, or val, which 'scenelab score' can score.
        json: print the card as JSON.
    """
    import torch

    from scenelab.data.miniplaces import read_list
    from scenelab.evaluation.challenge import guess, list_test_images, make_card, score, write_guesses
    from scenelab.io import atomic_write, write_json
    from scenelab.runs.network import read_classifier
    from scenelab.runs.run import Run

    folder = Run(run)
    source = data or Path(folder.read_config().data)
    images, labels = source / "images", source / "val.txt"
    val = [name for name, _ in read_list(labels)] if split == "val" or labels.exists() else []
    names = val if split == "val" else list_test_images(source)
    card, stored = make_card(folder), read_classifier(folder.best)
    stored.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    torch.set_num_threads(card["threads"])
    path = folder.results / f"{split}_predictions.txt"
    guesses = guess(stored, images, names)
    write_guesses(path, guesses)
    card |= {"predictions": path.name, "images": len(names)}
    if val and all((images / name).exists() for name in val):
        known = guesses if split == "val" else guess(stored, images, val)
        card |= {"val_images": len(val), "val_errors": score(known, labels)}
    with atomic_write(folder.results / folder.best.name) as file:
        file.write(folder.best.read_bytes())
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
        ["guesses", f"{path}, {card['images']} images"],
    ]
    if "val_errors" in card:
        first, fifth = card["val_errors"][0], card["val_errors"][-1]
        rows.append(["error on val", f"{first:.2f} % at one guess, {fifth:.2f} % at five; {card['val_images']} images"])
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
