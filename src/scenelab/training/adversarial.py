"""Adversarial examples for training, and the check for catastrophic overfitting.

Attacks run in eval mode. There the gradient of an image does not depend on the other images of the batch or on dropout,
and later attacks on the trained network use eval mode too. Only the method `free` runs in train mode, because one
backward pass gives the gradients of both images and weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.attacks import FGSM, PGD, Goal, Linf
from scenelab.attacks.gradient_ascent import GradientAscent
from scenelab.attacks.objectives import least_likely
from scenelab.attacks.pgd import FixedStep
from scenelab.classifier import eval_mode
from scenelab.data.augment import resize
from scenelab.data.cache import MemmapDataset
from scenelab.evaluation.intervals import wilson
from scenelab.models.normalize import Classifier
from scenelab.runs.config import AdversarialConfig

PROBE_STEPS = 10
MIN_PROBED, PROBED_SHARE = 64, 0.025  # images of the check, which would take most of the time of short epochs
MIN_RATIO = 0.5  # accuracy under PGD / accuracy under FGSM; a lower ratio is catastrophic overfitting
Network = Callable[[Tensor], Tensor]


def pgd_examples(
    model: Classifier,
    network: Network,
    images: Float[Tensor, "n 3 h w"],
    labels: Tensor,
    config: AdversarialConfig,
    *,
    seed: int,
) -> Float[Tensor, "n 3 h w"]:
    """Return adversarial examples in [0, 1] by untargeted PGD from a random start (Madry et al. 2018).

    With one step this is the attack of fast adversarial training (Wong et al. 2020).

    Args:
        model: classifier, set to eval mode during the attack.
        network: the function to attack: `model` itself, or its compiled form.
        images: pixel values in [0, 1].
        labels: (n) class indices, or (n, k) class probabilities; the attack uses the most likely class.
        config: radius ε of the L∞ ball, number of steps and step size.
        seed: seed of the random start.
    """
    threat = Linf(config.epsilon)
    generator = torch.Generator(device=images.device).manual_seed(seed)
    noise = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    starts = threat.project(images, images + config.epsilon * (2 * noise - 1))
    goal = Goal(labels=labels if labels.ndim == 1 else labels.argmax(dim=1))
    with eval_mode(model):
        ascend = GradientAscent(threat=threat, steps=config.steps, early_stop=False, keep_best=False)
        rule = FixedStep(threat, config.size)
        return ascend(lambda given: network(given).float(), images, goal, starts, rule).points


def handout_examples(model: Classifier, images: Float[Tensor, "n 3 h w"], config: AdversarialConfig) -> Tensor:
    """Return normalized adversarial examples by the handout's targeted attack towards the least likely class.

    The attack starts from `images` (pixel values in [0, 1]). Its result is an input for `model.network`.
    """
    with torch.no_grad():
        clean = model.normalize(images)
    threat = Linf(config.epsilon, bounds=None)
    with eval_mode(model):
        with torch.no_grad():
            scores = model.network(clean)
        labels = scores.argmax(dim=1)
        goal = Goal(labels=labels, targets=least_likely(scores, labels), targeted=True)
        ascend = GradientAscent(threat=threat, steps=config.steps, early_stop=False, keep_best=False)
        return ascend(model.network, clean, goal, clean, FixedStep(threat, config.size)).points


def free_adversarial_updates(
    images: Float[Tensor, "n 3 h w"], config: AdversarialConfig, update: Callable[[Tensor], Tensor], *, seed: int
) -> None:
    """Take `config.steps` training steps on one batch, updating its perturbation (Shafahi et al. 2019, algorithm 1).

    Each batch starts from a random perturbation. The paper reuses the perturbation of the previous batch instead, but
    a resumed run no longer has it.

    Args:
        images: pixel values in [0, 1].
        config: radius ε of the L∞ ball, number of updates and step size of the perturbation.
        update: takes one training step on the given images and returns the gradient of the loss with respect to them.
        seed: seed of the random start.
    """
    generator = torch.Generator(device=images.device).manual_seed(seed)
    noise = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    threat = Linf(config.epsilon)
    points = threat.project(images, images + config.epsilon * (2 * noise - 1))
    for _ in range(config.steps):
        grads = update(points)
        points = threat.project(images, points + config.size * grads.sign())


@dataclass(frozen=True)
class Probe:
    """Result of an overfitting check: numbers of images in total, correct under FGSM, and correct under PGD."""

    images: int
    fgsm: int
    pgd: int

    @property
    def collapsed(self) -> bool:
        """Whether the network is robust to FGSM only: catastrophic overfitting (Wong et al. 2020, section 5).

        True if the upper end of the 95 % confidence interval of the accuracy under PGD is below half the lower end of
        the interval of the accuracy under FGSM.
        """
        return wilson(self.pgd, self.images)[1] < MIN_RATIO * wilson(self.fgsm, self.images)[0]


def probe_dataset(
    model: Classifier, dataset: MemmapDataset, config: AdversarialConfig, *, side: int, device: torch.device
) -> Probe:
    """Run `overfitting_check` on up to `config.probed` evenly spaced images of a data set, resized to `side` pixels."""
    count = min(len(dataset), config.probed, max(MIN_PROBED, round(PROBED_SHARE * len(dataset))))
    index = np.linspace(0, len(dataset) - 1, count).astype(np.int64)
    images = resize(dataset.gather(index).to(device).float().div_(255), side).clamp_(0, 1)
    labels = dataset.labels[torch.from_numpy(index)].to(device)
    return overfitting_check(model, images, labels, epsilon=config.epsilon)


def overfitting_check(
    model: Classifier, images: Float[Tensor, "n 3 h w"], labels: Int64[Tensor, " n"], *, epsilon: float
) -> Probe:
    """Count the images (values in [0, 1]) that remain correctly classified under FGSM and under ten-step PGD (L∞)."""
    attacks = (FGSM(), PGD(steps=PROBE_STEPS))
    results = (attack(model, images, labels, threat=Linf(epsilon)) for attack in attacks)
    one, many = (int((~result.success & ~result.fooled_before).sum()) for result in results)
    return Probe(len(images), one, many)
