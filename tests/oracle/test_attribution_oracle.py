"""Attributions against captum's, in float64, on networks with in-place ReLU, normalization and max pooling."""

import pytest
import torch
from captum import attr
from torch import nn

from scenelab.attribution import GradCAM, Gradient, GradientTimesInput, IntegratedGradients, Occlusion, Saliency
from scenelab.models.registry import create_model

NAMES = ("simplenet-small", "residual-small", "inception")
BY_NAME = pytest.mark.parametrize("name", NAMES)


def network(name: str) -> nn.Module:
    torch.manual_seed(1)
    model = create_model(name, num_classes=7).double().eval()
    for module in model.modules():  # statistics and scales as after training, none of them 0 or 1
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


TARGETS = torch.tensor([0, 3, 6])


@BY_NAME
def test_gradients(name, images):
    model = network(name)
    expected = attr.Saliency(model).attribute(images.clone().requires_grad_(), target=TARGETS, abs=False)
    found = Gradient()(model, images, TARGETS, batch_size=2)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(Saliency()(model, images, TARGETS), expected.abs().amax(dim=1, keepdim=True))
    multiplied = attr.InputXGradient(model).attribute(images.clone().requires_grad_(), target=TARGETS)
    torch.testing.assert_close(GradientTimesInput()(model, images, TARGETS), multiplied.detach())


@BY_NAME
def test_integrated_gradients(name, images):
    model = network(name)
    baseline = torch.full_like(images, 0.25)
    expected, gap = attr.IntegratedGradients(model).attribute(
        images.clone(), baselines=baseline, target=TARGETS, n_steps=20, return_convergence_delta=True
    )
    for method in (IntegratedGradients(baseline=0.25, steps=20), IntegratedGradients(baseline=baseline, steps=20)):
        found = method(model, images, TARGETS, batch_size=7)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(method.completeness_gap(model, images, found, TARGETS), gap)


@BY_NAME
def test_grad_cam(name, images):
    model = network(name)
    layer = model.network.features[-2]
    expected = attr.LayerGradCam(model, layer).attribute(images.clone(), target=TARGETS, relu_attributions=True)
    found = GradCAM(layer, resize=False)(model, images, TARGETS, batch_size=2)
    torch.testing.assert_close(found, expected.detach())


@BY_NAME
@pytest.mark.parametrize(("window", "stride"), [(8, 8), (12, 5), (32, 32)])
def test_occlusion(name, images, window, stride):
    model, shape, strides = network(name), (3, window, window), (3, stride, stride)
    options = {"sliding_window_shapes": shape, "strides": strides, "baselines": 0.5}
    expected = attr.Occlusion(model).attribute(images.clone(), target=TARGETS, **options)
    found = Occlusion(window=window, stride=stride)(model, images, TARGETS, batch_size=5)
    assert expected.dtype == torch.float32  # captum's sums are, whatever the model computes in
    torch.testing.assert_close(found.expand_as(expected).float(), expected, rtol=1e-4, atol=1e-6)
