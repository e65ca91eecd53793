"""What an attack returns: images, and what the model says of exactly these images."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from scenelab.attacks.objectives import Goal
from scenelab.attacks.threat import Ball
from scenelab.classifier import Model, ask


@dataclass(frozen=True)
class Attacked:
    """Adversarial images and what they do.

    Attributes:
        images: as given, each with its perturbation.
        success: whether the model is fooled, asked again of the images that are returned.
        predictions: the class that the model says of each.
        norms: size of each perturbation in the attack's norm.
    """

    images: Float[Tensor, "n c h w"]
    success: Bool[Tensor, " n"]
    predictions: Int64[Tensor, " n"]
    norms: Float[Tensor, " n"]


def judge(
    model: Model,
    images: Float[Tensor, "n c h w"],
    adversarial: Float[Tensor, "n c h w"],
    goal: Goal,
    ball: Ball,
    *,
    batch_size: int,
) -> Attacked:
    """Ask the model about the images that an attack ends with."""
    with torch.no_grad():
        parts = [ask(model, part) for part in adversarial.split(batch_size)] if len(images) else []
    if not parts:
        none = torch.empty(0, dtype=torch.int64, device=images.device)
        return Attacked(adversarial, none.bool(), none, images.new_empty(0))
    scores = torch.cat(parts)
    goal.check(scores)
    return Attacked(adversarial, goal.reached(scores), scores.argmax(dim=1), ball.norm(adversarial - images))
