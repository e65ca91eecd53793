"""Advice before a training: whether to fine-tune, how long it takes, and what accuracy the images let one expect."""

import dataclasses
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from scenelab.data.decode import is_readable, read_images
from scenelab.data.miniplaces import Listing
from scenelab.data.splits import open_split
from scenelab.errors import printable
from scenelab.evaluation.intervals import wilson
from scenelab.evaluation.predict import BATCH_SIZE, spread_rows
from scenelab.progress import format_duration
from scenelab.runs.config import TrainConfig
from scenelab.runs.loading import read_network
from scenelab.runs.pretrained import DEFAULT, list_pretrained
from scenelab.training.budget import measure_speeds
from scenelab.training.cross_validation import class_counts
from scenelab.training.device import pick_device
from scenelab.training.distributed import SINGLE_PROCESS
from scenelab.training.memory import require_memory

SCRATCH = 10_000  # images from which training from scratch catches up in He et al. 2019 (section 5; not with 1,000)
PROBED, PER_CLASS = 200, 10  # images to look at
MIN_IMAGES, MIN_PER_CLASS = 50, 5  # to say what accuracy to expect


def advise(data: Path, config: TrainConfig, folds: int = 0) -> str:
    """Return a paragraph on data, time and accuracy of a training with `folds` networks for cross-validation."""
    listing = open_split(data, "train")
    counts, total = class_counts(listing), len(listing)
    judged = total if folds else round(config.holdout * total) or len(open_split(data, "val"))
    fewest = printable(listing.categories[counts.index(min(counts))])
    way = f"fine-tuning {config.finetune.network}" if config.finetune else "training from scratch"
    equally = ", drawn equally often" if config.balanced else ""
    if config.minutes:
        length = f"{config.minutes:g} minutes"
    else:
        device, count = pick_device(config.device), len(counts)
        require_memory(config, num_classes=count, images=total, device=device, world=SINGLE_PROCESS)
        whole = dataclasses.replace(config, batch_size=min(config.batch_size, total))
        [speed] = measure_speeds([(whole, config.schedule.sizes[-1][1])], listing.categories)
        seconds = config.epochs * total * (folds or 1 - config.holdout) / speed
        length = f"at most {config.epochs:g} epochs per network, about {format_duration(seconds)} on this machine"
    scratch = "is usually less accurate than" if total < SCRATCH else "may be as accurate as"
    low, high = wilson(round(0.8 * judged), judged)
    return (
        f"{way} ({config.model}) on {total} images of {len(counts)} classes, {min(counts)} ({fewest}) to {max(counts)} "
        f"per class{equally}: {f'{folds}-fold cross-validation, ' if folds else ''}{length}. "
        f"With so many images, training from scratch {scratch} fine-tuning. {_expect(listing, config)} "
        f"With {judged} images judged, an accuracy of 80 % is known to {low:.0f}–{high:.0f} %."
    )


def _expect(listing: Listing, config: TrainConfig) -> str:
    """Return a sentence on the accuracy that a trained network has on some of the images without training."""
    network = config.finetune.network if config.finetune else DEFAULT
    if not config.finetune and DEFAULT not in list_pretrained():
        return "What accuracy to expect is not known."
    expected = expected_hits(listing, network, skips=config.damaged == "skip")
    if expected is None:
        return f"To say what accuracy to expect, {MIN_IMAGES} images and {MIN_PER_CLASS} per class are needed."
    correct, total = expected
    share = "{:.0f} % ({:.0f}–{:.0f} %)".format(100 * correct / total, *wilson(correct, total))
    return f"Expect {share} or more: class means of the logits of {network} reach that without training."


def expected_hits(listing: Listing, network: str, *, skips: bool = False) -> tuple[int, int] | None:
    """Return how many of how many images, evenly spread, a trained network gets right by its class means.

    Returns None if the images are too few to say. With `skips`, damaged images are left out.
    """
    rows = spread_rows(len(listing), max(PROBED, PER_CLASS * len(listing.categories)))
    if len(rows) < MIN_IMAGES or min(class_counts(listing)) < MIN_PER_CLASS:
        return None
    stored = read_network(Path(network))
    if skips:
        rows = [row for row in rows if is_readable(listing.file(row))]
    images = read_images([listing.file(row) for row in rows], stored.size)
    with torch.no_grad():
        logits = torch.cat([stored.model(part) for part in images.split(BATCH_SIZE)])
    return nearest_mean_hits(logits, torch.tensor([listing.labels[row] for row in rows])), len(rows)


def nearest_mean_hits(features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"]) -> int:
    """Return the number of images whose class mean is the nearest (Mensink et al. 2013).

    The mean of an image's own class leaves the image out: x - m' = (x - m) · n / (n - 1) for the mean m of n images.
    """
    members = one_hot(labels).to(features)
    counts = members.sum(dim=0)
    distances = torch.cdist(features, members.T @ features / counts[:, None])
    distances = distances * torch.where(members > 0, counts / (counts - 1), 1.0)
    return int((distances.nan_to_num(nan=torch.inf).argmin(dim=1) == labels).sum())
