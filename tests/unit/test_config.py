import json

import pytest

from scenelab.data.augment import HANDOUT
from scenelab.errors import LabError
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig, from_plain, to_plain
from scenelab.training.recipes import RECIPES, get


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_survives_json(name):
    config = get(name)
    assert from_plain(json.loads(json.dumps(to_plain(config)))) == config


def test_starter_is_the_handouts():
    config = get("starter")
    assert (config.model, config.epochs, config.batch_size) == ("simplenet", 90, 256)
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0.1, 0.9, 1e-4)
    assert optimizer.decay_vectors
    assert not optimizer.nesterov
    assert config.augment == HANDOUT
    assert config.schedule.sizes == ((0.0, 128),)
    assert config.eval_size == 160


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs is 0; expected a number above 0"),
        ({"batch_size": 0}, "batch_size is 0; expected 1 or more"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; expected a share in [0, 1)"),
        ({"ema": 1.0}, "ema is 1.0; expected a decay in [0, 1)"),
        ({"keep": "all"}, "keep is 'all'; expected best or last"),
        ({"stored_size": 8}, "stored_size is 8; expected 16 pixels or more"),
    ],
)
def test_bad_values_are_refused(change, message):
    with pytest.raises(LabError) as caught:
        TrainConfig(**change)
    assert str(caught.value) == message


def test_bad_parts_are_refused():
    with pytest.raises(LabError, match=r"optimizer\.lr is -1; expected a number above 0"):
        OptimizerConfig(lr=-1)
    with pytest.raises(LabError, match=r"optimizer\.name is 'lion'; expected sgd, adamw or muon"):
        OptimizerConfig(name="lion")  # pyright: ignore[reportArgumentType]
    with pytest.raises(LabError, match=r"schedule\.sizes is .*; expected shares rising from 0.0, all below 1"):
        ScheduleConfig(sizes=((0.5, 64), (0.2, 48)))


def test_a_config_of_another_version_is_explained():
    values = to_plain(TrainConfig())
    values["telepathy"] = True
    with pytest.raises(LabError, match="does not fit this version"):
        from_plain(values)


def test_unknown_recipe():
    with pytest.raises(LabError, match="no recipe 'nope'; the recipes are challenge, demo, gpu, laptop, starter"):
        get("nope")
