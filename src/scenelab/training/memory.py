"""Memory that a training step needs, estimated before the first one, so that a batch that does not fit is refused."""

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from scenelab.errors import LabError
from scenelab.models.simplenet import Factory
from scenelab.runs.config import TrainConfig
from scenelab.runtime import free_memory
from scenelab.training.distributed import World, local_ranks
from scenelab.training.state import initialize
from scenelab.training.step import autocast

PROBE = 2  # images of the forward pass that is measured
COPIES = 4  # of an image in float32 during augmentation
MARGIN = 1.3  # for workspaces of convolutions and what the allocator keeps; measured steps need 0.9 to 1.5 without it
GIB = 2**30


class Need(NamedTuple):
    """Bytes that a training step needs and that are free, the images per step, and how many would fit."""

    needed: float
    free: float
    batch: int
    fits: int


def memory_need(
    config: TrainConfig,
    *,
    num_classes: int,
    images: int,
    device: torch.device,
    world: World,
    factory: Factory | None = None,
) -> Need:
    """Estimate the memory of a training step.

    Args:
        config: config of the run.
        num_classes: number of logits.
        images: number of training images.
        device: device of the network; one that does not tell its free memory has room for every batch.
        world: this process and the other ranks, which share the batch and the memory of this machine.
        factory: builds the network, called with `num_classes`; replaces the network that the config names.
    """
    batch = math.ceil(min(config.batch_size, images) / world.size)
    if device.type not in ("cpu", "cuda"):
        return Need(0, math.inf, batch * world.size, batch * world.size)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    shared = local_ranks(world) if device.type == "cpu" else 1
    state = initialize(config, num_classes=num_classes, device=device, factory=factory)
    per_image = image_bytes(state.model, config, device)
    fixed = 5 * sum(value.nbytes for value in state.model.parameters())  # weights, gradients, optimizer, average
    needed = shared * (fixed + per_image * math.ceil(batch / config.accumulate))
    return Need(needed, free, batch * world.size, int((0.9 * free / shared - fixed) / per_image) * world.size)


def require_memory(config: TrainConfig, **about: Any) -> None:
    """Raise a LabError that names a batch size that fits if a training step needs more memory than is free.

    `about` has the other arguments of `memory_need`.
    """
    needed, free, batch, fits = memory_need(config, **about)
    if needed <= free:
        return
    if fits < 1:
        fix = "use smaller images or another network"
    else:
        size = 2 ** int(math.log2(fits))
        fix = f"use --batch-size {size}"
        fix += "" if config.adversarial else f", or --accumulate {math.ceil(batch / size)}"
    raise LabError(
        f"batch_size is {config.batch_size}, with which a step needs about {needed / GIB:.1f} GiB of memory; "
        f"{free / GIB:.1f} GiB are free: {fix}"
    )


def image_bytes(model: nn.Module, config: TrainConfig, device: torch.device) -> int:
    """Return the bytes per image of a training step: the tensors saved for the backward pass, and pixels.

    The tensors are those of a forward pass of two random images at the largest size of the schedule. The model and the
    random state do not change.
    """
    side = max(side for _, side in config.schedule.sizes)
    probe, saved = copy.deepcopy(model).train(), dict[int, int]()
    weights = {value.untyped_storage().data_ptr() for value in probe.parameters()}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        images = torch.rand(PROBE, 3, side, side, device=device)
        if config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with saved_tensors_hooks(keep, lambda value: value), autocast(config, images):
            logits = probe(images)
    largest = max(saved.values(), default=0)  # its gradient, and that of the layer before
    del logits
    pixels = COPIES * 3 * 4 * side**2 + 3 * config.stored_size**2
    return int(MARGIN * ((sum(saved.values()) + 2 * largest) / PROBE + pixels))
