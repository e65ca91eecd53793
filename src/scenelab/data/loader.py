"""Training batches that depend only on data set, settings and step, so that a resumed run gets the same batches."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from scenelab.data.augment import Shard, augment_batch, mix_batch
from scenelab.data.augment_config import Augment
from scenelab.data.cache import MemmapDataset

ORDER, AUGMENT, NETWORK, ATTACK = range(4)  # purposes of random streams, part of their seeds, so that all differ


def seed_for(seed: int, stream: int, index: int) -> int:
    """Return a 63-bit seed for a random stream at the step or epoch `index`, mixed by numpy's SeedSequence."""
    return int(np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)[0] >> 1)


class TrainLoader:
    """Loader that returns the training batch of any step.

    Args:
        dataset: the training split.
        batch_size: images per step, over all processes.
        seed: seed of the data order and the augmentation.
        augment: the augmentation.
        device: device on which images are augmented.
        balanced: draw the images of an epoch with replacement, all classes equally often.
        resident: keep all images in the device's memory.
        channels_last: return batches in channels-last memory layout, else contiguous.
        pinned: copy batches to the device from page-locked memory, without waiting.
    """

    def __init__(
        self,
        dataset: MemmapDataset,
        *,
        batch_size: int,
        seed: int,
        augment: Augment,
        device: torch.device,
        balanced: bool = False,
        resident: bool = False,
        channels_last: bool = True,
        pinned: bool = False,
    ) -> None:
        self.dataset, self.batch_size, self.seed, self.augment, self.device = dataset, batch_size, seed, augment, device
        self.pinned = pinned
        self.steps_per_epoch = math.ceil(len(dataset) / batch_size)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.resident = dataset.gather(slice(None)).to(device) if resident else None
        counts = torch.bincount(dataset.labels, minlength=len(dataset.categories))
        self._shares = (1 / counts[dataset.labels]).double().numpy() if balanced else None
        self._generator = Generator(device=device)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def indices(self, step: int) -> np.ndarray:
        """Return the data set indices of a step's images.

        An epoch is a random permutation of the data set or, if balanced, a random sample of its size. The last batch of
        an epoch may be smaller.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            shuffle = np.random.Generator(np.random.PCG64(seed_for(self.seed, ORDER, epoch)))
            self._epoch, self._order = epoch, self._draw(shuffle)
        start = position * self.batch_size
        return self._order[start : start + self.batch_size]

    def _draw(self, shuffle: np.random.Generator) -> np.ndarray:
        if self._shares is None:
            return shuffle.permutation(len(self.dataset))
        return shuffle.choice(len(self.dataset), len(self.dataset), p=self._shares / self._shares.sum())

    def batch(
        self, step: int, side: int, rows: slice | None = None
    ) -> tuple[Float[Tensor, "n 3 s s"], Int64[Tensor, " n"] | Float[Tensor, "n k"]]:
        """Return a step's augmented images in [0, 1] and their labels, or class probabilities of mixed images.

        An image is augmented in the same way for every number of processes. With mixup or CutMix each process augments
        the whole batch.

        Args:
            step: the training step from 0.
            side: side of the images in pixels.
            rows: the rows of the batch to return; all by default.
        """
        indices = self.indices(step)
        self._generator.manual_seed(seed_for(self.seed, AUGMENT, step))
        shard = Shard(len(indices), rows) if rows is not None and not self.augment.mixes else None
        images, labels = self._gather(indices[rows] if shard and rows is not None else indices)
        images = augment_batch(images, self.augment, self._generator, size=side, shard=shard)
        classes = len(self.dataset.categories)
        images, labels = mix_batch(images, labels, self.augment, self._generator, num_classes=classes)
        if rows is not None and shard is None:
            images, labels = images[rows], labels[rows]
        return images.contiguous(memory_format=self.layout), labels

    def _gather(self, indices: np.ndarray) -> tuple[Float[Tensor, "n 3 h w"], Int64[Tensor, " n"]]:
        index = torch.from_numpy(indices)
        if self.resident is not None:
            images = self.resident[index.to(self.device)]
        else:
            images = self.dataset.gather(indices)
            images = (images.pin_memory() if self.pinned else images).to(self.device, non_blocking=self.pinned)
        return images.float().div_(255), self.dataset.labels[index].to(self.device)
