"""Adversarial training: each step learns from images that were just made as hard as a small change allows.

The attack looks at the network in eval mode, the update in train mode. In eval mode an image's gradient does not depend
on the other images of its batch, nothing is dropped out, the statistics of normalisation do not learn from images that
are only on the way, and it is the function that will be attacked later. `free` is the exception by its nature: the
gradient that moves the image is the one that moves the weights.
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

PROBED_STEPS = 10
COLLAPSED = 0.5  # of the accuracy under one step that a network keeps under PGD if it learned to be robust
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
    """Images within ε of the given ones on which the network does worse, by PGD; with one step it is Fast's FGSM.

    Args:
        model: whose mode is switched for the time of the attack.
        network: the model, or its compiled form.
        labels: class numbers, or shares of classes, of which the largest is taken.
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
    """The handout's attack, as its `PGDAttack` is attached to a network's forward pass: on normalised images, towards
    the class that the network believes in least, without a random start.

    Returns:
        Normalised images, for `model.network`.
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
    """Free (Shafahi et al. 2019, algorithm 1): several updates of the weights on one batch, whose images move along.

    The perturbation begins anew with each batch, drawn from the ball, where the paper goes on with that of the batch
    before: a run that is resumed then ends as one that was not broken off.

    Args:
        update: learns from images that want a gradient and returns that gradient.
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
    """How many of a few images a network has right under one step and under PGD."""

    images: int
    fgsm: int
    pgd: int

    @property
    def collapsed(self) -> bool:
        """Whether the network only learned to stand one step: catastrophic overfitting (Wong et al. 2020, section 5).

        It has when its accuracy under PGD is less than half of that under one step, also at the ends of both 95 %
        intervals.
        """
        return wilson(self.pgd, self.images)[1] < COLLAPSED * wilson(self.fgsm, self.images)[0]


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
    """Attack a few images with one step of ε and with PGD."""
    attacks = (FGSM(), PGD(steps=PROBED_STEPS))
    results = (attack(model, images, labels, threat=Linf(epsilon)) for attack in attacks)
    one, many = (int((~result.success).sum()) for result in results)
    return Probe(len(images), one, many)
