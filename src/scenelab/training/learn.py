"""One step of learning: forward, backward, update; from the images themselves or from adversarial ones."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenelab.training.adversarial import make_hard, make_unlikely, replay
from scenelab.training.config import TrainConfig
from scenelab.training.state import TrainState


def learn(
    state: TrainState, network: Callable[[Tensor], Tensor], config: TrainConfig, images: Tensor, labels: Tensor, *,
    attack_seed: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Forward, backward, update of the weights and of their average; on adversarial images if so configured.

    Args:
        network: the state's model, or its compiled form.
        attack_seed: of the attack's random start.

    Returns:
        Loss and logits of the images that are learned from, detached; of `free` those of the last replay.
    """
    adversarial = config.adversarial
    if adversarial is None:
        return _update(state, network, config, images, labels)
    with _precision(config, images):
        if adversarial.method == "handout":
            images, network = make_unlikely(state.model, images, adversarial), state.model.network
        elif adversarial.method != "free":
            images = make_hard(state.model, network, images, labels, adversarial, seed=attack_seed)
    if adversarial.method != "free":
        return _update(state, network, config, images, labels)
    results: list[tuple[Tensor, Tensor]] = []

    def update(points: Tensor) -> Tensor:
        leaf = points.detach().requires_grad_()
        results.append(_update(state, network, config, leaf, labels))
        assert leaf.grad is not None
        return leaf.grad

    replay(images, adversarial, update, seed=attack_seed)
    return results[-1]


def _precision(config: TrainConfig, images: Tensor) -> AbstractContextManager[object]:
    return torch.autocast(images.device.type, torch.bfloat16) if config.autocast else nullcontext()


def _update(
    state: TrainState, network: Callable[[Tensor], Tensor], config: TrainConfig, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    state.model.train()
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    with _precision(config, images):
        logits = network(images)
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
    loss.backward()
    if config.clip_norm:
        nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
    for optimizer in state.optimizers:
        optimizer.step()
    if state.average is not None:
        state.average.update_parameters(state.model)
    return loss.detach(), logits.detach()
