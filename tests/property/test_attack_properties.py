"""What holds for every ball, image and gradient: size, range, and that what is inside stays where it is."""

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scenelab.attacks.threat import L2, Linf

BALLS = st.sampled_from([Linf, L2])
EPSILONS = st.floats(0, 2)
SEEDS = st.integers(0, 2**31 - 1)
untimed = settings(deadline=None)  # the first call loads parts of PyTorch


def drawn(seed: int, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (3, 3, 5, 4), generator=generator) / 255
    return images, scale * torch.randn(images.shape, generator=generator)


@untimed
@given(BALLS, EPSILONS, SEEDS, st.floats(0, 10))
@example(L2, 0.0, 0, 1.4e-45)
@example(L2, 0.0, 1, 1.4e-45)
def test_what_is_projected_is_inside_and_stays(kind, epsilon, seed, scale):
    threat = kind(epsilon)
    images, change = drawn(seed, scale)
    inside = threat.project(images, images + change)
    assert threat.contains(images, inside).all()
    torch.testing.assert_close(threat.project(images, inside), inside, atol=1e-6, rtol=0)
    small = 0.5 * threat.clip(change)
    torch.testing.assert_close(threat.clip(small), small, atol=1e-6, rtol=1e-6)
    sample = threat.sample(images[0], torch.Generator().manual_seed(seed))
    assert threat.norm(sample[None]).item() <= epsilon * (1 + 1e-5)


@untimed
@given(
    BALLS, st.floats(1e-4, 2), SEEDS, st.floats(0, 3), st.sampled_from([torch.float16, torch.bfloat16]), st.booleans()
)
def test_16_bit_points_are_inside_in_exact_arithmetic_and_their_own(kind, epsilon, seed, scale, dtype, quantize):
    threat = kind(epsilon, quantize=quantize)
    images, change = (values.to(dtype) for values in drawn(seed, scale))
    inside = threat.quantized(images, threat.project(images, images + change))
    assert inside.dtype == dtype
    assert 0 <= inside.min() <= inside.max() <= 1
    for difference in (inside.double() - images.double(), (inside - images)):
        assert (threat.norm(difference).double() <= epsilon).all()
    if quantize:
        assert torch.equal(inside, ((255 * inside.double()).round() / 255).to(dtype))


@untimed
@given(BALLS, EPSILONS, SEEDS)
def test_the_steepest_step_is_the_steepest(kind, epsilon, seed):
    """Of all changes of that size none rises more along the grads: Hölder's inequality."""
    ball, (_, grads) = kind(epsilon), drawn(seed)
    step = ball.steepest(grads, torch.full((3,), epsilon))
    assert (ball.norm(step) <= epsilon * (1 + 1e-5) + 1e-7).all()
    rise = (grads * step).flatten(1).sum(dim=1)
    dual = grads.flatten(1).abs().sum(dim=1) if kind is Linf else grads.flatten(1).norm(dim=1)
    torch.testing.assert_close(rise, epsilon * dual, rtol=1e-4, atol=1e-5)


@untimed
@given(BALLS, EPSILONS, SEEDS, st.floats(0, 3))
def test_whole_levels_lie_inside(kind, epsilon, seed, scale):
    threat = kind(epsilon, quantize=True)
    images, change = drawn(seed, scale)
    shown = threat.quantized(images, threat.project(images, images + change))
    assert threat.contains(images, shown).all()
    torch.testing.assert_close(255 * shown, (255 * shown).round(), atol=1e-4, rtol=0)
    torch.testing.assert_close(threat.quantized(images, shown), shown)
