"""Training batches as a pure function of (data, config, step): a resumed run draws what the first would have drawn."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from scenelab.data.augment import Part, augment_batch, mix_batch
from scenelab.data.cache import Packed
from scenelab.runs.config import TrainConfig
from scenelab.training.distributed import SINGLE_PROCESS, World

# What a random stream is for; part of its seed, so that streams never coincide.
ORDER, AUGMENT, NETWORK, ATTACK = range(4)
AHEAD = 1024  # images before one is needed its block begins to be read, where images come in blocks


def seed_for(seed: int, stream: int, index: int) -> int:
    """A 63-bit seed for one stream at one step or epoch (numpy's SeedSequence mixes the three)."""
    return int(np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)[0] >> 1)


class TrainingBatches:
    """The batches of a run by step number.

    Args:
        packed: the training split.
        device: where augmentation runs and batches end up.
    """

    def __init__(self, packed: Packed, config: TrainConfig, device: torch.device) -> None:
        self.packed, self.config, self.device = packed, config, device
        self.steps_per_epoch = math.ceil(len(packed) / config.batch_size)
        self.total_steps = max(1, round(config.epochs * self.steps_per_epoch))
        self.generator = Generator(device=device)
        self.resident = packed.rows(slice(None)).to(device) if config.resident else None
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def indices(self, step: int) -> np.ndarray:
        """Which images a step sees: each epoch is a permutation of all, the last batch of one may be short."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            shuffle = np.random.Generator(np.random.PCG64(seed_for(self.config.seed, ORDER, epoch)))
            self._epoch, self._order = epoch, self.packed.order(self.config.batch_size, shuffle)
        start = position * self.config.batch_size
        return self._order[start : start + self.config.batch_size]

    def batch(
        self, step: int, side: int, world: World = SINGLE_PROCESS
    ) -> tuple[Float[Tensor, "n 3 s s"], Int64[Tensor, " n"] | Float[Tensor, "n k"]]:
        """Images in [0, 1], augmented, and labels (or label shares under mixup and CutMix).

        Args:
            world: with more than one process this one's part comes back. What is drawn for an image does not depend on
                how many there are; where images are mixed with others each process augments the whole batch.
        """
        chosen, augment = self.indices(step), self.config.augment
        self.generator.manual_seed(seed_for(self.config.seed, AUGMENT, step))
        rows = world.shard(len(chosen))
        part = Part(len(chosen), rows) if world.size > 1 and not augment.mixes else None
        images, labels = self._read(chosen[rows] if part else chosen)
        ahead = max(1, AHEAD // self.config.batch_size)
        if step % self.steps_per_epoch + ahead < self.steps_per_epoch:
            soon = self.indices(step + ahead)
            self.packed.ahead(soon[world.shard(len(soon))] if part else soon)
        images = augment_batch(images, augment, self.generator, size=side, part=part)
        classes = len(self.packed.categories)
        images, labels = mix_batch(images, labels, augment, self.generator, num_classes=classes)
        if part is None:
            images, labels = images[rows], labels[rows]
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=layout), labels

    def _read(self, chosen: np.ndarray) -> tuple[Float[Tensor, "n 3 h w"], Int64[Tensor, " n"]]:
        index = torch.from_numpy(chosen)
        if self.resident is not None:
            images = self.resident[index.to(self.device)]
        else:
            images = self.packed.rows(chosen).to(self.device, non_blocking=True)
        return images.float().div_(255), self.packed.labels[index].to(self.device)
