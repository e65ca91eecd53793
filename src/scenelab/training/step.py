"""One training step: forward and backward pass, optimizer step, and update of the moving average."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scenelab.runs.config import TrainConfig
from scenelab.training.adversarial import free_adversarial_updates, handout_examples, pgd_examples
from scenelab.training.finetune import set_training_mode
from scenelab.training.state import TrainState

Network = Callable[[Tensor], Tensor]


def train_step(
    state: TrainState,
    network: Network,
    config: TrainConfig,
    images: Tensor,
    labels: Tensor,
    *,
    weight: float = 1.0,
    parts: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Update the weights and their moving average from one batch.

    Args:
        state: model, optimizers and moving average.
        network: the state's model, or its compiled or distributed form.
        config: precision, label smoothing and gradient clipping.
        images: (n, 3, h, w), pixel values in [0, 1].
        labels: (n) class indices or (n, k) class probabilities.
        weight: factor of the loss before the backward pass, for ranks whose shards differ in size.
        parts: number of micro-batches for gradient accumulation; `config.accumulate` by default.

    Returns:
        The mean loss per image (a scalar) and the logits (n, k), both detached.
    """
    set_training_mode(state.model, state.backbone, frozen=state.is_frozen)
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    parts = parts or max(1, min(config.accumulate, len(images)))
    losses, outputs = [], []
    for part, (part_images, part_labels) in enumerate(
        zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True), start=1
    ):
        with nullcontext() if part == parts else _no_sync(network):
            with autocast(config, images):
                logits = network(part_images)
            loss = F.cross_entropy(logits.float(), part_labels, label_smoothing=config.label_smoothing, reduction="sum")
            loss = loss / max(1, len(images))
            (loss * weight).backward()
        losses.append(loss.detach())
        outputs.append(logits.detach())
    if config.clip_norm:
        nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
    for optimizer in state.optimizers:
        optimizer.step()
    if state.average is not None:
        state.average.update_parameters(state.model)
    return torch.stack(losses).sum(), torch.cat(outputs)


def adversarial_train_step(
    state: TrainState,
    network: Network,
    config: TrainConfig,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int,
    weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Attack one batch by the method in `config.adversarial` and train on the adversarial examples.

    `free` takes several training steps on the batch and returns the results of the last one. Arguments and results are
    as in `train_step`; `seed` determines the attack's random start.
    """
    adversarial = config.adversarial
    assert adversarial is not None
    if adversarial.method != "free":
        with autocast(config, images):
            if adversarial.method == "handout":
                images, network = handout_examples(state.model, images, adversarial), state.model.network
            else:  # without DistributedDataParallel: gradients of the images must not be averaged over ranks
                attacked = state.model if isinstance(network, DistributedDataParallel) else network
                images = pgd_examples(state.model, attacked, images, labels, adversarial, seed=seed)
        return train_step(state, network, config, images, labels, weight=weight, parts=1)
    results: list[tuple[Tensor, Tensor]] = []

    def update(points: Tensor) -> Tensor:
        leaf = points.detach().requires_grad_()
        results.append(train_step(state, network, config, leaf, labels, weight=weight, parts=1))
        assert leaf.grad is not None
        return leaf.grad

    free_adversarial_updates(images, adversarial, update, seed=seed)
    return results[-1]


def autocast(config: TrainConfig, images: Tensor) -> AbstractContextManager[object]:
    """Return an autocast context for bfloat16 on the images' device if the config enables it, else a null context."""
    return torch.autocast(images.device.type, torch.bfloat16) if config.autocast else nullcontext()


def _no_sync(network: Network) -> AbstractContextManager[object]:
    """Return a context that disables the gradient averaging of DistributedDataParallel, if the network uses it."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()
