"""Attacks by hand, on models whose optimum is known, and the caller's state as it was."""

import gc
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from model_state import snapshot
from scenelab.attacks import APGD, FGSM, L2, PGD, Goal, Linf, Square, TargetedAPGD, cross_entropy, dlr, margin
from scenelab.attacks.apgd import AdaptiveStep, checkpoints
from scenelab.attacks.gradient_ascent import GradientAscent
from scenelab.attacks.pgd import FixedStep
from scenelab.attacks.square import area_share
from scenelab.errors import LabError
from scenelab.models.registry import create_model

SIDE, CLASSES = 16, 5
EPSILON = 8 / 255


class Linear(nn.Module):
    """Scores that are linear in the image: what an attack can reach at most is known."""

    def __init__(self, classes: int = CLASSES, *, scale: float = 0.05) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * SIDE * SIDE, classes)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            self.fc.weight.copy_(scale * torch.randn(self.fc.weight.shape, generator=generator))
            self.fc.bias.zero_()

    def forward(self, images):
        return self.fc(images.flatten(1))


ATTACKS = {
    "fgsm": FGSM(),
    "pgd": PGD(steps=5),
    "started": PGD(steps=3, restarts=2, momentum=0.9),
    "least-likely": PGD(steps=3),
    "apgd": APGD(steps=6),
    "apgd-dlr": APGD(steps=6, loss_fn=dlr, restarts=2),
    "apgd-t": TargetedAPGD(steps=4, classes=2),
    "square": Square(queries=10),
}


def attack(name, model, images, labels, threat, **options):
    if name == "least-likely":
        options["targets"] = name
    return ATTACKS[name](model, images, labels, threat=threat, **options)


EACH = pytest.mark.parametrize("name", ATTACKS)


@pytest.fixture
def images() -> torch.Tensor:
    """Of whole levels, with some pixels at the range's ends."""
    values = torch.randint(0, 256, (6, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    values[0, :, :4] = 0
    values[1, :, :4] = 255
    return values / 255


class Bent(nn.Module):
    """Not linear, and easily fooled: some images at the first step, others later."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.conv, self.relu, self.fc = nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Linear(6 * 14 * 14, CLASSES)
        with torch.no_grad():
            for parameter, scale in zip(self.parameters(), (0.4, 0.1, 0.1, 0.1), strict=True):
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))

    def forward(self, images):
        return self.fc(self.relu(self.conv(images - 0.5)).flatten(1))


@pytest.fixture
def network() -> nn.Module:
    return Bent()


def labels_of(model, images):
    with torch.no_grad():
        return model.eval()(images).argmax(dim=1)


EVERY_STEP = PGD(steps=20, keep_best=False, early_stop=False)


@pytest.mark.parametrize(
    ("method", "threat"), [(FGSM(), Linf(EPSILON)), (EVERY_STEP, Linf(EPSILON)), (EVERY_STEP, L2(0.5))]
)
def test_the_optimum_on_two_linear_classes_is_reached(method, threat, images):
    """δ = ε·sign(w) within L∞ and ε·w / ‖w‖₂ within L2, where w = w_other - w_label."""
    model, inner = Linear(2), 0.3 + 0.4 * images
    labels = labels_of(model, inner)
    ascent = (model.fc.weight[1 - labels] - model.fc.weight[labels]).detach()
    direction = ascent.sign() if isinstance(threat, Linf) else ascent / ascent.norm(dim=1, keepdim=True)
    result = method(model, inner, labels, threat=threat)
    expected = inner + threat.epsilon * direction.view_as(inner)
    torch.testing.assert_close(result.images, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.norms, torch.full((6,), threat.epsilon))


def test_auto_pgd_reaches_the_optimum(images):
    model, inner = Linear(2, scale=1e-4), 0.2 + 0.6 * images  # no image is fooled, so that all steps are taken
    model.fc.bias.data = torch.tensor([1.0, 0.0])
    goal = Goal(labels=labels_of(model, inner))
    result = APGD(steps=30)(model, inner, goal.labels, threat=Linf(EPSILON))
    ascent = model.fc.weight[1 - goal.labels] - model.fc.weight[goal.labels]
    optimum = margin(model(inner), goal) + EPSILON * ascent.abs().sum(dim=1)
    torch.testing.assert_close(margin(model(result.images), goal), optimum, rtol=1e-3, atol=1e-5)


def test_objectives_by_hand():
    scores = torch.tensor([[1.0, 4.0, 2.0, 0.0], [3.0, 1.0, 2.0, 0.0]])
    away = Goal(labels=torch.tensor([1, 1]))
    toward = Goal(labels=torch.tensor([1, 1]), targets=torch.tensor([0, 0]))
    assert margin(scores, away).tolist() == [-2.0, 2.0]
    assert margin(scores, toward).tolist() == [-3.0, 1.0]
    assert dlr(scores, away).tolist() == pytest.approx([-2 / 3, 2 / 2])
    assert dlr(scores, toward).tolist() == pytest.approx([-3 / 3.5, 2 / 2.5])
    torch.testing.assert_close(cross_entropy(scores, away), -scores.log_softmax(1)[:, 1])
    torch.testing.assert_close(cross_entropy(scores, toward), scores.log_softmax(1)[:, 0])
    torch.testing.assert_close(dlr(scores, away), dlr(1000 * scores, away))  # a ratio has no scale
    assert away.is_fooled(scores).tolist() == [False, True]
    assert Goal(labels=away.labels, targets=toward.targets, targeted=True).is_fooled(scores).tolist() == [False, True]
    assert Goal(labels=away.labels, targets=away.labels, targeted=True).is_fooled(scores).tolist() == [True, False]


def test_schedules_are_those_of_the_papers():
    """Auto-PGD, section 3.3: p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99; squares halve at given queries."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    shares = [0.8, 0.8, 0.4, 0.2, 0.1, 0.8 / 512]
    assert [area_share(query, 10_000) for query in (1, 10, 11, 51, 201, 8001)] == shares
    assert area_share(51, 1000) == area_share(510, 10_000)


@EACH
@pytest.mark.parametrize("quantize", [False, True])
def test_the_result_is_in_the_ball_and_true(name, images, network, quantize):
    labels = labels_of(network, images)
    threat = Linf(EPSILON, quantize=quantize)
    found = attack(name, network, images, labels, threat)
    assert threat.contains(images, found.images).all()
    torch.testing.assert_close(found.norms, (found.images - images).abs().amax(dim=(1, 2, 3)))
    assert torch.equal(found.predictions, labels_of(network, found.images))
    if name != "least-likely":
        assert torch.equal(found.success, found.predictions != labels)
    if quantize:  # a file of 8 bits keeps them exactly
        assert torch.equal(found.images, (255 * found.images).round() / 255)


@EACH
def test_images_do_not_change_each_others_attacks(name, images, network):
    labels = labels_of(network, images)
    together = attack(name, network, images, labels, Linf(EPSILON), seed=3)
    in_parts = attack(name, network, images, labels, Linf(EPSILON), seed=3, batch_size=2)
    assert torch.equal(together.success, in_parts.success)
    assert (together.images - in_parts.images).abs().flatten(1).mean(dim=1).max() < 0.1 * EPSILON


def test_leaving_early_changes_no_success(images, network):
    network.eval()
    labels = labels_of(network, images)
    calls = []

    def counted(given):
        calls.append(len(given))
        return network(given)

    stay = PGD(steps=20, early_stop=False)(counted, images, labels, threat=Linf(EPSILON))
    full, calls[:] = sum(calls), []
    gone = PGD(steps=20)(counted, images, labels, threat=Linf(EPSILON))
    assert torch.equal(stay.success, gone.success)
    assert stay.success.sum() == 5
    assert sum(calls) < 0.7 * full
    losses = [cross_entropy(network(result.images), Goal(labels=labels)) for result in (stay, gone)]
    assert (losses[0] >= 0.99 * losses[1]).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ball", [Linf(EPSILON), L2(0.2)])
def test_more_steps_are_never_worse(images, network, ball, seed):
    """On a model that nobody fools, so that all steps count: the best margin rises with the number of steps."""
    network.eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        network.fc.weight.add_(0.1 * torch.randn(network.fc.weight.shape, generator=generator))
    labels = labels_of(network, images)

    def sure(given):
        return network(given) + 100 * nn.functional.one_hot(labels, CLASSES)

    reached = []
    for steps in (0, 1, 2, 4, 8):
        found = PGD(steps=steps, step_size=ball.epsilon / 3, loss_fn=margin)(sure, images, labels, threat=ball)
        assert not found.success.any()
        reached.append(margin(sure(found.images).detach(), Goal(labels=labels)))
    for before, after in pairwise(reached):
        assert (after >= before - 1e-5).all()
    assert (reached[-1] > reached[0] + 0.1).all()


def test_images_that_fool_already_stay_as_they_are_and_are_no_success(images, network):
    wrong = (labels_of(network, images) + 1) % CLASSES
    for name in ("pgd", "started", "apgd", "apgd-dlr", "apgd-t", "square"):
        found = attack(name, network, images, wrong, Linf(EPSILON))
        assert found.fooled_before.all(), name
        assert not found.success.any(), name
        assert torch.equal(found.images, images), name


def test_an_image_of_the_target_class_is_no_success(images, network):
    wrong = (labels_of(network, images) + 1) % CLASSES
    found = PGD(steps=3)(network, images, wrong, threat=Linf(0.5), targets=wrong)
    assert found.fooled_before.all()
    assert not found.success.any()


def test_a_target_that_the_model_predicts_already_is_no_success(images, network):
    classes = labels_of(network, images)
    targets = classes.clone()
    targets[0] = (targets[0] + 1) % CLASSES
    for ball in (Linf(0.0), Linf(EPSILON)):
        for method in (FGSM(), PGD(steps=2), PGD(steps=2, random_start=True)):
            found = method(network, images, threat=ball, targets=targets)
            assert found.fooled_before.tolist() == [False, *[True] * 5]
            assert not found.success[1:].any()


@EACH
def test_where_the_logits_are_nan_no_image_is_fooled(name, images, network):
    def broken(given):
        return torch.where((given[:, 0, 0, 8] < 0.5)[:, None], network(given), torch.nan)

    inner, threat = 0.2 + 0.6 * images, Linf(0.01)
    inner[:, 0, 0, 8] = torch.tensor([0.3, 0.7] * 3)  # NaN for every second image
    found = attack(name, broken, inner, None, threat)
    assert found.undefined.tolist() == [False, True] * 3
    assert not found.success[found.undefined].any()
    assert threat.contains(inner, found.images).all()
    all_nan = attack(name, lambda x: network(x) * torch.nan, inner, torch.zeros(6, dtype=torch.int64), threat)
    assert all_nan.undefined.all()
    assert not (all_nan.success | all_nan.fooled_before).any()


BALLS = [Linf(1 / 255), Linf(0.03, (-2.1, 2.64)), Linf(2 / 255, quantize=True), L2(0.5)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("name", "threat"), [(name, ball) for name in ATTACKS for ball in BALLS[: 3 if name == "square" else 4]]
)
def test_images_of_16_bits_stay_in_the_ball_in_any_arithmetic(name, dtype, threat, images, network):
    images = (images if threat.bounds == (0.0, 1.0) else 4 * images - 2).to(dtype)
    found = attack(name, network.to(dtype), images, None, threat)
    assert found.images.dtype == dtype
    assert (found.images != images).any()
    for change in (found.images - images, found.images.double() - images.double()):
        assert (threat.norm(change).double() <= threat.epsilon).all()
    assert threat.contains(images, found.images).all()
    assert torch.equal(found.predictions, labels_of(network, found.images))
    if threat.quantize:
        assert torch.equal(found.images, ((255 * found.images.double()).round() / 255).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("epsilon", [4e-8, EPSILON])
@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in ATTACKS for kind in (Linf, L2)[: 1 if name == "square" else 2]]
)
def test_images_of_32_and_64_bits_stay_in_the_ball_in_any_arithmetic(name, kind, epsilon, dtype, images, network):
    for bounds, clean in (
        ((0.0, 1.0), images.to(dtype)),
        ((0.0, 255.0), 255 * images.to(dtype)),
        (None, -images.double()),
    ):
        clean, threat = clean.to(dtype), kind(epsilon, bounds)
        result = attack(name, network.to(dtype), clean, None, threat)
        for norms in (threat.norm(result.images - clean), threat.norm(result.images.double() - clean.double())):
            assert norms.max().item() <= epsilon
        assert result.norms.max().item() <= epsilon
        assert threat.contains(clean, result.images).all()


def test_an_l2_norm_of_many_equal_values_stays_in_the_ball_in_spite_of_its_rounding():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2))
    model[1].weight.data = torch.ones(2, 3 * 224 * 224) * torch.tensor([[1.0], [-1.0]])
    clean = torch.full((2, 3, 224, 224), 0.5)
    result = FGSM(loss_fn=margin)(model, clean, threat=L2(30.0))
    assert 29.99 < result.norms.min() <= result.norms.max() <= 30
    assert (result.images.double() - clean.double()).flatten(1).norm(dim=1).max() <= 30


@EACH
@pytest.mark.parametrize("threat", [Linf(0.0), Linf(0.0, quantize=True), Linf(1e-6)], ids=str)
def test_an_image_outside_the_bounds_within_the_tolerance_stays_in_its_ball(name, threat, images, network):
    clean = images + 8e-6 * (images == 1) - 8e-6 * (images == 0)
    result = attack(name, network, clean, None, threat)
    assert result.norms.max().item() <= threat.epsilon
    assert ((result.images.double() - clean.double()).abs() <= threat.epsilon).all()


@pytest.mark.parametrize(
    "convert", [torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.int, lambda v: v.numpy()[::-1]]
)
def test_labels_and_targets_are_lists_arrays_or_tensors_of_integers(convert, images, network):
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    expected = PGD(steps=1)(network, images, labels, threat=Linf(EPSILON), targets=labels)
    found = PGD(steps=1)(network, images, convert(labels), threat=Linf(EPSILON), targets=convert(labels))
    assert torch.equal(found.images, expected.images)


def test_a_model_made_in_inference_mode_is_attacked(images):
    with torch.inference_mode():
        inner, model = images.clone(), Bent()
    parameters = list(model.parameters())
    for given in (images, inner):
        found = PGD(steps=2)(model, given, threat=Linf(EPSILON))
        assert torch.equal(found.images, PGD(steps=2)(Bent(), images, threat=Linf(EPSILON)).images)
    assert all(mine is theirs for mine, theirs in zip(model.parameters(), parameters, strict=True))


def step_sizes(values: list[float], steps: int = 10) -> list[float]:
    """The step sizes of the rule after each move, when it gets these objectives."""
    rule, sizes = AdaptiveStep(Linf(0.1), steps), []
    image = points = torch.full((1, 1, 1, 1), 0.5)
    for step, value in enumerate(values):
        points = rule.next_points(image, points, torch.tensor([float(value)]), torch.ones(1, 1, 1, 1), step)
        sizes.append(rule.state.step_size.item())
    return sizes


def test_the_step_is_halved_where_fewer_than_three_quarters_of_the_steps_rose():
    """Ten steps have checkpoints 3, 5, 6, 7, …: two rises of three are too few, three are enough.

    For want of a better point it is halved (condition 2) only if neither it nor the best value has changed.
    """
    assert checkpoints(10)[:3] == [3, 5, 6]
    assert step_sizes([0.0, 1, 2, 3]) == pytest.approx([0.2, 0.2, 0.2, 0.2])
    assert step_sizes([0.0, 1, 2, 1.5]) == pytest.approx([0.2, 0.2, 0.2, 0.1])
    # at 3 all steps rose and the best value is the first: stuck; at 5 from 5.0 (the best) down: condition 1
    assert step_sizes([5.0, 1.0, 2.0, 3.0, 3.5, 4.0])[3] == pytest.approx(0.1)
    assert step_sizes([5.0, 1.0, 2.0, 3.0, 5.5, 6.0])[5] == pytest.approx(0.1)  # two rises of two, and a new size


def test_after_halving_it_goes_back_to_the_best_point_with_its_gradient():
    rule, image = AdaptiveStep(Linf(0.1), 10), torch.full((1, 1, 1, 1), 0.5)
    moves = [(0.5, 0.0, 1.0), (0.58, 2.0, -1.0), (0.42, 1.0, 1.0), (0.45, 0.5, 1.0)]
    for step, (place, value, grad) in enumerate(moves):
        points, grads = torch.full_like(image, place), torch.full_like(image, grad)
        moved = rule.next_points(image, points, torch.tensor([value]), grads, step)
    # back at 0.58, gradient -1, size 0.1: ahead 0.48; with 0.25 of the way from the point before, 0.42, to 0.58
    assert moved.item() == pytest.approx(0.58 + 0.75 * (0.48 - 0.58) + 0.25 * (0.58 - 0.42))
    assert rule.state.value.item() == 2.0


@EACH
def test_no_room_is_the_identity(name, images, network):
    found = attack(name, network, images, None, Linf(0.0))
    torch.testing.assert_close(found.images, images, atol=1e-7, rtol=0)
    assert not found.norms.any()


def test_without_steps_or_images_nothing_changes(images, network):
    for method in (PGD(steps=0), PGD(steps=3, step_size=0.0)):
        assert torch.equal(method(network, images, threat=Linf(EPSILON)).images, images)
    empty = PGD()(network, images[:0], threat=Linf(0.1))
    assert empty.images.shape == (0, 3, SIDE, SIDE)
    assert empty.success.shape == empty.norms.shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("power", [-1, -0.9, -0.6, -0.5, -0.4, 0.4, 0.5, 0.6, 0.95])
def test_an_l2_step_has_its_size_along_gradients_of_any_scale(dtype, power, images):
    limits, ball = torch.finfo(dtype), L2(1.0, None)
    scale = limits.max**power if power > 0 else limits.tiny**-power
    ordinary = images.to(dtype) - 0.5
    grads = torch.stack([ordinary[0] * scale, ordinary[1], 0 * ordinary[2]])
    step = ball.steepest(grads, grads.new_full((3,), 2.0))
    expected = [2 * row / row.norm() for row in ordinary[:2]]
    torch.testing.assert_close(step, torch.stack([*expected, 0 * ordinary[2]]), rtol=1e-5, atol=1e-7)
    assert torch.equal(step[1], ordinary[1] * (2.0 / ordinary[1].flatten()[None].norm(dim=1)))
    assert ball.norm(grads)[0].item() == pytest.approx(scale * ordinary[0].norm().item(), rel=1e-5)
    torch.testing.assert_close(ball.norm(ball.clip(grads)), torch.tensor([1.0 if power > 0 else scale, 1, 0]).to(dtype))
    with_momentum = FixedStep(ball, 2.0, momentum=1.0).next_points(images, 0 * grads, None, grads, 0)
    torch.testing.assert_close(with_momentum, step, rtol=1e-5, atol=1e-7)


LAST = PGD(steps=3, keep_best=False)


@pytest.mark.parametrize("method", [FGSM(), LAST, replace(LAST, momentum=1.0), APGD(steps=3)])
@pytest.mark.parametrize(("scale", "confidence"), [(1e-25, 0), (1e25, 0), (1.0, 60)])
def test_l2_attacks_move_whatever_the_scale_of_the_logits(method, scale, confidence, images):
    model, inner = Linear(), 0.2 + 0.6 * images
    labels = labels_of(model, inner)
    sure = confidence * nn.functional.one_hot(labels, CLASSES)
    result = replace(method, loss_fn=cross_entropy if scale < 1e9 else margin)(
        lambda given: scale * model(given) + sure, inner, labels, threat=L2(1.0)
    )
    assert (result.norms > 0.1).all()
    assert result.success.all() == (not confidence)


def test_targets_are_the_least_likely_random_or_given_classes(images, network):
    network.eval()
    least = network(images).argmin(dim=1)
    assert (least != labels_of(network, images)).all()
    found = PGD(steps=40)(network, images, threat=Linf(0.2), targets="least-likely")
    assert torch.equal(found.success, found.predictions == least)
    assert found.success.any()
    given = PGD(steps=40)(network, images, threat=Linf(0.2), targets=least)
    torch.testing.assert_close(given.images, found.images)
    assert PGD(steps=1)(network, images, threat=Linf(0.2), targets="random", seed=1).images.shape == images.shape


def test_restarts_find_no_less(images, network):
    labels, threat = labels_of(network, images), Linf(1 / 255)
    one, five = (PGD(steps=2, random_start=True, restarts=count) for count in (1, 5))
    found = [method(network, images, labels, threat=threat).success for method in (one, five)]
    assert (found[1] >= found[0]).all()


@EACH
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_callers_state_is_left_as_it_was(name, mode, raises, images, monkeypatch):
    model = create_model("residual-small", num_classes=CLASSES).train()
    model.network.fc.weight.requires_grad_(False)
    model.network.fc.bias.grad = torch.ones(CLASSES)
    model.network.features[0].eval()
    if raises:
        monkeypatch.setattr(model.network.fc, "forward", lambda features: 1 / 0)
    copy = images.clone()
    with mode():
        before = snapshot(model)
        with pytest.raises(ZeroDivisionError) if raises else nullcontext():
            result = attack(name, model, images, None, Linf(EPSILON))
            assert not result.images.requires_grad
        assert snapshot(model) == before
    assert torch.equal(images, copy)
    assert not images.requires_grad


def test_no_graph_grows(images, network):
    """200 steps keep no more tensors alive than two do."""
    labels = labels_of(network, images)
    calls, counts = [], {}

    def counted(given):
        calls.append(len(given))
        if len(calls) in (4, 190):
            gc.collect()
            counts[len(calls)] = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
        return network(given)

    PGD(steps=200, early_stop=False)(counted, images[:1], labels[:1], threat=Linf(1e-9))
    assert len(calls) > 200
    assert counts[190] <= counts[4]


def test_rules_have_no_rows_of_images_that_have_left(images, network):
    network.eval()
    labels = labels_of(network, images)
    sizes = []

    class Watched(FixedStep):
        def next_points(self, images, points, values, grads, step):
            sizes.append((len(images), len(points), len(values), len(grads)))
            return super().next_points(images, points, values, grads, step)

    rule = Watched(Linf(EPSILON), 0.01, 0.9)
    GradientAscent(threat=Linf(EPSILON), steps=20)(network, images, Goal(labels=labels), images, rule)
    assert all(len(set(row)) == 1 for row in sizes)
    assert sizes[-1][0] < sizes[0][0]
    adaptive = AdaptiveStep(Linf(0.1), 10)
    adaptive.next_points(images[:3], images[:3], torch.tensor([1.0, 2, 3]), torch.ones_like(images[:3]), 0)
    adaptive.select(torch.tensor([True, False, True]))
    assert adaptive.state.best_value.tolist() == [1.0, 3.0]
    assert all(len(value) == 2 for value in vars(adaptive.state).values())


T = Linf(0.1)
WHOLE = Linf(0.1, quantize=True)
BAD = [5, (None, 1), "01", (1, 0), (0, 1e39), (0, 10**31), [[0, 1]], torch.tensor(1.0), (0, 1j)]
WRONG = [
    (lambda m, x: PGD()(m, 2 * x - 1, threat=T), "images have values in [-1, 1]; expected [0, 1]: attack the"),
    (lambda m, x: PGD()(m, x[0], threat=T), "images must be a tensor N×C×H×W, got (3, 16, 16)"),
    (lambda m, x: Linf(-1), "epsilon is -1; expected a number of at least 0, in pixel units"),
    (lambda m, x: PGD(steps=-1)(m, x, threat=T), "steps is -1; expected an integer of at least 0"),
    (lambda m, x: PGD(step_size=-1)(m, x, threat=T), "step_size is -1; expected at least 0"),
    (lambda m, x: PGD(restarts=2, keep_best=False)(m, x, threat=T), "restarts is 2; several restarts need keep_best"),
    (lambda m, x: PGD()(m, x, threat=T, targets="worst"), "targets is 'worst'; expected class indices, least-"),
    (lambda m, x: PGD()(m, x, torch.tensor([9] * 6), threat=T), "labels are in [9, 9]; expected classes of the"),
    *(
        (
            lambda m, x, labels=labels: PGD()(m, x, labels, threat=T),
            f"labels must be 6 class indices of type int64, one {rest}",
        )
        for labels, rest in (
            ([0] * 5, "per image, got (5,) of torch.int64; use torch.tensor"),
            ([0.5] * 6, "per image, got (6,) of torch.float64"),
            ([True] * 6, "per image, got (6,) of torch.bool"),
            (["cat"] * 6, "per image, got list"),
            ([[0], [0, 1]], "per image, got list"),
            ([2**70] * 6, "per image, got list"),
            (3, "per image, got () of torch.int64"),
            (torch.zeros(6, 1, dtype=torch.int64), "per image, got (6, 1) of torch.int64"),
        )
    ),
    (lambda m, x: PGD()(m, x, [-1] * 6, threat=T), "labels are in [-1, -1]; expected classes of the model, 0 to 4"),
    (
        lambda m, x: PGD()(m, torch.cat([x[:2], x[2:4] * torch.nan, x[4:]]), threat=T),
        "images have NaN or infinite values at index 2, 3 (2 of 6)",
    ),
    (lambda m, x: PGD()(m, x[:1] + torch.inf, threat=Linf(0.1, None)), "images have NaN or infinite values at index 0"),
    (lambda m, x: Linf(float("nan")), "epsilon is nan; expected a number"),
    *(
        (
            lambda m, x, one=one, targets=targets: one(Linear(1), x, threat=T, targets=targets),
            "the model has 1 class; an attack",
        )
        for one, targets in ((FGSM(), "random"), (PGD(), None), (PGD(), [0] * 6), (APGD(), None), (Square(), None))
    ),
    (lambda m, x: Square()(m, x, torch.tensor([9] * 6), threat=T), "labels are in [9, 9]; expected"),
    (lambda m, x: APGD()(m, x, threat=T, seed=-1), "seed is -1; expected an integer of at least 0"),
    (lambda m, x: PGD()(m, x / 1.01, threat=WHOLE), "images are not on 8-bit levels, which quantize=True"),
    (lambda m, x: PGD()(m, x, threat=replace(WHOLE, bounds=None)), "bounds are None; quantize=True needs images in"),
    (lambda m, x: Square()(m, x, threat=L2(1.0)), "threat is L2(epsilon=1.0, bounds=(0.0, 1.0), quantize=False); Squ"),
    (lambda m, x: PGD()(lambda x: torch.ones(6, 3), x, threat=T), "the model's logits do not depend on"),
    *(
        (lambda m, x, make=make: make(), message)
        for make, message in (
            (lambda: Linf(10**400), "epsilon is 1000"),
            (
                lambda: Linf(1e39),
                "epsilon is 1e+39; expected a number of at least 0, in pixel units, as 8/255, at most",
            ),
            (lambda: L2(1e37, (0, 255)), "epsilon is 1e+37; expected"),
            (
                lambda: PGD(step_size=1e39),
                "step_size is 1e+39; expected at least 0, in the images' units, such as 2/255",
            ),
            (lambda: PGD(step_size="a"), "step_size is 'a'; expected"),
            (lambda: PGD(momentum="a"), "momentum is 'a'; expected a number in [0, 1]"),
            (lambda: Linf(0.1, (torch.zeros(3), torch.ones(3))), "bounds are (tensor([0., 0., 0.]), tensor([1., 1., 1"),
            (lambda: Linf(0.1, np.zeros((3, 2))), "bounds are array([[0., 0.],        [0., 0.]"),
            *(
                (lambda bad=bad: Linf(0.1, bad), f"bounds are {bad!r}; expected the lowest and the largest")
                for bad in BAD
            ),
            (lambda: Linf(0.1, (-1, 1), quantize=True), "bounds are (-1.0, 1.0); quantize=True needs"),
            (lambda: Linf(0.1, dtype=torch.int8), "dtype is torch.int8; expected torch.float16"),
            (lambda: PGD(loss_fn=None), "loss_fn is None; expected cross_entropy, margin, dlr or a function"),
            (lambda: FGSM(loss_fn="margin"), "loss_fn is 'margin'; expected"),
            (lambda: APGD(loss_fn=1), "loss_fn is 1; expected"),
            (lambda: APGD(steps=np.float64(3)), "steps is np.float64(3.0); expected an integer of at least 1"),
        )
    ),
    *(
        (lambda m, x, one=one, loss_fn=loss_fn: one(loss_fn=loss_fn)(m, x, threat=T), f"loss_fn {message}")
        for one in (FGSM, PGD, APGD)
        for loss_fn, message in (
            (lambda z, g: None, "must return 6 values of a floating type, one per image, or one value, got NoneType"),
            (lambda z, g: 1.0, "must return 6 values of a floating type, one per image, or one value, got float"),
            (lambda z, g: z, "must return 6 values of a floating type, one per image, or one value, got (6, 5) of"),
            (
                lambda z, g: z[1:, 0],
                "must return 6 values of a floating type, one per image, or one value, got (5,) of",
            ),
            (lambda z, g: z[:, 0].to_sparse(), "must return 6 values"),
            (lambda z, g: z[:, 0] * torch.nan, "returned NaN for finite logits"),
            (lambda z, g: z.sum() * torch.nan, "returned NaN for finite logits"),
        )
    ),
    *(
        (lambda m, x, change=change: PGD()(m, change(x), threat=T), f"images {message}")
        for change, message in (
            (torch.Tensor.to_sparse, "must be a dense tensor, got layout torch.sparse_coo"),
            (lambda x: x.to("meta"), "must be a dense tensor, got a tensor without data (device meta)"),
            (lambda x: x.to(torch.float8_e4m3fn), "must be of a floating type, got torch.float8_e4m3fn"),
            (
                lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged),
                "must be a tensor N×C×H×W, got NestedTensor",
            ),
            (lambda x: x[:, :0], "have shape (6, 0, 16, 16); expected at least one channel, row and column"),
            (lambda x: x[:, :, :0], "have shape (6, 3, 0, 16); expected"),
            (lambda x: x[..., :0], "have shape (6, 3, 16, 0); expected"),
        )
    ),
    *(
        (lambda m, x, change=change: PGD()(lambda given: change(m(given)), x, threat=T), message)
        for change, message in (
            (torch.Tensor.to_sparse, "logits must be a dense tensor"),
            (lambda z: z.to("meta"), "logits must be a dense tensor"),
            (
                lambda z: z.to(torch.float8_e4m3fn),
                "model must return logits of a floating type, got torch.float8_e4m3fn; expected 16",
            ),
        )
    ),
    *(
        (lambda m, x, labels=labels: PGD()(m, x, labels, threat=T), f"labels {message}")
        for labels, message in (
            (torch.ones(6, dtype=torch.int64).to_sparse(), "must be a dense tensor"),
            (torch.ones(6, dtype=torch.int64, device="meta"), "must be a dense tensor"),
            (np.full(6, 2**63 + 5, np.uint64), "have the value 9223372036854775813; expected class indices"),
            (np.ma.masked_array([0] * 6, [1] + [0] * 5), "have masked values; leave these images out"),
        )
    ),
    (lambda m, x: APGD(loss_fn=dlr)(Linear(2), x, threat=T), "the model has 2 classes; the DLR loss needs 3"),
]


@pytest.mark.parametrize(
    "bounds",
    [[0, 1], np.array([0, 1]), torch.tensor([0.0, 1.0], requires_grad=True), (np.float32(0), torch.tensor(1.0))],
)
def test_bounds_are_any_two_numbers(bounds):
    assert Linf(0.1, bounds, quantize=True) == Linf(0.1, (0.0, 1.0), quantize=True)


def test_counts_and_seeds_may_be_numpys(images, network):
    three = np.int64(3)
    found, expected = (
        PGD(steps=count, random_start=True)(network, images, threat=T, targets="random", seed=count, batch_size=count)
        for count in (three, 3)
    )
    assert torch.equal(found.images, expected.images)
    assert PGD(steps=1)(network, images, threat=T, targets="random", seed=2**70).images.shape == images.shape
    assert torch.equal(
        PGD()(network, images, np.ma.masked_array([0] * 6, False), threat=T).images,
        PGD()(network, images, [0] * 6, threat=T).images,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(
    "threat", [L2(1e30, (0, 255)), L2(1e30), Linf(1e30, (0, 255)), Linf(1e30, quantize=True), Linf(0.1)], ids=str
)
def test_the_largest_radius_and_step_give_finite_images(threat, dtype, images, network):
    for method in (FGSM(), APGD(steps=3), PGD(step_size=1e30, random_start=True, keep_best=False, momentum=1.0)):
        result = method(network.to(dtype), images.to(dtype), threat=threat)
        assert threat.bounds[0] <= result.images.min() <= result.images.max() <= threat.bounds[1]
        assert (result.images != images.to(dtype)).any()


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_errors_name_argument_and_fix(call, message, images, network):
    with pytest.raises(LabError) as caught:
        call(network, images)
    assert str(caught.value).startswith(message)
