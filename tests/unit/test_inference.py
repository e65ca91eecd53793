"""Rewritten networks for inference: the same function, and the same gradients with respect to images."""

import copy

import pytest
import torch
from torch import nn

from scenelab.models.inference import StridedConv2d, prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.models.registry import create_model

F64 = torch.float64


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (19, 23), (32, 21)])
@pytest.mark.parametrize(
    ("kernel", "padding"), [(7, 3), (7, 2), ((9, 8), (4, 3)), (11, 0), (8, (0, 1)), (3, 1), (4, 5)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_strided_convolution_has_the_values_and_gradients_of_pytorch(size, kernel, padding, bias):
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, kernel, stride=2, padding=padding, bias=bias, dtype=F64).requires_grad_(False)
    images = torch.rand(2, 3, *size, dtype=F64, requires_grad=True)
    outputs, expected = StridedConv2d(convolution)(images), convolution(images)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)
    grads = torch.rand_like(expected)
    (ours,), (theirs,) = (torch.autograd.grad(each, images, grads) for each in (outputs, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_a_strided_convolution_has_second_derivatives_and_those_of_its_weights():
    layer = StridedConv2d(nn.Conv2d(3, 4, 5, stride=2, padding=2, dtype=F64).requires_grad_(False))
    images = torch.rand(1, 3, 9, 8, dtype=F64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda images: layer(images).square(), images)
    layer.requires_grad_(True)
    layer(images).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("name", ["simplenet", "simplenet-small", "residual-small"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_prepared_network_has_the_same_logits_and_gradients(name, dtype):
    torch.manual_seed(0)
    model = create_model(name, num_classes=7)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    model.train()(torch.rand(8, 3, 48, 48))  # moves the running statistics
    model.eval().to(dtype)
    ready, images = prepare_for_inference(model), torch.rand(4, 3, 48, 48, dtype=dtype, requires_grad=True)
    ours, theirs = ready(images), model(images)
    (a,), (b,) = (torch.autograd.grad(logits.logsumexp(1).sum(), images) for logits in (ours, theirs))
    for value, expected in ((ours, theirs), (a, b)):  # in float32, rounding may choose another maximum
        assert (value - expected).norm() < {torch.float32: 1e-2, F64: 1e-12}[dtype] * expected.norm()
    assert [type(each) for each in copy.deepcopy(model).modules()] == [type(each) for each in model.modules()]


class Skipping(nn.Module):
    """A student's network that uses what lies between two layers of a sequence."""

    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.fc, self.skip = nn.Linear(16, 5), skip

    def forward(self, images):
        between = self.features[:3](images) if self.skip else self.features[:1](images) * 0
        return self.fc(torch.cat([self.features(images).mean((2, 3)), between.mean((2, 3))], dim=1))


@pytest.mark.parametrize("skip", [True, False])
def test_a_network_that_uses_values_between_layers_is_not_rewritten(skip):
    torch.manual_seed(0)
    model, images = Classifier(Skipping(skip)), torch.rand(4, 3, 12, 12)
    model.train()(10 * images)
    expected = model.eval()(images)
    for ready in (prepare_for_inference(model), prepare_for_inference(model, images)):
        torch.testing.assert_close(ready(images), expected, rtol=1e-4, atol=1e-4)
    assert (type(ready.network.features[1]) is nn.Identity) != skip  # rewritten where that changes nothing


def test_pooling_moves_before_relu_and_the_stem_is_replaced():
    layers = [
        type(each).__name__ for each in prepare_for_inference(create_model("simplenet", num_classes=7)).network.features
    ]
    assert layers[:3] == ["StridedConv2d", "MaxPool2d", "ReLU"]
    assert layers[-2:] == ["Conv2d", "ReLU"]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 8, 7, stride=1, padding=3),
        nn.Conv2d(3, 8, 7, stride=2, padding=3, dilation=2),
        nn.Conv2d(3, 9, 7, stride=2, groups=3),
        nn.Conv2d(3, 8, 7, stride=2, padding=3, padding_mode="reflect"),
        nn.Conv2d(16, 8, 7, stride=2),
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
    ],
    ids=["stride", "dilation", "groups", "padding", "channels", "kernel"],
)
def test_other_convolutions_stay(layer):
    [kept] = prepare_for_inference(Classifier(nn.Sequential(layer))).network.children()
    assert type(kept) is nn.Conv2d


def test_returned_indices_of_pooling_stay():
    pool = nn.MaxPool2d(2, return_indices=True)
    network = prepare_for_inference(Classifier(nn.Sequential(nn.ReLU(), pool))).network
    names = [type(each).__name__ for each in network.children()]
    assert names == ["ReLU", "MaxPool2d"]
