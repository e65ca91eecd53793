"""Adversarial training by hand: what is learned from, when it stops, and that resuming changes nothing."""

import dataclasses
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from runs_compared import QUIET, StopAfter, assert_same_run, read_rows
from runs_compared import tiny as tiny_config
from scenelab.data.augment_config import Augment
from scenelab.errors import Interrupted
from scenelab.models.registry import create_model
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import AdversarialConfig
from scenelab.runs.run import Run
from scenelab.training import adversarial
from scenelab.training.adversarial import Probe, handout_examples, overfitting_check, pgd_examples
from scenelab.training.budget import noise
from scenelab.training.session import resume_run, start_run
from scenelab.training.state import initialize
from scenelab.training.step import adversarial_train_step

EPSILON = 8 / 255
FAST = AdversarialConfig(method="fast", epsilon=EPSILON)
PGD = AdversarialConfig(method="pgd", epsilon=EPSILON, steps=3)
FREE = AdversarialConfig(method="free", epsilon=EPSILON, steps=3)
HANDOUT = AdversarialConfig(method="handout", epsilon=0.1, steps=2)


tiny = partial(tiny_config, model="residual-small", batch_size=24)


def student_code() -> ModuleType:
    """The assignment's answers."""
    spec = spec_from_file_location("student_code", Path(__file__).parents[2] / "code" / "student_code.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return create_model("residual-small", num_classes=5).train()


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, 3, 32, 32, generator=generator), torch.randint(0, 5, (6,), generator=generator)


@pytest.mark.parametrize("config", [FAST, PGD])
def test_hard_images_are_near_and_harder(model, batch, config):
    images, labels = batch
    before = [value.clone() for value in model.state_dict().values()]
    hard = pgd_examples(model, model, images, labels, config, seed=1)
    assert (hard - images).abs().max() <= EPSILON + 1e-6
    assert hard.min() >= 0
    assert hard.max() <= 1
    assert all(module.training for module in model.modules())
    assert all(torch.equal(one, other) for one, other in zip(before, model.state_dict().values(), strict=True))
    model.eval()
    losses = [nn.functional.cross_entropy(model(given), labels).item() for given in (images, hard)]
    assert losses[1] > losses[0]
    model.train()
    assert torch.equal(hard, pgd_examples(model, model, images, labels, config, seed=1))
    assert not torch.equal(hard, pgd_examples(model, model, images, labels, config, seed=2))
    shares = nn.functional.one_hot(labels, 5).float()
    assert torch.equal(hard, pgd_examples(model, model, images, shares, config, seed=1))


def test_fast_by_its_formula(model, batch):
    """Wong et al. 2020, algorithm 3: δ uniform in the ball, one step of 1.25 ε, cut to the ball and to [0, 1]."""
    images, labels = batch
    noise = EPSILON * (2 * torch.rand(images.shape, generator=torch.Generator().manual_seed(1)) - 1)
    points = (images + noise.clamp(-EPSILON, EPSILON)).clamp(0, 1)
    model.eval()
    leaf = points.clone().requires_grad_()
    slopes = torch.autograd.grad(nn.functional.cross_entropy(model(leaf), labels, reduction="sum"), leaf)[0]
    expected = images + (points + 1.25 * EPSILON * slopes.sign() - images).clamp(-EPSILON, EPSILON)
    hard = pgd_examples(model, model, images, labels, FAST, seed=1)
    torch.testing.assert_close(hard, expected.clamp(0, 1))


def test_the_handouts_attack_is_that_of_student_code(model, batch):
    images, _ = batch
    attack = student_code().PGDAttack(nn.CrossEntropyLoss(), num_steps=2)
    expected = attack.perturb(model.network, model.normalize(images))
    assert torch.equal(handout_examples(model, images, HANDOUT), expected)


@pytest.mark.parametrize("size", [EPSILON, EPSILON / 2])
def test_free_moves_weights_and_images_together(batch, size):
    """Algorithm 1 of Shafahi et al. 2019, written out: three updates whose gradients also move the images."""
    images, labels = batch
    config = tiny(adversarial=dataclasses.replace(FREE, step_size=size))
    state, twin = (initialize(config, num_classes=5, device=torch.device("cpu")) for _ in range(2))
    adversarial_train_step(state, state.model, config, images, labels, seed=4)
    noise = EPSILON * (2 * torch.rand(images.shape, generator=torch.Generator().manual_seed(4)) - 1)
    points = (images + noise).clamp(0, 1)
    (optimizer,) = twin.optimizers
    for _ in range(3):
        leaf = points.clone().requires_grad_()
        optimizer.zero_grad()
        nn.functional.cross_entropy(twin.model(leaf), labels).backward()
        optimizer.step()
        points = (images + (points + size * leaf.grad.sign() - images).clamp(-EPSILON, EPSILON)).clamp(0, 1)
    for one, other in zip(state.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("adversarial", [FAST, FREE, HANDOUT], ids=lambda config: config.method)
def test_a_stopped_run_ends_as_an_uninterrupted_one(scenes, tmp_path, adversarial):
    config = tiny(adversarial=adversarial, augment=Augment(flip=True, mixup=0.2))
    start_run(tmp_path / "whole", scenes, config, display=QUIET)
    with pytest.raises(Interrupted):
        start_run(tmp_path / "cut", scenes, config, display=StopAfter(4))
    resume_run(tmp_path / "cut", display=QUIET)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_an_attack_attached_to_the_forward_pass_gives_the_loops_numbers(scenes, tmp_path, monkeypatch):
    """The handout's own door: main.py --adversarial."""
    from scenelab.course import handout
    from scenelab.models.simplenet import SimpleNetSmall

    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")
    config = tiny(model="simplenet-small", eval_size=160)
    attack = student_code().PGDAttack(nn.CrossEntropyLoss(), num_steps=2)
    handout.train(scenes, config, handout.attach_attack(SimpleNetSmall, attack), print_freq=10**9)
    start_run(tmp_path / "loop", scenes, dataclasses.replace(config, adversarial=HANDOUT), display=QUIET)
    start_run(tmp_path / "plain", scenes, config, display=QUIET)
    attached, loop, plain = (
        [row["training_loss"] for row in read_rows(tmp_path / name) if "training_loss" in row]
        for name in ("models", "loop", "plain")
    )
    assert attached == loop
    assert attached != plain


def test_operations_are_counted_with_the_attacks(scenes, tmp_path):
    plain, pgd, free = (
        start_run(tmp_path / str(config), scenes, tiny(epochs=1, adversarial=config), display=QUIET).training_flops
        for config in (None, PGD, FREE)
    )
    assert pgd == pytest.approx(3 * plain)  # three steps of two thirds each, and the update
    assert free == pytest.approx(3 * plain)


@pytest.mark.parametrize(("fgsm", "pgd", "collapsed"), [(150, 2, True), (100, 70, False), (6, 2, False), (0, 0, False)])
def test_a_collapse_is_a_fall_to_nothing_from_above_chance(fgsm, pgd, collapsed):
    assert Probe(256, fgsm=fgsm, pgd=pgd).collapsed == collapsed


def test_a_probe_attacks(model, batch):
    found = overfitting_check(model, *batch, epsilon=1e-6)
    with torch.no_grad():
        clean = int((model.eval()(batch[0]).argmax(dim=1) == batch[1]).sum())
    assert found == Probe(6, clean, clean)


@pytest.mark.parametrize(("images", "probed"), [(40, 40), (480, 64), (6000, 150), (20_000, 256)])
def test_few_images_of_a_small_data_set_are_probed(images, probed, model, monkeypatch):
    monkeypatch.setattr(adversarial, "overfitting_check", lambda model, images, *args, **options: len(images))
    dataset = noise(images, 8, ("a", "b"))
    assert adversarial.probe_dataset(model, dataset, FAST, side=8, device=torch.device("cpu")) == probed


def test_a_collapse_stops_the_run_and_keeps_the_epoch_before(scenes, tmp_path, monkeypatch):
    found = iter([Probe(72, 30, 20), Probe(72, 32, 24), Probe(72, 60, 1)])
    monkeypatch.setattr(adversarial, "overfitting_check", lambda *args, **options: next(found))
    config = tiny(epochs=5, adversarial=FAST, evaluate_every=5)
    result = start_run(tmp_path / "run", scenes, config, display=QUIET)
    run = Run(tmp_path / "run")
    assert result.stopped.startswith("catastrophic overfitting at epoch 3: 83 % of 72 training images withstand one")
    assert "the weights of epoch 2 are kept" in result.stopped
    assert result.epochs == pytest.approx(3)
    assert [round(row["pgd"]) for row in read_rows(run.folder, "probe")] == [28, 33, 1]
    for _ in range(2):  # a resumed run stays stopped
        assert load_checkpoint(run.best)["epoch"] == 2
        assert resume_run(run.folder, display=QUIET).stopped == result.stopped


def test_a_collapse_from_the_start_keeps_what_there_is(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(adversarial, "overfitting_check", lambda *args, **options: Probe(72, 60, 1))
    result = start_run(tmp_path / "run", scenes, tiny(epochs=3, adversarial=FAST), display=QUIET)
    assert "at epoch 1" in result.stopped
    assert load_checkpoint(Run(tmp_path / "run").best)["epoch"] == 1


def test_step_sizes_follow_the_method_unless_given():
    expected = (1.25 * EPSILON, pytest.approx(2.5 * EPSILON / 3), EPSILON, 0.01)
    assert (FAST.size, PGD.size, FREE.size, HANDOUT.size) == expected
    assert AdversarialConfig(method="pgd", epsilon=0.1, step_size=0.02).size == 0.02
