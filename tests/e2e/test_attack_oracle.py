"""Attacks against torchattacks and foolbox on the same model, images and settings."""

from functools import partial

import foolbox
import pytest
import torch
import torchattacks
from torch import nn

from scenelab.attacks import APGD, FGSM, L2, PGD, Linf, Square, TargetedAPGD, cross_entropy, dlr

SIDE, CLASSES, EPSILON = 12, 10, 4 / 255


class Network(nn.Module):
    """Small, not linear, in float64, with scores that depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.conv, self.deep = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 3)
        self.fc = nn.Linear(8 * 3 * 3, CLASSES)
        with torch.no_grad():
            for parameter in self.parameters():
                scale = parameter[0].numel() ** -0.5
                parameter.copy_(1.7 * scale * torch.randn(parameter.shape, generator=generator))
        self.double().eval()

    def forward(self, images):
        return self.fc(self.deep(self.conv(4 * (images - 0.5)).relu()).relu().flatten(1))


@pytest.fixture(scope="module")
def task():
    model = Network()
    images = torch.randint(0, 256, (500, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).double() / 255
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    return model, images, labels


def few(task):
    model, images, labels = task
    return model, images[:40], labels[:40]


PIXEL = {"eps": EPSILON, "alpha": 1 / 255}
PLAIN = {"early_stop": False, "keep_best": False}


def least_likely(model):
    attack = torchattacks.PGD(model, **PIXEL, steps=10, random_start=False)
    attack.set_mode_targeted_least_likely(quiet=True)
    return attack


@pytest.mark.parametrize(
    ("ours", "options", "theirs"),
    [
        (FGSM(), {}, lambda model: torchattacks.FGSM(model, eps=EPSILON)),
        (
            PGD(steps=10, step_size=1 / 255, **PLAIN),
            {},
            lambda model: torchattacks.PGD(model, **PIXEL, steps=10, random_start=False),
        ),
        (PGD(steps=10, step_size=1 / 255, **PLAIN), {"targets": "least-likely"}, least_likely),
        (
            PGD(steps=6, step_size=1 / 255, momentum=1.0, **PLAIN),
            {},
            lambda model: torchattacks.MIFGSM(model, **PIXEL, steps=6, decay=1.0),
        ),
    ],
    ids=["fgsm", "pgd", "targeted", "momentum"],
)
def test_attacks_are_those_of_torchattacks(task, ours, options, theirs):
    model, images, labels = few(task)
    result = ours(model, images, labels, threat=Linf(EPSILON), **options)
    torch.testing.assert_close(result.images, theirs(model)(images, labels), check_dtype=False)


@pytest.mark.parametrize(
    ("ours", "threat", "theirs"),
    [
        (FGSM(), Linf(EPSILON), foolbox.attacks.FGSM(random_start=False)),
        (
            PGD(steps=10, step_size=1 / 255, **PLAIN),
            Linf(EPSILON),
            foolbox.attacks.LinfPGD(abs_stepsize=1 / 255, steps=10, random_start=False),
        ),
        (
            PGD(steps=10, step_size=0.06, **PLAIN),
            L2(0.3),
            foolbox.attacks.L2PGD(abs_stepsize=0.06, steps=10, random_start=False),
        ),
    ],
    ids=["fgsm", "pgd", "l2"],
)
def test_attacks_are_those_of_foolbox(task, ours, threat, theirs):
    model, images, labels = few(task)
    result = ours(model, images, labels, threat=threat)
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1))
    _, (expected,), (success,) = theirs(bounded, images, labels, epsilons=[threat.epsilon])
    torch.testing.assert_close(result.images, expected, atol=1e-6, rtol=0)
    assert torch.equal(result.success, success)
    assert 0.1 < success.double().mean() < 1


@pytest.mark.parametrize(
    ("ours", "theirs", "count", "tolerance"),
    [
        (APGD(steps=30, loss_fn=cross_entropy), partial(torchattacks.APGD, steps=30, loss="ce"), 500, 0.01),
        (APGD(steps=30, loss_fn=dlr), partial(torchattacks.APGD, steps=30, loss="dlr"), 500, 0.01),
        (Square(queries=300), partial(torchattacks.Square, n_queries=300), 200, 0.03),
    ],
    ids=["apgd-ce", "apgd-dlr", "square"],
)
def test_random_attacks_are_not_weaker(task, ours, theirs, count, tolerance):
    """Random starts differ, so that what is compared is how many images stand."""
    model, images, labels = task[0], task[1][:count], task[2][:count]
    adversarial = theirs(model, norm="Linf", eps=EPSILON, seed=0)(images, labels)
    with torch.no_grad():
        left = (model(adversarial).argmax(dim=1) == labels).double().mean().item()
    result = ours(model, images, labels, threat=Linf(EPSILON), batch_size=500)
    assert 0.02 < (~result.success).double().mean().item() <= left + tolerance


@pytest.mark.slow
def test_the_worst_case_is_that_of_autoattack(task):
    """Within one point of torchattacks' standard AutoAttack on 200 images, and not weaker (its FAB is float32 only)."""
    model, images, labels = Network().float(), task[1][:200].float(), task[2][:200]
    theirs = torchattacks.AutoAttack(model, norm="Linf", eps=EPSILON, version="standard", n_classes=CLASSES, seed=0)
    adversarial = theirs(images, labels)
    with torch.no_grad():
        left = (model(adversarial).argmax(dim=1) == labels).double().mean().item()
    robust = torch.arange(len(images))
    for attack in (APGD(), TargetedAPGD(), Square(queries=5000)):
        result = attack(model, images[robust], labels[robust], threat=Linf(EPSILON), batch_size=500)
        robust = robust[~result.success]
    assert 0.02 < left < 0.9
    assert left - 0.01 <= len(robust) / len(images) <= left
