"""Feature maps, receptive fields by their formula, and the images that excite a unit."""

import pytest
import torch

from scenelab.data.cache import MemmapDataset
from scenelab.errors import LabError
from scenelab.evaluation.feature_maps import feature_layers, feature_maps, receptive_fields, strongest_units
from scenelab.models.registry import create_model

SIZE = 64


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("simplenet", num_classes=5).eval()


def test_receptive_fields_are_those_of_the_formula(model):
    """Of the first layers of SimpleNet: 7×7 of stride 2, pooling 3×3 of stride 2, 1×1, 3×3 (Araujo et al. 2019)."""
    for layer, (side, stride, start) in {0: (7, 2, -3), 2: (11, 4, -5), 3: (11, 4, -5), 5: (19, 4, -9)}.items():
        expected = [
            (max(0, start + stride * row), min(SIZE - 1, start + stride * row + side - 1))
            for row in range(SIZE // stride)
        ]
        assert receptive_fields(model, f"features.{layer}", SIZE) == expected


@pytest.mark.parametrize("name", ["residual", "inception", "plain", "vit"])
def test_a_pixel_outside_of_its_field_does_not_change_a_unit(name):
    torch.manual_seed(0)
    model, images = create_model(name, num_classes=5).eval(), torch.rand(1, 3, 64, 64)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.uniform_(0.5, 1.0)  # residual blocks start without effect
    layer = list(feature_layers(model, SIZE))[-1 if name == "vit" else len(feature_layers(model, SIZE)) // 2]
    fields = receptive_fields(model, layer, SIZE)
    before, row = feature_maps(model, images, [layer])[layer], len(fields) // 2
    low, high = fields[row]
    assert 0 < high - low < SIZE - 1
    changed = images.clone()
    changed[:, :, :low], changed[:, :, high + 1 :] = 0.5, 0.5
    assert torch.allclose(feature_maps(model, changed, [layer])[layer][:, :, row], before[:, :, row], atol=1e-5)
    changed = images.clone()
    changed[:, :, [low, high]] = 1 - changed[:, :, [low, high]]
    assert not torch.allclose(feature_maps(model, changed, [layer])[layer][:, :, row], before[:, :, row], atol=1e-5)


def test_maps_are_those_before_an_activation_in_place(model):
    images = torch.rand(2, 3, SIZE, SIZE)
    maps = feature_maps(model, images, ["features.0", "features.1"])
    assert torch.equal(maps["features.0"], model.network.features[0](model.normalize(images)))
    assert torch.equal(maps["features.1"], maps["features.0"].relu())
    assert not any(module._forward_hooks for module in model.modules())
    assert feature_maps(model, images, ["avgpool", "fc"]) == {}


def test_the_strongest_units_are_found(model):
    pixels = torch.randint(0, 256, (20, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    dataset = MemmapDataset(
        images=pixels.permute(0, 2, 3, 1).numpy(),
        labels=torch.zeros(20, dtype=torch.int64),
        paths=tuple(map(str, range(20))),
        categories=("a",),
        split="val",
        digest="",
    )
    units = strongest_units(model, dataset, "features.4", 3, size=SIZE, images=20, count=9)
    maps = feature_maps(model, pixels.float() / 255, ["features.4"])["features.4"][:, 3]
    order = maps.flatten(1).amax(dim=1).argsort(descending=True)[:9].tolist()
    assert [unit["row"] for unit in units] == order
    for unit in units:
        assert maps[unit["row"], unit["y"], unit["x"]].item() == pytest.approx(unit["value"], rel=1e-4)
    with pytest.raises(LabError, match=r"layer 'features.4' has no channel 64"):
        strongest_units(model, dataset, "features.4", 64, size=SIZE, images=20, count=9)
