"""Load the trained network of a run and the images of one of its splits."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from scenelab.data.cache import MemmapDataset, digest, pack
from scenelab.data.cache_folder import CACHE, default_cache
from scenelab.data.holdout import hold_out
from scenelab.data.judging import open_judged
from scenelab.data.miniplaces import Listing
from scenelab.data.splits import ALL, has_own_splits, open_split
from scenelab.errors import LabError
from scenelab.runs.config import RunConfig
from scenelab.runs.network import Stored, read_classifier
from scenelab.runs.pretrained import find_run, is_pretrained
from scenelab.runs.run import Run
from scenelab.terminal import say

SplitName = Literal["val", "train", "test", "all", "holdout"]


@dataclass(frozen=True)
class Opened:
    """A run, its trained network, the images of a split, and `source`, the data folder of the images.

    If the run was not trained on this folder, `run.results` is a folder apart from the run's own results.
    """

    run: Run
    stored: Stored
    dataset: MemmapDataset
    source: Path


def read_network(network: Path | None) -> Stored:
    """Return the network of a run folder or a checkpoint file, or that ships under this name; see `find_run`.

    Raises:
        LabError: there is no such network, or it is invalid.
    """
    if network is not None and network.is_file():
        return read_classifier(network)
    run = find_run(network)
    run.require_folder()
    return read_classifier(run.best)


def open_network(folder: Path | None, *, calibrated: bool = False) -> tuple[Run, Stored]:
    """Return a run and its trained network in channels-last layout; set torch's number of threads to the run's.

    Args:
        folder: run folder or the name of a network that ships, by default `miniplaces`; see `find_run`.
        calibrated: divide the logits by the run's temperature. Attacks and attributions are of the logits without it,
            so that they are the same before and after a calibration.
    """
    run = find_run(folder)
    return run, load_network(run, calibrated=calibrated)


def load_network(run: Run, *, calibrated: bool = False) -> Stored:
    """Return a run's trained network as `open_network` does."""
    if not is_pretrained(run):  # trained on another machine
        torch.set_num_threads(run.read_config().train.threads)
    stored = read_classifier(run.best)
    if not calibrated:
        stored.model.temperature, stored.model.threshold = 1.0, None
    stored.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return stored


def open_images(
    run: Run, stored: Stored, *, data: Path | None = None, split: SplitName | None = None
) -> tuple[MemmapDataset, Path]:
    """Return the images of one split and their data folder; see `judge`."""
    opened = judge(run, stored, data=data, split=split)
    return opened.dataset, opened.source


def judge(run: Run, stored: Stored, *, data: Path | None = None, split: SplitName | None = None) -> Opened:
    """Return a run with its network and the images of one split.

    The default is val of the folder in the run's config. If another folder `data` has no splits, all its images are
    returned. Its broken images, and images of classes that the network does not know, are left out.
    """
    settings = run.read_config()
    if data is None and is_pretrained(run):
        fix = "name a folder with --data, or for explain and attack image files with --images"
        raise LabError(f"the network {run.folder.name} ships without labeled images; {fix}")
    config, source = settings.train, data or Path(settings.data)
    if split == "holdout" and not config.holdout:
        raise LabError(f"{run.folder} kept nothing out of training; choose another split, or train with --holdout")
    level, on_bad_image = "train" if split == "holdout" else split, config.damaged
    if data is None or _is_trained_on(data, settings):
        if split == ALL:
            raise LabError(f"all images of {source} include those of the training; choose the split val or test")
        if (split == "holdout" or not has_own_splits(source)) and _has_changed(source, settings):
            if split == "holdout":
                raise LabError(
                    f"the training images in {source} changed since {run.folder} was trained, so it is not known which "
                    "were held out; name other images with --data"
                )
            what = "was trained; some that are judged may be training images, so nothing is calibrated"
            say(f"the images in {source} changed since {run.folder} {what}", file=sys.stderr)
            run = run.on_other(source)
        listing = open_split(source, level or "val")
        cache = Path(settings.cache) if settings.cache and data is None else default_cache(source)
        if data is not None and _has_other_images(Path(settings.data), listing, settings):
            run = run.on_other(source)
    else:
        listing, cache, on_bad_image = open_judged(source, level, stored.categories), run.results.parent / CACHE, "skip"
        run = run.on_other(source)
    dataset = pack(listing, cache, size=config.stored_size, on_bad_image=on_bad_image)
    if split == "holdout":
        dataset = hold_out(dataset, config.holdout, config.fold)[1]
    if dataset.categories != stored.categories:
        raise LabError(f"{source} has other categories than {run.folder} was trained on; use its own data")
    return Opened(run, stored, dataset, source)


def _has_changed(source: Path, settings: RunConfig) -> bool:
    """Return whether a folder has other training images than those that a run was trained on."""
    size, known = settings.train.stored_size, settings.train_digest.partition("[")[0]
    return bool(known) and digest(open_split(source, "train"), size, settings.train.damaged) != known


def _is_trained_on(data: Path, settings: RunConfig) -> bool:
    """Return whether a folder is the one that a run was trained on, or a copy of it."""
    if data.resolve() == Path(settings.data).resolve():
        return True
    with suppress(LabError):
        return bool(settings.train_digest) and not _has_changed(data, settings)
    return False


def _has_other_images(folder: Path, listing: Listing, settings: RunConfig) -> bool:
    """Return whether a folder exists and its images of a listing's split are not those of the listing."""
    size, damaged = settings.train.stored_size, settings.train.damaged
    with suppress(LabError):
        return digest(open_split(folder, listing.split), size, damaged) != digest(listing, size, damaged)
    return False


def open_run(
    folder: Path | None, *, data: Path | None = None, split: SplitName | None = None, calibrated: bool = False
) -> Opened:
    """Return a run with its network and the images of a split; see `open_network` and `judge`."""
    return judge(*open_network(folder, calibrated=calibrated), data=data, split=split)
