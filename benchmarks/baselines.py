"""What the benchmarks compare with: loading and training as a starter kit does it, plain on purpose."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from scenelab.data.miniplaces import Listing
from scenelab.models.normalize import IMAGENET_MEAN, IMAGENET_STD
from scenelab.models.simplenet import SimpleNet

WORKERS = 2


class ListedImages(Dataset[Any]):
    """One Pillow decode and one chain of transforms per image."""

    def __init__(self, listing: Listing, transform: Callable[[Image.Image], Tensor]) -> None:
        self.listing, self.transform = listing, transform

    def __len__(self) -> int:
        return len(self.listing)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.listing.file(index)) as image:
            return self.transform(image.convert("RGB")), self.listing.labels[index]


def channel_gain(image: Tensor) -> Tensor:
    """Apply the handout's colour jitter to one image tensor."""
    return (image * torch.empty(3, 1, 1).uniform_(0.85, 1.15)).clamp_(0, 1)


def handout_transforms() -> Callable[[Image.Image], Tensor]:
    """Return the handout's augmentation per image, from Pillow to a normalised tensor."""
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


def starter_steps(listing: Listing, batch_size: int) -> Iterator[int]:
    """Train SimpleNet as the starter kit does (NCHW, DataLoader with 2 workers); yields images after each step."""
    torch.manual_seed(0)
    dataset = ListedImages(listing, handout_transforms())
    loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=WORKERS, drop_last=True)
    model = SimpleNet(num_classes=len(listing.categories))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    while True:
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(images)


def image_folder_batches(listing: Listing, batch_size: int, *, augment: bool) -> Iterator[int]:
    """Load the listed images by torchvision's ImageFolder in a DataLoader with 2 workers."""
    with tempfile.TemporaryDirectory() as folder:
        for index, (path, label) in enumerate(zip(listing.paths, listing.labels, strict=True)):
            link = Path(folder) / f"{label:03d}" / f"{index:08d}{Path(path).suffix}"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(listing.file(index).resolve())
        dataset = ImageFolder(folder, handout_transforms() if augment else transforms.ToTensor())
        loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=WORKERS, persistent_workers=True)
        while True:
            for images, _ in loader:
                yield len(images)
