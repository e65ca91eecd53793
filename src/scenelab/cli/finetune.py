"""scenelab finetune: train a classifier of your own images from a trained network."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from scenelab.cli.arguments import Count, Yes
from scenelab.terminal import say


def finetune(
    data: Annotated[Positional[Path], arg(metavar="DATA", help="folder with one sub-folder per class, or a CSV file.")],
    *,
    out: Annotated[Path, arg(metavar="OUT")],
    network: Annotated[
        Path | None, arg(metavar="RUN", help_behavior_hint="(default: the network miniplaces, if it is installed)")
    ] = None,
    epochs: Annotated[float, arg(metavar="N")] = 30,
    folds: Annotated[Count | None, arg(help_behavior_hint="(default: 5 below 1,000 training images, else 0)")] = None,
    yes: Yes = False,
) -> None:
    """Train a classifier of your own images from a trained network.

    First says how long it takes and what accuracy to expect. With cross-validation, each image is judged by a network
    that was not trained on it. The network in OUT is then trained on all training images. The same command continues
    where it stopped.

    Example: scenelab finetune holiday-photos --out runs/holiday

    Args:
        out: the run folder to create.
        network: trained network to start from: a run folder, a checkpoint, or the name of a network that ships.
        epochs: maximum number of epochs; training stops earlier if the accuracy on held-out images no longer rises.
        folds: number of networks for cross-validation; 0 holds out a tenth of the training images instead.
    """
    import dataclasses

    from scenelab.cli.train import confirm, report_result
    from scenelab.data.splits import open_split
    from scenelab.errors import LabError
    from scenelab.progress import TrainProgress, make_progress
    from scenelab.runs.loading import read_network
    from scenelab.runs.pretrained import DEFAULT
    from scenelab.runs.run import Run
    from scenelab.training import cross_validation as validation
    from scenelab.training.advice import advise
    from scenelab.training.budget import prefers_bfloat16
    from scenelab.training.session import open_splits

    listing = open_split(data, "train")
    counts = validation.class_counts(listing)
    name = str(network or DEFAULT)
    stored = read_network(Path(name))
    folds = (validation.FOLDS if len(listing) < validation.MANY else 0) if folds is None else folds
    if folds < 0 or folds == 1 or folds > max(counts):
        raise LabError(f"folds is {folds}; expected 0 or at least 2, and no more than a class has images")
    config = validation.finetune_config(name, stored, listing, epochs=epochs)
    config = dataclasses.replace(config, autocast=prefers_bfloat16(config, listing.categories))
    source = Run(Path(name))
    if source.config.exists() and Path(source.read_config().data).resolve() == data.resolve():
        raise LabError(f"--network {name} was trained on {data}, so no image is left to judge it; name another network")
    if not out.exists():
        confirm(advise(data, config, folds), yes=yes)
    if folds:
        open_splits(data, None, dataclasses.replace(config, holdout=0.0))  # a fault in val ends the command now
        result = validation.cross_validate(out, data, config, folds, TrainProgress)
        say(
            "{}-fold cross-validation: {:.1f} % top-1 ({:.1f}–{:.1f}) of {} training images".format(
                folds, result.top1, *result.top1_interval, result.images
            ),
            "this is a little too high: the images that judge a network also selected its best epoch",
        )
        config = validation.on_all_images(config, result)
    report_result(out, validation.train_once(Run(out), data, config, make_progress()))
