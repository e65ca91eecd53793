"""Adversarial examples for training, and the check for catastrophic overfitting.

Attacks run in eval mode, where an image's gradient does not depend on its batch, on dropout or on running statistics,
and where the network will be attacked later. `free` runs in train mode: one gradient moves images and weights.
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
MIN_RATIO = 0.5  # of the accuracy under PGD to that under FGSM, for a robust network
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
    """Return adversarial examples within ε by PGD from a random start; with one step, those of Fast.

    Args:
        model: put into eval mode during the attack.
        network: the model, or its compiled form.
        images: in [0, 1].
        labels: (n) class numbers, or (n, k) class probabilities, of which the largest counts.
        config: ε, steps and step size.
        seed: of the random start.
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
    """Return the handout's adversarial examples: normalized images, moved towards the least likely class.

    There is no random start; the result is the input of `model.network`.
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
    """Update the weights `config.steps` times on one batch whose images move along (Shafahi et al. 2019, algorithm 1).

    The perturbation starts at random in each batch; the paper's continues from the last batch, which a resumed run
    could not.

    Args:
        images: in [0, 1].
        config: ε, steps and step size.
        update: takes a training step on images and returns their gradient.
        seed: of the random start.
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
    """Number of images, and how many are classified correctly under FGSM and under PGD."""

    images: int
    fgsm: int
    pgd: int

    @property
    def collapsed(self) -> bool:
        """Whether the network withstands FGSM only: catastrophic overfitting (Wong et al. 2020, section 5).

        The accuracy under PGD must be below half of that under FGSM at the ends of both 95 % intervals.
        """
        return wilson(self.pgd, self.images)[1] < MIN_RATIO * wilson(self.fgsm, self.images)[0]


def probe_dataset(
    model: Classifier, dataset: MemmapDataset, config: AdversarialConfig, *, side: int, device: torch.device
) -> Probe:
    """Attack `config.probed` images, spread evenly over a data set, at a resolution of `side` pixels."""
    index = np.linspace(0, len(dataset) - 1, min(len(dataset), config.probed)).astype(np.int64)
    images = resize(dataset.gather(index).to(device).float().div_(255), side).clamp_(0, 1)
    labels = dataset.labels[torch.from_numpy(index)].to(device)
    return overfitting_check(model, images, labels, epsilon=config.epsilon)


def overfitting_check(
    model: Classifier, images: Float[Tensor, "n 3 h w"], labels: Int64[Tensor, " n"], *, epsilon: float
) -> Probe:
    """Attack images with FGSM and with PGD."""
    attacks = (FGSM(), PGD(steps=PROBE_STEPS))
    results = (attack(model, images, labels, threat=Linf(epsilon)) for attack in attacks)
    one, many = (int((~result.success).sum()) for result in results)
    return Probe(len(images), one, many)
