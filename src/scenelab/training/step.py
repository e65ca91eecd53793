"""One step of learning: forward, backward, update; from the images themselves or from adversarial ones."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scenelab.runs.config import TrainConfig
from scenelab.training.adversarial import free_adversarial_updates, handout_examples, pgd_examples
from scenelab.training.state import TrainState


def learn(
    state: TrainState, network: Callable[[Tensor], Tensor], config: TrainConfig, images: Tensor, labels: Tensor, *,
    attack_seed: int = 0, weight: float = 1.0, parts: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Forward, backward, update of the weights and of their average; on adversarial images if so configured.

    Args:
        network: the state's model, or its compiled form.
        attack_seed: of the attack's random start.
        weight: of the images' mean loss in the gradient, for a process that has more or fewer images than others.
        parts: that the images are learned from one after the other; the config's `accumulate` by default.

    Returns:
        Loss and logits of the images that are learned from, detached; of `free` those of the last replay.
    """
    adversarial = config.adversarial
    if adversarial is None:
        return _update(state, network, config, images, labels, weight, parts)
    with _precision(config, images):
        if adversarial.method == "handout":
            images, network = handout_examples(state.model, images, adversarial), state.model.network
        elif adversarial.method != "free":
            asked = (
                state.model if isinstance(network, DistributedDataParallel) else network
            )  # its gradients are its own
            images = pgd_examples(state.model, asked, images, labels, adversarial, seed=attack_seed)
    if adversarial.method != "free":
        return _update(state, network, config, images, labels, weight)
    results: list[tuple[Tensor, Tensor]] = []

    def update(points: Tensor) -> Tensor:
        leaf = points.detach().requires_grad_()
        results.append(_update(state, network, config, leaf, labels, weight))
        assert leaf.grad is not None
        return leaf.grad

    free_adversarial_updates(images, adversarial, update, seed=attack_seed)
    return results[-1]


def _precision(config: TrainConfig, images: Tensor) -> AbstractContextManager[object]:
    return torch.autocast(images.device.type, torch.bfloat16) if config.autocast else nullcontext()


def _update(
    state: TrainState, network: Callable[[Tensor], Tensor], config: TrainConfig, images: Tensor, labels: Tensor,
    weight: float = 1.0, parts: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    state.model.train()
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    parts = parts or max(1, min(config.accumulate, len(images)))
    chunks = list(zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True))
    losses, outputs = [], []
    for number, (some, theirs) in enumerate(chunks, start=1):
        with nullcontext() if number == len(chunks) else _unsynchronised(network):
            with _precision(config, some):
                logits = network(some)
            loss = F.cross_entropy(logits.float(), theirs, label_smoothing=config.label_smoothing, reduction="sum")
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


def _unsynchronised(network: Callable[[Tensor], Tensor]) -> AbstractContextManager[object]:
    """Gradients are averaged over processes once a step, with the last part."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()
