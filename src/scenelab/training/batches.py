"""Make training batches as a pure function of (data, config, step), so that a resumed run draws the same ones."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from scenelab.data.augment import Shard, augment_batch, mix_batch
from scenelab.data.cache import MemmapDataset
from scenelab.runs.config import TrainConfig
from scenelab.training.distributed import SINGLE_PROCESS, World

ORDER, AUGMENT, NETWORK, ATTACK = range(4)  # purposes of random streams; part of their seeds, so that none coincide


def seed_for(seed: int, stream: int, index: int) -> int:
    """Return a 63-bit seed for one stream at one step or epoch, mixed by numpy's SeedSequence."""
    return int(np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)[0] >> 1)


class TrainingBatches:
    """The batches of a run by step.

    Args:
        dataset: the training split.
        config: batch size, augmentation, seed, and whether the images stay on the device.
        device: where batches are augmented.
    """

    def __init__(self, dataset: MemmapDataset, config: TrainConfig, device: torch.device) -> None:
        self.dataset, self.config, self.device = dataset, config, device
        self.steps_per_epoch = math.ceil(len(dataset) / config.batch_size)
        self.total_steps = max(1, round(config.epochs * self.steps_per_epoch))
        self.generator = Generator(device=device)
        self.resident = dataset.gather(slice(None)).to(device) if config.resident else None
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def indices(self, step: int) -> np.ndarray:
        """Return the images of a step; an epoch is a permutation of all, and its last batch may be smaller."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            shuffle = np.random.Generator(np.random.PCG64(seed_for(self.config.seed, ORDER, epoch)))
            self._epoch, self._order = epoch, shuffle.permutation(len(self.dataset))
        start = position * self.config.batch_size
        return self._order[start : start + self.config.batch_size]

    def batch(
        self, step: int, side: int, world: World = SINGLE_PROCESS
    ) -> tuple[Float[Tensor, "n 3 s s"], Int64[Tensor, " n"] | Float[Tensor, "n k"]]:
        """Return this rank's share of a batch: augmented images in [0, 1], and labels or class probabilities.

        An image is augmented in the same way for every number of ranks. With mixup or CutMix each rank augments the
        whole batch.

        Args:
            step: the training step from 0.
            side: side of the images in pixels.
            world: the processes that share the batch.
        """
        indices, augment = self.indices(step), self.config.augment
        self.generator.manual_seed(seed_for(self.config.seed, AUGMENT, step))
        rows = world.shard(len(indices))
        shard = Shard(len(indices), rows) if world.size > 1 and not augment.mixes else None
        images, labels = self._gather(indices[rows] if shard else indices)
        images = augment_batch(images, augment, self.generator, size=side, shard=shard)
        classes = len(self.dataset.categories)
        images, labels = mix_batch(images, labels, augment, self.generator, num_classes=classes)
        if shard is None:
            images, labels = images[rows], labels[rows]
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=layout), labels

    def _gather(self, indices: np.ndarray) -> tuple[Float[Tensor, "n 3 h w"], Int64[Tensor, " n"]]:
        index = torch.from_numpy(indices)
        if self.resident is not None:
            images = self.resident[index.to(self.device)]
        else:
            images = self.dataset.gather(indices).to(self.device, non_blocking=True)
        return images.float().div_(255), self.dataset.labels[index].to(self.device)
