"""Training configs: recipes survive JSON; unknown keys, wrong types and absurd values are refused by name."""

import json
import math

import pytest
import torch

from scenelab.cli.train import change
from scenelab.data.augment_config import HANDOUT
from scenelab.errors import LabError
from scenelab.runs.config import AdversarialConfig, OptimizerConfig, TrainConfig, from_plain, to_plain
from scenelab.runs.provenance import environment
from scenelab.runs.run import Run
from scenelab.training.recipes import RECIPES, get

ADVERSARIAL = AdversarialConfig(method="pgd", epsilon=0.03)


def stored(**changes) -> dict:
    """Return a config as JSON holds it, with other values; `optimizer__lr` is a field of a part."""
    values = json.loads(json.dumps(to_plain(TrainConfig(adversarial=ADVERSARIAL))))
    for name, value in changes.items():
        part, _, inner = name.rpartition("__")
        (values[part] if part else values)[inner] = value
    return values


@pytest.mark.parametrize("config", [TrainConfig(adversarial=ADVERSARIAL), *(get(name) for name in sorted(RECIPES))])
def test_every_config_survives_json(config):
    values = json.loads(json.dumps(to_plain(config)))
    assert from_plain(values) == config
    if config.adversarial is None:
        del values["adversarial"]  # as in an older file
        assert from_plain(values) == config
    for other in (None, [], 3, "x", {}, {"optimizer": {}}):
        with pytest.raises(LabError, match="the config does not fit this version"):
            from_plain(other)


def test_starter_is_the_handouts_and_an_unknown_recipe_is_refused():
    config = get("starter")
    assert (config.model, config.epochs, config.batch_size, config.eval_size) == ("simplenet", 90, 256, 160)
    expected = OptimizerConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, decay_vectors=True, nesterov=False)
    assert config.optimizer == expected
    assert config.augment == HANDOUT
    assert config.schedule.sizes == ((0.0, 128),)
    with pytest.raises(LabError, match="no recipe 'nope'; the recipes are challenge, demo, gpu, laptop, starter"):
        get("nope")


NUMBERS = [name for name, value in to_plain(TrainConfig()).items() if type(value) in (int, float)]


@pytest.mark.parametrize("value", ["12", None, [1], {}, True, math.nan, math.inf, -math.inf, 10**400, 1e300, 10**19])
@pytest.mark.parametrize("name", [*NUMBERS, "optimizer__lr", "schedule__final", "adversarial__steps", "augment__gain"])
def test_every_numeric_field_refuses_other_types_and_absurd_numbers(name, value):
    with pytest.raises(LabError) as caught:
        from_plain(stored(**{name: value}))
    message = str(caught.value)
    assert f": {name.replace('__', '.')}: got " in message
    assert "; expected " in message
    assert len(message) < 200
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", 10**12, "batch_size: got 1000000000000; expected at most 65536"),
        ("batch_size", 0, "batch_size: got 0; expected at least 1"),
        ("batch_size", 2.5, "batch_size: got 2.5; expected an integer"),
        ("epochs", 0, "epochs: got 0; expected greater than 0"),
        ("label_smoothing", 1.0, "label_smoothing: got 1.0; expected less than 1"),
        ("stored_size", 8, "stored_size: got 8; expected at least 16"),
        ("seed", -1, "seed: got -1; expected at least 0"),
        ("plan", True, "plan: got True; expected false without minutes"),
        ("accumulate", 2, "accumulate: got 2; expected 1 with adversarial training"),
        ("half", 1, "half: got 1; expected true or false"),
        ("model", 3, "model: got 3; expected a string"),
        ("device", "\x1b[2J", r"device: got '\x1b[2J'; expected a string of printable characters"),
        ("recipe", "a" * 1000, "expected a string of at most 200 characters"),
        ("keep", ["best"], "keep: got ['best']; expected 'best' or 'last'"),
        ("conv", "x", "conv: got 'x'; expected 'native' or 'custom'"),
        ("optimizer", None, "optimizer: got None; expected an object"),
        ("optimizer", [], "optimizer: got []; expected an object"),
        ("optimizer__name", "lion", "optimizer.name: got 'lion'; expected 'sgd', 'adamw' or 'muon'"),
        ("optimizer__nesterov", "yes", "optimizer.nesterov: got 'yes'; expected true or false"),
        ("optimizer__telepathy", 1, "optimizer.telepathy is an unknown key"),
        ("telepathy", 1, "telepathy is an unknown key"),
        ("schedule__sizes", [[0.5, 64], [0.2, 48]], "schedule.sizes: got a list; expected shares that rise from 0.0"),
        ("schedule__sizes", [[0.0, 10**9]], "schedule.sizes[0][1]: got 1000000000; expected at most 4096"),
        ("schedule__sizes", [[0.0, "64"]], "schedule.sizes[0][1]: got '64'; expected an integer"),
        ("schedule__sizes", [[[0.0], 64]], "schedule.sizes[0][0]: got [0.0]; expected a number"),
        ("schedule__sizes", 3, "schedule.sizes: got 3; expected a list"),
        ("schedule__sizes", [[0.0, 64]] * 10_000, "schedule.sizes: got a list; expected a list of at most 1000 items"),
        ("augment__area", [0.1], "augment.area[1] is missing"),
        ("augment__area", [0.5, 0.1], "augment.area: got [0.5, 0.1]; expected 0 < low <= high"),
        ("augment__aspect", None, "augment.aspect: got None; expected a list"),
        ("augment__area", [math.nan, 1.0], "augment.area[0]: got nan; expected a finite number"),
        ("adversarial__method", None, "adversarial.method: got None; expected 'pgd', 'fast', 'free' or 'handout'"),
        ("adversarial", {"method": "pgd"}, "adversarial.epsilon is missing"),
        ("adversarial__method", "slow", "adversarial.method: got 'slow'; expected 'pgd', 'fast', 'free' or 'handout'"),
        ("adversarial__epsilon", 0, "adversarial.epsilon: got 0; expected greater than 0"),
        ("adversarial__steps", 0, "adversarial.steps: got 0; expected at least 1"),
        (
            "adversarial",
            {"method": "fast", "epsilon": 0.1, "steps": 2},
            "adversarial.steps: got 2; expected 1 for fast",
        ),
        ("adversarial", 3, "adversarial: got 3; expected an object"),
    ],
)
def test_the_message_names_path_value_and_expectation(name, value, message):
    with pytest.raises(LabError) as caught:
        from_plain(stored(**{name: value}))
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_flags_refuse_what_is_not_finite(value):
    for name, flags in {"minutes": {}, "optimizer.lr": {"lr": value}}.items():
        with pytest.raises(LabError, match=f"^{name}: got (nan|inf); expected a finite number"):
            change(get("starter"), {} if flags else {name: value}, **flags)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "it: got []; expected an object"),
        ({}, "data is missing"),
        ({"data": "d", "train": []}, "train: got []; expected an object"),
        ({"data": 3, "train": stored()}, "data: got 3; expected a string"),
        ({"data": "a\0b", "train": stored()}, "data: got "),
        ({"data": "d", "cache": [], "train": stored()}, "cache: got []; expected a string"),
        ({"data": "d", "train_digest": None, "train": stored()}, "train_digest: got None"),
        ({"data": "d", "version": 2, "train": stored()}, "version: got 2; expected 1"),
        ({"data": "d", "train": stored(optimizer__lr=-1)}, "train.optimizer.lr: got -1; expected greater than 0"),
    ],
)
def test_a_run_folder_with_another_config_is_refused(tmp_path, values, message):
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(LabError, match=r"config\.json does not fit this version of scenelab: ") as caught:
        Run(tmp_path).read_config()
    assert message in str(caught.value)


def test_a_folder_that_is_no_run_is_refused_and_the_environment_noted(tmp_path):
    with pytest.raises(LabError, match="is not a run folder"):
        Run(tmp_path).read_config()
    values = environment().to_json()
    assert torch.__version__.startswith(values["versions"]["torch"])
    assert values["cores"] >= 1
    assert values["processor"]
