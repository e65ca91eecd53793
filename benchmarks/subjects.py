"""Subjects of the benchmarks: iterators that load or train one batch per step and yield its number of images.

The baselines are deliberately as simple as a starter kit.
"""

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from scenelab.data.augment_config import Augment
from scenelab.data.cache import MemmapDataset, pack
from scenelab.data.miniplaces import Listing
from scenelab.data.splits import open_split
from scenelab.models.normalize import IMAGENET_MEAN, IMAGENET_STD
from scenelab.models.simplenet import SimpleNet
from scenelab.progress import LogProgress
from scenelab.runs.config import TrainConfig
from scenelab.runs.run import Run
from scenelab.training.metrics_logger import MetricsLogger
from scenelab.training.recipes import starter
from scenelab.training.state import initialize, make_loader
from scenelab.training.trainer import Trainer

BASELINES = ("starter", "imagefolder", "imagefolder-augment")
WORKERS = 2


def channel_gain(image: Tensor) -> Tensor:
    """Multiply each channel of an image in [0, 1] by a random gain and clamp it: the handout's color jitter."""
    return (image * torch.empty(3, 1, 1).uniform_(0.85, 1.15)).clamp_(0, 1)


def handout_transforms() -> Callable[[Image.Image], Tensor]:
    """Return the handout's augmentation, from a Pillow image to a normalized tensor."""
    return transforms.Compose(
        [
            transforms.Resize(160),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(15),
            transforms.RandomResizedCrop(128, scale=(0.25, 1.0), ratio=(0.8, 1.2)),
            transforms.ToTensor(),
            channel_gain,
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def image_folder_batches(listing: Listing, batch_size: int, *, augment: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of images and labels without end, from torchvision's ImageFolder in a DataLoader with 2 workers."""
    with tempfile.TemporaryDirectory() as folder:
        for index, (path, label) in enumerate(zip(listing.paths, listing.labels, strict=True)):
            link = Path(folder) / f"{label:03d}" / f"{index:08d}{Path(path).suffix}"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(listing.file(index).resolve())
        dataset = ImageFolder(folder, handout_transforms() if augment else transforms.ToTensor())
        options = {"shuffle": True, "num_workers": WORKERS, "drop_last": True, "persistent_workers": True}
        loader = DataLoader(dataset, batch_size, **options)
        while True:
            yield from loader


def starter_steps(listing: Listing, batch_size: int) -> Iterator[int]:
    """Train SimpleNet as the starter kit does, in NCHW layout; yield the number of images per step."""
    torch.manual_seed(0)
    model = SimpleNet(num_classes=len(listing.categories))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    for images, labels in image_folder_batches(listing, batch_size, augment=True):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield len(images)


def iterate(name: str, data: Path, *, batch_size: int, limit: int) -> Iterator[int]:
    """Run a subject on `limit` training images, or on all if `limit` is 0; yield the number of images per step.

    Names of training subjects: ours, starter. Names of loading subjects: packed, imagefolder, both also with -augment.
    """
    listing, augment = _head(open_split(data, "train"), limit), name.endswith("augment")
    if name == "starter":
        yield from starter_steps(listing, batch_size)
    elif name.startswith("imagefolder"):
        yield from (len(images) for images, _ in image_folder_batches(listing, batch_size, augment=augment))
    else:
        dataset = pack(listing, data / "packed")
        config = dataclasses.replace(starter(), batch_size=batch_size, epochs=1e6, log_every=10**9)
        yield from our_steps(dataset, config) if name == "ours" else our_batches(dataset, config, augment=augment)


def _head(listing: Listing, limit: int) -> Listing:
    """Return a listing of `limit` evenly spaced images, so that every class is included, or of all if `limit` is 0."""
    if not limit or limit >= len(listing):
        return listing
    indices = [round(index * len(listing) / limit) for index in range(limit)]
    return dataclasses.replace(
        listing,
        split=f"{listing.split}-bench{limit}",
        paths=tuple(listing.paths[index] for index in indices),
        labels=tuple(listing.labels[index] for index in indices),
    )


def our_steps(dataset: MemmapDataset, config: TrainConfig) -> Iterator[int]:
    """Train with our trainer at a learning rate of 0.01; yield the number of images per step."""
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, lr=0.01))
    with tempfile.TemporaryDirectory() as folder:
        device = torch.device("cpu")
        trainer = Trainer(
            run=Run(Path(folder)),
            config=config,
            state=initialize(config, num_classes=len(dataset.categories), device=device),
            loader=make_loader(dataset, config, device),
            val=None,
            logger=MetricsLogger(),
            display=LogProgress(every_steps=10**9),
        )
        while True:
            yield trainer.step()


def our_batches(dataset: MemmapDataset, config: TrainConfig, *, augment: bool) -> Iterator[int]:
    """Load our training batches, with or without augmentation; yield the number of images per batch."""
    if not augment:
        config = dataclasses.replace(config, augment=Augment())
    loader = make_loader(dataset, config, torch.device("cpu"))
    for step in itertools.count():
        yield len(loader.batch(step, 128)[0])
