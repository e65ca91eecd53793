"""The networks: the handout's layers and parameter counts, any convolution, normalization, cost."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scenelab.errors import LabError
from scenelab.models.costs import COSTS, COSTS_SIDE, describe_costs
from scenelab.models.flops import count_flops, describe_models, measure_cost, model_size
from scenelab.models.inception import Branches
from scenelab.models.normalize import IMAGENET_MEAN, Classifier, Normalize
from scenelab.models.registry import NETWORKS, create_model, list_models
from scenelab.models.residual import ResidualBlock
from scenelab.models.simplenet import SimpleNet, SimpleNetSmall
from scenelab.models.vit import position_embedding

# (kernel, stride, padding, channels in, channels out); "pool" is max pooling 3/2 with padding 1.
POOL = "pool"
STEM = [(7, 2, 3, 3, 64), POOL]


def bottleneck(wide: int, narrow: int, out: int) -> list[tuple[int, ...]]:
    return [(1, 1, 0, wide, narrow), (3, 1, 1, narrow, narrow), (1, 1, 0, narrow, out)]


SPRING_2019 = [*STEM, *bottleneck(64, 64, 256), POOL, *bottleneck(256, 64, 256), POOL, (3, 1, 1, 256, 512)]
FALL_2019 = [*STEM, *bottleneck(64, 64, 256), POOL, *bottleneck(256, 128, 512)]
TABLE = {SimpleNet: (SPRING_2019, 1_368_676), SimpleNetSmall: (FALL_2019, 365_028)}
BOTH = pytest.mark.parametrize("network", TABLE)
ALL = pytest.mark.parametrize("name", NETWORKS)


class OtherConv(nn.Conv2d):
    """A convolution of a user."""


def layers(features: nn.Module, conv: type[nn.Conv2d]) -> list:
    """The convolutions and poolings of a network, each convolution with a ReLU in place behind it."""
    modules, result = list(features.children()), []
    for position, module in enumerate(modules):
        if type(module) is conv:
            pairs = (module.kernel_size, module.stride, module.padding)
            assert all(first == second for first, second in pairs)
            result.append((*(first for first, _ in pairs), module.in_channels, module.out_channels))
            assert module.bias is not None
            assert (module.groups, module.dilation) == (1, (1, 1))
            assert repr(modules[position + 1]) == "ReLU(inplace=True)"
        elif isinstance(module, nn.MaxPool2d):
            assert (module.kernel_size, module.stride, module.padding) == (3, 2, 1)
            result.append(POOL)
        else:
            assert isinstance(module, nn.ReLU)
            assert type(modules[position - 1]) is conv
    return result


@BOTH
def test_the_layers_and_parameters_are_the_handouts(network):
    layers_expected, parameters = TABLE[network]
    assert model_size(network(num_classes=100)).parameters == model_size(network()).parameters == parameters
    assert model_size(network(num_classes=12)).parameters == parameters - 88 * 513
    assert model_size(network()).bytes == 4 * parameters
    model = network(num_classes=7)
    assert layers(model.features, nn.Conv2d) == layers_expected
    assert isinstance(model.avgpool, nn.AdaptiveAvgPool2d)
    assert model.avgpool.output_size == (1, 1)
    assert (model.fc.in_features, model.fc.out_features) == (512, 7)
    assert [name for name, _ in model.named_children()] == ["features", "avgpool", "fc"]
    assert not list(model.buffers())


@ALL
def test_every_parameter_learns(name):
    """After one step, for the last factor of a residual block begins at zero and hides what is before it."""
    torch.manual_seed(0)
    model, images = create_model(name, num_classes=5), torch.rand(4, 3, 64, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()
    assert not [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]


@ALL
def test_conv_op_replaces_every_convolution(name):
    model = create_model(name, num_classes=5, conv_op=OtherConv)
    assert {type(module) for module in model.modules() if isinstance(module, nn.Conv2d)} == {OtherConv}
    assert model.state_dict().keys() == create_model(name, num_classes=5).state_dict().keys()


@ALL
@pytest.mark.parametrize("sides", [(16, 16), (48, 64), (72, 72), (144, 160)])
def test_every_network_takes_images_of_these_sides(name, sides):
    model = create_model(name, num_classes=5).eval()
    with torch.no_grad():
        logits = model(torch.rand(1, 3, *sides))
    assert logits.shape == (1, 5)
    assert logits.isfinite().all()


@ALL
def test_the_initial_loss_is_that_of_guessing(name):
    """The initial weights neither amplify signals nor lose them."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=100)
    loss = F.cross_entropy(model(torch.rand(16, 3, 64, 64)), torch.randint(100, (16,)))
    assert loss.item() == pytest.approx(math.log(100), abs=0.6)


def test_residual_blocks_begin_as_a_relu():
    for norm in (True, False):
        block = ResidualBlock(nn.Conv2d, 4, norm=norm)
        block.start_at_zero()
        images = torch.randn(2, 4, 5, 5)
        bias = 0 if norm else block.second[0].bias.view(-1, 1, 1)
        torch.testing.assert_close(block(images), (images + bias).relu())


def test_positions_differ_and_branches_keep_their_shape():
    embedding = position_embedding(5, 7, 192)
    assert embedding.shape == (35, 192)
    assert embedding.abs().max() <= 1
    assert torch.cdist(embedding, embedding).fill_diagonal_(9).min() > 0.1
    assert Branches(nn.Conv2d, 32)(torch.randn(2, 32, 7, 5)).shape == (2, 32, 7, 5)


def test_flops_by_hand():
    """Two operations for a multiply-add; backward is twice as much, less the first layer's input gradient."""
    by_side = {32: [49 * 3 * 64], 16: [64 * 64, 9 * 64 * 64, 64 * 256], 8: [256 * 64, 9 * 64 * 64, 64 * 256]}
    by_side[4] = [9 * 256 * 512]
    products = [weights * side**2 for side, layers in by_side.items() for weights in layers] + [512 * 100]
    assert count_flops("simplenet", num_classes=100, side=64) == 2 * sum(products)
    training = count_flops("simplenet", num_classes=100, side=64, training=True)
    assert training == 2 * (3 * sum(products) - products[0])


@ALL
def test_the_table_of_costs_is_what_the_counter_says(name):
    assert list(COSTS) == list_models()
    assert COSTS[name] == measure_cost(name, COSTS_SIDE)


def test_a_classifier_normalizes_before_its_network():
    class Network(nn.Module):
        def forward(self, images):
            return images.mean(dim=(2, 3))

    assert (Normalize()(torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) == 0).all()
    normalize = Normalize((0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    assert normalize(torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)).flatten().tolist() == [1.0, -1.0, 0.5]
    images = torch.rand(2, 3, 4, 4)
    before = images.clone()
    logits = Classifier(Network(), Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))(images)
    assert torch.allclose(logits, ((images - 0.5) / 0.25).mean(dim=(2, 3)))
    assert torch.equal(images, before)


def test_normalization_is_not_in_the_state_dict_but_moves_with_the_model():
    model = create_model("simplenet", num_classes=3)
    names = set(model.state_dict())
    assert names == {f"network.{name}" for name in SimpleNet(num_classes=3).state_dict()}
    SimpleNet(num_classes=3).load_state_dict(model.network.state_dict())
    model.double()
    assert model.normalize.mean.dtype == torch.float64
    assert model(torch.rand(1, 3, 32, 32, dtype=torch.float64)).dtype == torch.float64


def test_an_unknown_network_and_too_small_images_are_refused():
    with pytest.raises(LabError) as caught:
        create_model("resnet", num_classes=3)
    assert str(caught.value) == f"there is no model 'resnet'; the models are {', '.join(sorted(NETWORKS))}"
    with pytest.raises(LabError, match="^--size is 8; the networks take 16 pixels or more$"):
        describe_models(8, speed=False)


def test_networks_are_described_with_their_cost_and_speed(monkeypatch):
    monkeypatch.setattr("scenelab.models.flops.SECONDS", 1e-9)
    measured = model_size(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    assert (measured.parameters, measured.bytes) == (12, 4 * 16 + 8)  # 8 + 4 learned; 2 + 2 floats, one int64 beside
    described = describe_models(16, speed=True)
    assert described.keys() == NETWORKS.keys()
    for values in described.values():
        assert 2 < values["training_flops"] / values["flops"] <= 3
        assert values["training_images_per_second"] > 0
        assert values["images_per_second"] > 0
    assert described["simplenet"]["parameters"] == 1_368_676
    assert "images_per_second" not in describe_models(16, speed=False)["vit"]
    assert describe_costs() == describe_models(COSTS_SIDE, speed=False)
