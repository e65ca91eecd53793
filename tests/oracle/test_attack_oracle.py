"""Attacks against torchattacks and foolbox on the same model, images and settings."""

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


def test_fgsm(task):
    model, images, labels = few(task)
    found = FGSM()(model, images, labels, threat=Linf(EPSILON)).images
    torch.testing.assert_close(found, torchattacks.FGSM(model, eps=EPSILON)(images, labels), check_dtype=False)
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1))
    theirs = foolbox.attacks.FGSM(random_start=False)(bounded, images, labels, epsilons=[EPSILON])[1][0]
    torch.testing.assert_close(found, theirs)


def test_pgd_without_random_start(task):
    model, images, labels = few(task)
    found = PGD(steps=10, step_size=1 / 255, early_stop=False, keep_best=False)(
        model, images, labels, threat=Linf(EPSILON)
    )
    theirs = torchattacks.PGD(model, eps=EPSILON, alpha=1 / 255, steps=10, random_start=False)(images, labels)
    torch.testing.assert_close(found.images, theirs, check_dtype=False)
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=1 / 255, steps=10, random_start=False)
    _, (clipped,), (success,) = attack(bounded, images, labels, epsilons=[EPSILON])
    torch.testing.assert_close(found.images, clipped)
    assert torch.equal(found.success, success)
    assert 0.1 < success.double().mean() < 1


def test_pgd_within_l2(task):
    model, images, labels = few(task)
    found = PGD(steps=10, step_size=0.06, early_stop=False, keep_best=False)(model, images, labels, threat=L2(0.3))
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1))
    attack = foolbox.attacks.L2PGD(abs_stepsize=0.06, steps=10, random_start=False)
    theirs = attack(bounded, images, labels, epsilons=[0.3])[1][0]
    torch.testing.assert_close(found.images, theirs, atol=1e-6, rtol=0)


def test_targeted_pgd(task):
    model, images, labels = few(task)
    attack = torchattacks.PGD(model, eps=EPSILON, alpha=1 / 255, steps=10, random_start=False)
    attack.set_mode_targeted_least_likely(quiet=True)
    found = PGD(steps=10, step_size=1 / 255, early_stop=False, keep_best=False)(
        model, images, labels, threat=Linf(EPSILON), targets="least-likely"
    )
    torch.testing.assert_close(found.images, attack(images, labels), check_dtype=False)


def test_momentum(task):
    model, images, labels = few(task)
    theirs = torchattacks.MIFGSM(model, eps=EPSILON, alpha=1 / 255, steps=6, decay=1.0)(images, labels)
    found = PGD(steps=6, step_size=1 / 255, momentum=1.0, early_stop=False, keep_best=False)(
        model, images, labels, threat=Linf(EPSILON)
    )
    torch.testing.assert_close(found.images, theirs, check_dtype=False)


@pytest.mark.parametrize(("loss", "objective"), [("ce", cross_entropy), ("dlr", dlr)])
def test_auto_pgd_is_not_weaker(task, loss, objective):
    """Random starts differ, so that what is compared is how many of 500 images stand."""
    model, images, labels = task
    theirs = torchattacks.APGD(model, norm="Linf", eps=EPSILON, steps=30, loss=loss, seed=0)(images, labels)
    with torch.no_grad():
        left = (model(theirs).argmax(dim=1) == labels).double().mean().item()
    found = APGD(steps=30, loss_fn=objective)(model, images, labels, threat=Linf(EPSILON), batch_size=500)
    ours = (~found.success).double().mean().item()
    assert 0.02 < ours <= left + 0.01


def test_square_is_not_weaker(task):
    model, images, labels = (part[:200] if isinstance(part, torch.Tensor) else part for part in task)
    theirs = torchattacks.Square(model, norm="Linf", eps=EPSILON, n_queries=300, seed=0)(images, labels)
    with torch.no_grad():
        left = (model(theirs).argmax(dim=1) == labels).double().mean().item()
    found = Square(queries=300)(model, images, labels, threat=Linf(EPSILON), batch_size=200)
    ours = (~found.success).double().mean().item()
    assert 0.02 < ours <= left + 0.03


@pytest.mark.slow
def test_the_worst_case_is_that_of_autoattack(task):
    """Within one point of torchattacks' standard AutoAttack on 200 images, and not weaker (its FAB is float32 only)."""
    _, images, labels = task
    model, images, labels = Network().float(), images[:200].float(), labels[:200]
    theirs = torchattacks.AutoAttack(model, norm="Linf", eps=EPSILON, version="standard", n_classes=CLASSES, seed=0)
    adversarial = theirs(images, labels)
    with torch.no_grad():
        left = (model(adversarial).argmax(dim=1) == labels).double().mean().item()
    standing = torch.ones(len(images), dtype=torch.bool)
    for attack in (APGD(), TargetedAPGD(), Square(queries=5000)):
        chosen = torch.nonzero(standing)[:, 0]
        standing[
            chosen[attack(model, images[chosen], labels[chosen], threat=Linf(EPSILON), batch_size=500).success]
        ] = False
    ours = standing.double().mean().item()
    assert 0.02 < left < 0.9
    assert ours <= left
    assert ours >= left - 0.01
