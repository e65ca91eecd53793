"""Attributions by hand, by their axioms, on a planted model; and the caller's state as it was."""

from contextlib import nullcontext
from itertools import product

import pytest
import torch
from torch import nn

from model_state import snapshot
from scenelab.attribution import (
    GradCAM,
    Gradient,
    GradientTimesInput,
    IntegratedGradients,
    Occlusion,
    Saliency,
    SmoothGrad,
    VarGrad,
    target_loss,
)
from scenelab.attribution.highlight import highlight_grid
from scenelab.attribution.occlusion import window_starts
from scenelab.errors import LabError
from scenelab.models.registry import create_model

SIDE, PATCH = 16, slice(8, 12)


class Planted(nn.Module):
    """Looks at one patch alone: class 0 likes it bright, class 1 dark; the middle layer has places."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 1)
        self.relu = nn.ReLU(inplace=True)
        with torch.no_grad():
            self.maps.weight.copy_(torch.tensor([[1.0, 1, 1], [-1, -1, -1]]).view(2, 3, 1, 1) / 3)
            self.maps.bias.copy_(torch.tensor([0.0, 1.0]))

    def forward(self, images):
        return self.relu(self.maps(images))[:, :, PATCH, PATCH].square().mean(dim=(2, 3))


METHODS = {
    "gradient": lambda model, images: Gradient()(model, images).abs().sum(dim=1, keepdim=True),
    "saliency": Saliency(),
    "gradient_times_input": lambda model, images: GradientTimesInput()(model, images).abs().sum(dim=1, keepdim=True),
    "smooth": lambda model, images: SmoothGrad(samples=4)(model, images).abs().sum(dim=1, keepdim=True),
    "variance": lambda model, images: VarGrad(samples=4)(model, images).sum(1, True),
    "integrated": lambda model, images: IntegratedGradients(steps=4)(model, images).abs().sum(1, True),
    "occlusion": lambda model, images: Occlusion(window=2, stride=2)(model, images).abs(),
}
EACH = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@EACH
def test_a_planted_patch_is_found_out(method, images):
    values = method(Planted(), images)
    assert values.shape == (3, 1, SIDE, SIDE)
    inside = values[:, :, PATCH, PATCH]
    assert inside.sum() > 0
    assert values.sum().item() == pytest.approx(inside.sum().item(), rel=1e-4)


@pytest.mark.parametrize("attribution", [Gradient(), SmoothGrad(samples=2), IntegratedGradients(steps=2), Occlusion()])
def test_a_model_made_in_inference_mode_is_explained(attribution, images):
    with torch.inference_mode():
        inner, model = images.clone(), Planted()
    parameters = list(model.parameters())
    expected = attribution(Planted(), images, [0, 1, 0])
    for given in (images, inner):
        assert torch.equal(attribution(model, given, [0, 1, 0]), expected)
    assert torch.equal(
        GradCAM(model.maps)(model, inner, [0, 1, 0]), GradCAM((twin := Planted()).maps)(twin, images, [0, 1, 0])
    )
    assert all(mine is theirs for mine, theirs in zip(model.parameters(), parameters, strict=True))
    if not isinstance(attribution, Occlusion):
        with pytest.raises(LabError, match="the model has tensors made in inference mode.*pass the nn.Module itself"):
            attribution(lambda given: model(given), images, [0, 1, 0])


def test_grad_cam_of_the_planted_model(images):
    """Its map is relu(Σ αA), and A is everywhere: Grad-CAM lights up outside the patch too, where nothing counts."""
    model = Planted()
    found = GradCAM(model.maps)(model, images, torch.zeros(3, dtype=torch.int64))
    brightness = images.mean(dim=1, keepdim=True)
    slope = 2 * brightness[:, :, PATCH, PATCH].mean(dim=(2, 3), keepdim=True) / SIDE**2
    torch.testing.assert_close(found, slope * brightness)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3 * SIDE * SIDE, generator=torch.Generator().manual_seed(3)))

    def forward(self, images):
        return images.flatten(1) @ self.weight.t()


def test_of_a_linear_model_the_gradient_is_the_weight(images):
    model, targets = Linear(), torch.tensor([2, 0, 1])
    weights = model.weight.detach()[targets].view_as(images)
    torch.testing.assert_close(Gradient()(model, images, targets), weights)
    for method in (SmoothGrad(samples=3), SmoothGrad(samples=1, sigma=0.0)):
        torch.testing.assert_close(method(model, images, targets), weights)
    variance = VarGrad(samples=3)(model, images, targets)
    torch.testing.assert_close(variance, torch.zeros_like(images))
    torch.testing.assert_close(IntegratedGradients(steps=1)(model, images, targets), weights * images)
    first_guesses = model(images).argmax(dim=1)
    torch.testing.assert_close(Gradient()(model, images), Gradient()(model, images, first_guesses))


def test_the_losss_gradient_is_that_of_cross_entropy(images):
    """∂(-log p)/∂x = Σ (p - 1 at the target)·w."""
    model, targets = Linear(), torch.tensor([2, 0, 1])
    shares = model(images).detach().softmax(dim=1) - nn.functional.one_hot(targets, 4)
    expected = (shares @ model.weight.detach()).view_as(images)
    torch.testing.assert_close(Gradient(score_fn=target_loss)(model, images, targets), expected, rtol=1e-4, atol=1e-5)


def test_integrated_gradients_are_complete():
    torch.manual_seed(0)
    model = create_model("simplenet-small", num_classes=5).double()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    targets = torch.tensor([1, 4])
    fine, rough = IntegratedGradients(steps=300), IntegratedGradients(steps=2)
    values, coarse = fine(model, images, targets), rough(model, images, targets)
    gap = fine.completeness_gap(model, images, values, targets)
    rise = (model(images) - model(torch.zeros_like(images))).gather(1, targets[:, None])[:, 0].detach()
    torch.testing.assert_close(values.sum(dim=(1, 2, 3)) - gap, rise)
    assert (gap.abs() < 0.02 * rise.abs()).all()
    assert rough.completeness_gap(model, images, coarse, targets).abs().sum() > gap.abs().sum()


def test_variance_by_hand(images):
    """Of the score x² the gradient is 2x: at x + σz its variance over the samples is 4σ²·var(z)."""

    def model(images):
        return images.square().sum(dim=(1, 2, 3))[:, None]

    values = VarGrad(samples=70, sigma=0.1)(model, images.double(), batch_size=32)
    mean = SmoothGrad(samples=70, sigma=0.1)(model, images.double(), batch_size=32)
    generator = torch.Generator().manual_seed(0)  # the same for all images
    noise = torch.stack([torch.randn(images[1].shape, generator=generator, dtype=torch.float64) for _ in range(70)])
    torch.testing.assert_close(values[1], 4 * 0.01 * noise.var(dim=0, correction=0))
    torch.testing.assert_close(mean[1], 2 * (images[1].double() + 0.1 * noise.mean(dim=0)))


def test_windows_cover_every_pixel():
    assert window_starts(16, 4, 4) == window_starts(16, 5, 4) == [0, 4, 8, 12]
    assert window_starts(10, 16, 8) == [0]
    for side, window, stride in product(range(1, 40), range(1, 12), range(1, 12)):
        if stride <= window:
            starts = window_starts(side, window, stride)
            assert set().union(*(range(start, start + window) for start in starts)) >= set(range(side))
            assert len(starts) == 1 or starts[-2] + window < side


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_any_batch_size_gives_the_same_maps_and_reports_every_image(images, batch_size):
    model, images = create_model("simplenet-small", num_classes=4).double(), images.double()
    methods = [Gradient(), Saliency(), GradientTimesInput(), SmoothGrad(samples=5), VarGrad(samples=5)]
    methods += [IntegratedGradients(steps=2), Occlusion(window=8, stride=8), GradCAM(model.network.features[-1])]
    for method in methods:
        done = []
        values = method(model, images, batch_size=batch_size, on_progress=done.append)
        torch.testing.assert_close(values, method(model, images))
        assert sum(done) == len(images), method
        assert max(done) <= batch_size


def test_the_callers_images_are_left_as_they_were(images):
    """Also by a network that works in place from its first layer on."""
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 4))
    images = images - 0.5
    before = images.clone()
    for method in (Saliency(), SmoothGrad(), IntegratedGradients(), Occlusion()):
        method(model, images)
        assert torch.equal(images, before), method
        assert not images.requires_grad


ALL = {**METHODS, "cam": lambda model, images: GradCAM(model.network.features[-1])(model, images)}


@pytest.mark.parametrize("method", ALL.values(), ids=ALL.keys())
@pytest.mark.parametrize(("training", "raises"), [(True, False), (False, False), (True, True)])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_callers_state_is_left_as_it_was(method, training, raises, mode, monkeypatch):
    model = create_model("residual-small", num_classes=4).train(training)
    model.network.features[0].eval()  # modes differ within the model
    if raises:
        monkeypatch.setattr(model.network.fc, "forward", lambda features: 1 / 0)
    images = torch.rand(2, 3, 32, 32)
    original = images.clone()
    with mode():
        before = snapshot(model)
        with pytest.raises(ZeroDivisionError) if raises else nullcontext():
            assert not method(model, images).requires_grad
        assert snapshot(model) == before
    assert torch.equal(images, original)
    assert not images.requires_grad
    assert images.grad is None


def test_rows_and_columns_of_oblong_images_are_not_swapped():
    def model(given):
        return torch.stack([given[:, :, 2:4, 12:16].mean(dim=(1, 2, 3)), given.new_zeros(len(given))], dim=1)

    images, targets = 0.6 + 0.4 * torch.rand(2, 3, 8, 24), torch.zeros(2, dtype=torch.int64)
    for values in (Saliency()(model, images, targets), Occlusion(window=2, stride=2)(model, images, targets).abs()):
        assert values.shape == (2, 1, 8, 24)
        assert values[:, :, 2:4, 12:16].sum().item() == pytest.approx(values.sum().item(), rel=1e-4)
    network = create_model("residual-small", num_classes=4)
    assert GradCAM(network.network.features[-1])(network, torch.rand(2, 3, 32, 64)).shape == (2, 1, 32, 64)


def test_grad_cam_takes_any_callable_that_calls_the_layer(images):
    model = create_model("simplenet-small", num_classes=4).train()
    before = snapshot(model)
    with pytest.raises(LabError, match="layer must output"):
        GradCAM(model.network.fc)(model, images, torch.zeros(3, dtype=torch.int64))
    assert snapshot(model) == before  # no hook is left
    layer = model.eval().network.features[-1]
    torch.testing.assert_close(GradCAM(layer)(lambda given: model(given), images), GradCAM(layer)(model, images))
    with torch.inference_mode():
        targets, copy = model(images).argmax(dim=1), images.clone()
    torch.testing.assert_close(Gradient()(model, copy, targets), Gradient()(model, images))


def test_no_images_give_no_maps_without_a_call_of_the_model():
    def model(images):
        raise AssertionError("the model is called")

    none = torch.empty(0, 3, SIDE, SIDE)
    for method in (Gradient, GradientTimesInput, SmoothGrad, VarGrad, IntegratedGradients):
        assert method()(model, none).shape == none.shape
    for method in (Saliency, Occlusion, GradCAM):
        assert method()(model, none).shape == (0, 1, SIDE, SIDE)
    assert IntegratedGradients().completeness_gap(model, none, none).shape == (0,)


def test_occlusion_counts_more_windows_than_a_16_bit_number_holds():
    images = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0)).bfloat16()

    def model(images):
        return 100 * images.double().mean(dim=(2, 3))

    method = Occlusion(window=20, stride=1)  # 400 windows cover a pixel; bfloat16 counts to 256
    values = method(model, images, batch_size=900)
    assert values.dtype == torch.bfloat16
    torch.testing.assert_close(values, method(model, images.float(), batch_size=900).bfloat16())


BLACK = object()
WRONG = [
    (lambda m, x: Gradient()(m, x[0]), "images must be a tensor N×C×H×W, got (3, 16, 16); for one image use images["),
    (lambda m, x: Gradient()(m, x.byte()), "images must be of a floating type, got torch.uint8"),
    (lambda m, x: Gradient()(m, x, torch.tensor([1])), "targets must be 3 class indices of type int64"),
    (lambda m, x: Gradient()(m, x, [0.5] * 3), "targets must be 3 class indices of type int64, one per image, got"),
    (lambda m, x: Gradient()(m, x * torch.inf), "images have NaN or infinite values at index 0, 1, 2 (3 of 3)"),
    (lambda m, x: Gradient()(m, x, torch.tensor([0, 1, 9])), "targets are in [0, 9]; expected classes of the model,"),
    (lambda m, x: Gradient()(m, x, batch_size=0), "batch_size is 0; expected an integer of at least 1"),
    (lambda m, x: Gradient()(lambda x: x, x), "model must return logits N×K for 3 images, got (3, 3, 16, 16)"),
    (lambda m, x: Gradient()(lambda x: torch.ones(3, 2), x), "the model's logits do not depend on its images"),
    (lambda m, x: Gradient()(lambda x: m(0 * x.detach()), x), "the model's logits do not depend on its images"),
    (lambda m, x: Gradient()(m, x.to_sparse()), "images must be a dense tensor, got "),
    (lambda m, x: Gradient()(m, x.to_mkldnn()), "images must be a dense tensor, got "),
    (lambda m, x: Gradient()(m, x.to("meta")), "images must be a dense tensor, got "),
    (
        lambda m, x: Gradient()(m, torch.nested.nested_tensor([*x], layout=torch.jagged)),
        "images must be a tensor N×C×H×W, got ",
    ),
    (
        lambda m, x: Gradient()(m, x.to(torch.float8_e4m3fn)),
        "images must be of a floating type, got torch.float8_e4m3fn",
    ),
    *(
        (lambda m, x, score_fn=score_fn: SmoothGrad(score_fn=score_fn)(m, x), message)
        for score_fn, message in (
            (None, "score_fn is None; expected a function such as target_logit"),
            ("logit", "score_fn is 'logit'; expected a function such as target_logit"),
            (lambda logits, targets: None, "score_fn must return 32 real scores or their sum, as tensor, got NoneType"),
            (lambda logits, targets: 1.0, "score_fn must return 32 real scores or their sum, as tensor, got float"),
            (
                lambda logits, targets: logits,
                "score_fn must return 32 real scores or their sum, as tensor, got (32, 4)",
            ),
            (lambda logits, targets: logits[:1, 0], "score_fn must return 32 real scores or their sum, as tensor, got"),
            (lambda logits, targets: logits[:, 0] * 1j, "score_fn must return 32 real scores or their sum, as tensor"),
        )
    ),
    (lambda m, x: SmoothGrad(sigma=-1)(m, x), "sigma is -1; expected at least 0"),
    (lambda m, x: SmoothGrad(sigma="a")(m, x), "sigma is 'a'; expected at least 0"),
    (lambda m, x: SmoothGrad(seed=0.5)(m, x), "seed is 0.5; expected an integer of at least 0"),
    (lambda m, x: SmoothGrad(seed="a")(m, x), "seed is 'a'; expected an integer of at least 0"),
    (lambda m, x: SmoothGrad(seed=-1)(m, x), "seed is -1; expected an integer of at least 0"),
    (lambda m, x: SmoothGrad(seed=2**70)(m, x), "seed is 1180591620717411303424; expected an integer below 2**64"),
    (lambda m, x: Occlusion(fill="a")(m, x), "fill is 'a'; expected a pixel value"),
    (lambda m, x: Occlusion(fill=1e300)(m, x), "fill is 1e+300; expected a pixel value, of torch.float32"),
    *(
        (lambda m, x, value=value: IntegratedGradients(baseline=value)(m, x), f"baseline is {got}")
        for value, got in (
            (None, "None"),
            ("black", "'black'"),
            (1j, "1j"),
            (BLACK, "<object"),
            ([[1], [1, 2]], "[[1], [1, 2]]"),
        )
    ),
    (lambda m, x: IntegratedGradients(baseline=torch.tensor(1j))(m, x), "baseline is a tensor of torch.complex64"),
    (lambda m, x: SmoothGrad(samples=0)(m, x), "samples is 0; expected"),
    (lambda m, x: IntegratedGradients(baseline=torch.ones(2))(m, x), "baseline has shape (2,); expected one that"),
    (lambda m, x: Occlusion(window=4, stride=5)(m, x), "stride is 5; expected at most the window's 4 pixels"),
    (lambda m, x: Occlusion(stride=40)(m, x), "stride is 40; expected at most the window's 4 pixels"),
    (lambda m, x: GradCAM("features")(m, x), "layer must be a module of the model such as model.features[-1]"),
    (lambda m, x: GradCAM(m.network.fc)(m, x), "layer must output N×K×H×W maps, got (3, 4); choose one before"),
    (lambda m, x: GradCAM(nn.Conv2d(3, 3, 1))(m, x), "layer is called 0 times per forward pass"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_errors_name_argument_and_fix(call, message, images):
    with pytest.raises(LabError) as caught:
        call(create_model("simplenet-small", num_classes=4), images)
    assert str(caught.value).startswith(message)


def test_strong_pixels_are_red_on_any_background():
    images, maps = torch.ones(2, 3, 8, 8), torch.full((2, 1, 8, 8), 0.1)
    images[:, :, 0, 0], maps[1, 0, 3, 4] = 0.0, 5.0
    grid = highlight_grid(images, maps, alpha=2.0, columns=2)
    assert grid.shape == (3, 12, 22)  # two images with a border of 2 pixels
    assert grid[:, 2 + 3, 2 + 8 + 2 + 4].tolist() == pytest.approx([1.0, 0.3, 0.3])
    plain = highlight_grid(images, None, alpha=2.0, columns=2)
    assert plain[:, 5, 16].tolist() == [1, 1, 1]
    assert (grid != plain).any(dim=0).sum() == 1
    assert torch.equal(highlight_grid(images, torch.zeros_like(maps), alpha=2.0, columns=2), plain)
