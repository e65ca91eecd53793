"""Fine-tuning on a small data set, with cross-validation so that every image counts in the interval of its accuracy."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

from scenelab.data.augment_config import Augment
from scenelab.data.miniplaces import Listing
from scenelab.errors import LabError
from scenelab.evaluation.intervals import wilson
from scenelab.evaluation.metrics import hits, predict_logits
from scenelab.evaluation.results import CrossValidation
from scenelab.progress import TrainProgress
from scenelab.runs.config import FinetuneConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from scenelab.runs.network import Stored, read_classifier
from scenelab.runs.provenance import TrainingResult, stamp
from scenelab.runs.run import Run
from scenelab.training.budget import MULTIPLE
from scenelab.training.session import open_splits, resume_run, start_run

MANY = 1000  # training images from which one held-out part is enough
FOLDS = 5
HOLDOUT = 0.1  # fraction that is held out if there is no cross-validation


def finetune_config(network: str, stored: Stored, listing: Listing, *, epochs: float) -> TrainConfig:
    """Return the config that fine-tunes a network on a data set, with classes drawn equally often if they are unequal.

    Args:
        network: name or path of the network.
        stored: the network.
        listing: training images of the data set.
        epochs: maximum number of epochs.
    """
    counts = class_counts(listing)
    side = max(MULTIPLE, MULTIPLE * round(stored.size / 1.2 / MULTIPLE))
    return TrainConfig(
        recipe="finetune",
        model=stored.arch,
        epochs=epochs,
        batch_size=32,
        holdout=HOLDOUT,
        patience=10,
        keep="best",
        balanced=max(counts) > 1.5 * min(counts),
        finetune=FinetuneConfig(network=network),
        optimizer=OptimizerConfig(name="adamw", lr=2e-3, weight_decay=0.05, decay_vectors=False),
        schedule=ScheduleConfig(warmup_epochs=0.5, sizes=((0.0, side),)),
        augment=Augment(flip=True, area=(0.4, 1.0), gain=0.15),
        label_smoothing=0.1,
        stored_size=round(1.2 * stored.size),
        eval_size=stored.size,
    )


def class_counts(listing: Listing) -> list[int]:
    """Return the number of images per class."""
    counts = Counter(listing.labels)
    return [counts[label] for label in range(len(listing.categories))]


def cross_validate(
    folder: Path, data: Path, config: TrainConfig, folds: int, display: Callable[[], TrainProgress | None]
) -> CrossValidation:
    """Train a network per fold in `folder/folds` and judge it on the images held out; finished folds are not repeated.

    Writes `folder/results/cross_validation.json`.
    """
    correct, images, epochs = 0, 0, []
    for fold in range(folds):
        run = Run(folder / "folds" / str(fold + 1))
        part = dataclasses.replace(config, holdout=1 / folds, fold=fold)
        train_once(run, data, part, display())
        stored = read_classifier(run.best)
        holdout = open_splits(data, None, part)[1]
        logits = predict_logits(stored.model, holdout, size=stored.size, mirror=True, show=False)
        correct += int(hits(logits, holdout.labels, 1).sum())
        images += len(holdout)
        epochs.append(stored.epoch)
    result = CrossValidation(
        **stamp(),  # pyright: ignore[reportArgumentType]
        folds=folds,
        images=images,
        correct=correct,
        top1=100 * correct / images,
        top1_interval=wilson(correct, images),
        epochs=tuple(epochs),
    )
    result.write(Run(folder).results / "cross_validation.json")
    return result


def on_all_images(config: TrainConfig, result: CrossValidation) -> TrainConfig:
    """Return the config of the final network: all training images, and the median of the folds' best epochs."""
    return dataclasses.replace(
        config, holdout=0.0, patience=0, keep="last", epochs=float(max(1, round(median(result.epochs))))
    )


def train_once(run: Run, data: Path, config: TrainConfig, display: TrainProgress | None) -> TrainingResult:
    """Train a run, resume it if it was stopped, or read its result if it is finished.

    Raises:
        LabError: the run was begun with other training images, another network or other epochs.
    """
    path = run.results / "training.json"
    if run.config.exists():
        stored = run.read_config()
        if open_splits(data, None, config)[0].digest != stored.train_digest:
            raise LabError(
                f"{run.folder} was begun with other training images than those of {data} now; name another --out"
            )
        if (stored.train.finetune, stored.train.epochs) != (config.finetune, config.epochs):
            raise LabError(f"{run.folder} was begun with another --network or --epochs; name another --out")
    if path.exists():
        return TrainingResult.read(path)
    if run.config.exists():
        return resume_run(run.folder, display=display)
    return start_run(run.folder, data, config, display=display)
