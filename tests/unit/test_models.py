"""The networks: the handout's layers and parameter counts, the convolution asked for, normalisation in front."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scenelab.errors import LabError
from scenelab.models.flops import COSTS, COSTS_SIDE, count_flops, describe_models, measure_cost, model_size
from scenelab.models.inception import Branches
from scenelab.models.normalize import IMAGENET_MEAN, IMAGENET_STD, Classifier, Normalize
from scenelab.models.registry import NETWORKS, create_model
from scenelab.models.residual import ResidualBlock
from scenelab.models.simplenet import SimpleNet, SimpleNetSmall
from scenelab.models.vit import position_embedding

# (kernel, stride, padding, channels in, channels out); "pool" is max pooling 3/2 with padding 1.
POOL = "pool"
SPRING_2019 = [
    (7, 2, 3, 3, 64), POOL,
    (1, 1, 0, 64, 64), (3, 1, 1, 64, 64), (1, 1, 0, 64, 256), POOL,
    (1, 1, 0, 256, 64), (3, 1, 1, 64, 64), (1, 1, 0, 64, 256), POOL,
    (3, 1, 1, 256, 512),
]  # fmt: skip
FALL_2019 = [
    (7, 2, 3, 3, 64), POOL,
    (1, 1, 0, 64, 64), (3, 1, 1, 64, 64), (1, 1, 0, 64, 256), POOL,
    (1, 1, 0, 256, 128), (3, 1, 1, 128, 128), (1, 1, 0, 128, 512),
]  # fmt: skip
TABLE = {SimpleNet: (SPRING_2019, 1_368_676), SimpleNetSmall: (FALL_2019, 365_028)}
BOTH = pytest.mark.parametrize("network", TABLE)
ALL = pytest.mark.parametrize("name", NETWORKS)


class OtherConv(nn.Conv2d):
    """Stands for a convolution of one's own."""


def layers(features: nn.Module, conv: type[nn.Conv2d]) -> list:
    """The convolutions and poolings of a network, each convolution with a ReLU in place behind it."""
    modules, found = list(features.children()), []
    for position, module in enumerate(modules):
        if type(module) is conv:
            pairs = (module.kernel_size, module.stride, module.padding)
            assert all(first == second for first, second in pairs)
            found.append((*(first for first, _ in pairs), module.in_channels, module.out_channels))
            assert module.bias is not None
            assert module.groups == 1
            assert module.dilation == (1, 1)
            assert isinstance(modules[position + 1], nn.ReLU)
            assert modules[position + 1].inplace
        elif isinstance(module, nn.MaxPool2d):
            assert (module.kernel_size, module.stride, module.padding) == (3, 2, 1)
            found.append(POOL)
        else:
            assert isinstance(module, nn.ReLU)
            assert type(modules[position - 1]) is conv
    return found


@BOTH
def test_parameters(network):
    _, expected = TABLE[network]
    assert model_size(network(num_classes=100)).parameters == expected
    assert model_size(network()).parameters == expected
    assert model_size(network(num_classes=12)).parameters == expected - 88 * 513


@BOTH
def test_layers(network):
    model = network(num_classes=7)
    expected, _ = TABLE[network]
    assert layers(model.features, nn.Conv2d) == expected
    assert isinstance(model.avgpool, nn.AdaptiveAvgPool2d)
    assert model.avgpool.output_size == (1, 1)
    assert (model.fc.in_features, model.fc.out_features) == (512, 7)
    assert [name for name, _ in model.named_children()] == ["features", "avgpool", "fc"]
    assert not list(model.buffers())


@BOTH
def test_every_convolution_is_the_one_that_is_asked_for(network):
    model = network(conv_op=OtherConv, num_classes=5)
    expected, _ = TABLE[network]
    assert layers(model.features, OtherConv) == expected
    assert not [module for module in model.modules() if type(module) is nn.Conv2d]
    assert model.state_dict().keys() == network(num_classes=5).state_dict().keys()


@BOTH
@pytest.mark.parametrize("side", [16, 64, 128, 144, 160])
def test_sides_and_a_batch_of_one(network, side):
    model = network(num_classes=5).eval()
    with torch.no_grad():
        logits = model(torch.zeros(1, 3, side, side))
    assert logits.shape == (1, 5)
    assert logits.isfinite().all()


def test_oblong_pictures():
    assert SimpleNetSmall(num_classes=5)(torch.zeros(2, 3, 48, 64)).shape == (2, 5)


@ALL
def test_every_parameter_learns(name):
    """After one step, for the last factor of a residual block begins at zero and hides what is before it."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images = torch.rand(4, 3, 64, 64)
    for _ in range(2):
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()
    silent = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not silent


@ALL
def test_every_network_takes_the_convolution_that_is_asked_for(name):
    model = create_model(name, num_classes=5, conv_op=OtherConv)
    kinds = {type(module) for module in model.modules() if isinstance(module, nn.Conv2d)}
    assert kinds == {OtherConv}
    assert model.state_dict().keys() == create_model(name, num_classes=5).state_dict().keys()


@ALL
@pytest.mark.parametrize("sides", [(16, 16), (48, 64), (72, 72), (128, 128)])
def test_every_network_takes_pictures_of_these_sides(name, sides):
    model = create_model(name, num_classes=5).eval()
    with torch.no_grad():
        logits = model(torch.rand(1, 3, *sides))
    assert logits.shape == (1, 5)
    assert logits.isfinite().all()


@ALL
def test_every_network_begins_unsure(name):
    """The first loss is near that of guessing, so the initial weights neither blow signals up nor lose them."""
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


def test_sides_that_four_halvings_fit_are_never_padded_on_the_far_side():
    """Why pictures have sides of multiples of 16: an odd side on the way gives one more window, over the padding."""
    sides = {}

    def note(module, arguments, output):
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            sides.setdefault(side, []).append(arguments[0].shape[-1] % 2)

    model = create_model("residual", num_classes=5).eval()
    for module in model.modules():
        module.register_forward_hook(note)
    for side in (64, 72, 80):
        model(torch.rand(1, 3, side, side))
    assert sides == {64: [0, 0, 0, 0], 72: [0, 0, 0, 1], 80: [0, 0, 0, 0]}


def test_branches_keep_channels_and_sides():
    assert Branches(nn.Conv2d, 32)(torch.randn(2, 32, 7, 5)).shape == (2, 32, 7, 5)


def test_positions_differ_and_are_bounded():
    embedding = position_embedding(5, 7, 192)
    assert embedding.shape == (35, 192)
    assert embedding.abs().max() <= 1
    assert torch.cdist(embedding, embedding).fill_diagonal_(9).min() > 0.1


def test_flops_by_hand():
    """Two operations for a multiply-add; backward is twice as much, less the first layer's input gradient."""
    convolutions = [
        (49 * 3 * 64, 32), (64 * 64, 16), (9 * 64 * 64, 16), (64 * 256, 16), (256 * 64, 8), (9 * 64 * 64, 8),
        (64 * 256, 8), (9 * 256 * 512, 4),
    ]  # fmt: skip
    products = [weights * side**2 for weights, side in convolutions] + [512 * 100]
    assert count_flops("simplenet", num_classes=100, side=64) == 2 * sum(products)
    training = count_flops("simplenet", num_classes=100, side=64, training=True)
    assert training == 2 * (3 * sum(products) - products[0])


@ALL
def test_the_table_of_costs_is_what_the_counter_says(name):
    assert COSTS.keys() == NETWORKS.keys()
    assert COSTS[name] == measure_cost(name, COSTS_SIDE)


# Normalisation


def test_normalisation_by_hand():
    normalize = Normalize((0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    image = torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    assert normalize(image).flatten().tolist() == [1.0, -1.0, 0.5]


def test_imagenets_statistics_are_the_default():
    assert IMAGENET_MEAN == (0.485, 0.456, 0.406)
    assert IMAGENET_STD == (0.229, 0.224, 0.225)
    image = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    assert (Normalize()(image) == 0).all()
    assert torch.allclose(
        Normalize()(torch.ones(1, 3, 1, 1)).flatten(), (1 - image.flatten()) / torch.tensor(IMAGENET_STD)
    )


def test_a_classifier_normalises_and_then_asks_its_network():
    seen = []

    class Network(nn.Module):
        def forward(self, images):
            seen.append(images)
            return images.mean(dim=(2, 3))

    images = torch.rand(2, 3, 4, 4)
    before = images.clone()
    logits = Classifier(Network(), Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))(images)
    assert torch.allclose(seen[0], (images - 0.5) / 0.25)
    assert torch.allclose(logits, seen[0].mean(dim=(2, 3)))
    assert torch.equal(images, before)


def test_the_state_dict_has_no_normalisation():
    model = create_model("simplenet", num_classes=3)
    names = set(model.state_dict())
    assert names == {f"network.{name}" for name in SimpleNet(num_classes=3).state_dict()}
    SimpleNet(num_classes=3).load_state_dict(model.network.state_dict())


def test_the_statistics_move_with_the_model():
    model = create_model("simplenet-small", num_classes=3).double()
    assert model.normalize.mean.dtype == torch.float64
    assert model(torch.rand(1, 3, 32, 32, dtype=torch.float64)).dtype == torch.float64


# The registry


def test_networks_by_name():
    for name, network in {"simplenet": SimpleNet, "simplenet-small": SimpleNetSmall}.items():
        model = create_model(name, num_classes=4)
        assert isinstance(model, Classifier)
        assert type(model.network) is network
    assert len({architecture.description for architecture in NETWORKS.values()}) == len(NETWORKS)
    chosen = create_model("simplenet", num_classes=4, conv_op=OtherConv)
    assert layers(chosen.network.features, OtherConv) == SPRING_2019


def test_an_unknown_network():
    with pytest.raises(LabError) as caught:
        create_model("resnet", num_classes=3)
    assert str(caught.value) == f"there is no model 'resnet'; the models are {', '.join(sorted(NETWORKS))}"


def test_size_counts_what_is_learned_and_what_is_stored():
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))  # 8 + 4 learned; 2 + 2 floats and one int64 beside
    measured = model_size(network)
    assert (measured.parameters, measured.bytes) == (12, 4 * 16 + 8)
    assert model_size(SimpleNet()).bytes == 4 * 1_368_676
    assert model_size(SimpleNetSmall()).bytes == 4 * 365_028


def test_networks_are_described_with_their_cost_and_speed(monkeypatch):
    monkeypatch.setattr("scenelab.models.flops.SECONDS", 1e-9)
    described = describe_models(16, speed=True)
    assert described.keys() == NETWORKS.keys()
    for values in described.values():
        assert 2 < values["training_flops"] / values["flops"] <= 3
        assert values["training_images_per_second"] > 0
        assert values["images_per_second"] > 0
    assert described["simplenet"]["parameters"] == 1_368_676
    assert "images_per_second" not in describe_models(16, speed=False)["vit"]


def test_pictures_that_are_too_small_for_the_networks():
    with pytest.raises(LabError, match="^--size is 8; the networks take 16 pixels or more$"):
        describe_models(8, speed=False)
