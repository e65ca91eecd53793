"""Configs of strangers: unknown names, other kinds, absurd sizes, each refused by name."""

import json
import math
import os

import pytest

from scenelab.cli.train import change
from scenelab.errors import LabError
from scenelab.io import read_json, read_text
from scenelab.runs.config import AdversarialConfig, TrainConfig, from_plain, to_plain
from scenelab.runs.run import Run
from scenelab.training.recipes import get


def stored(**changes) -> dict:
    """A config as JSON keeps it, with other values; `optimizer__lr` is one of a part."""
    values = json.loads(json.dumps(to_plain(TrainConfig(adversarial=AdversarialConfig(method="pgd", epsilon=0.03)))))
    for name, value in changes.items():
        part, _, inner = name.rpartition("__")
        (values[part] if part else values)[inner] = value
    return values


def test_what_was_stored_comes_back():
    assert to_plain(from_plain(stored())) == to_plain(
        TrainConfig(adversarial=AdversarialConfig(method="pgd", epsilon=0.03))
    )


NUMBERS = [name for name, value in to_plain(TrainConfig()).items() if type(value) in (int, float)]


@pytest.mark.parametrize("value", ["12", None, [1], {}, True, math.nan, math.inf, -math.inf, 10**400, 1e300, 10**19])
@pytest.mark.parametrize("name", [*NUMBERS, "optimizer__lr", "schedule__final", "adversarial__steps", "augment__gain"])
def test_no_number_and_no_sensible_number(name, value):
    with pytest.raises(LabError) as caught:
        from_plain(stored(**{name: value}))
    said = str(caught.value)
    assert said.startswith(name.replace("__", ".") + " is ")
    assert "; expected " in said
    assert len(said) < 200
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("batch_size", 10**12, "batch_size is 1000000000000; expected at most 65,536"),
        ("threads", 10**6, "threads is 1000000; expected at most 1,024"),
        ("stored_size", 10**6, "stored_size is 1000000; expected at most 4,096"),
        ("eval_size", 10**6, "eval_size is 1000000; expected at most 4,096"),
        ("epochs", 10**9, "epochs is 1000000000; expected at most 1,000,000"),
        ("batch_size", 2.0, "batch_size is 2.0; expected a whole number"),
        ("seed", -1, "seed is -1; expected 0 or more"),
        ("half", 1, "half is 1; expected true or false"),
        ("model", 3, "model is 3; expected a line"),
        ("device", "\x1b[2J", r"device is '\x1b[2J'; expected a line"),
        ("recipe", "a" * 1000, "expected a line of at most 200 letters"),
        ("keep", ["best"], "keep is a list; expected best or last"),
        ("conv", "x", "conv is 'x'; expected native or custom"),
        ("optimizer", None, "optimizer is None; expected values by name"),
        ("optimizer", [], "optimizer is a list; expected values by name"),
        ("optimizer__nesterov", "yes", "optimizer.nesterov is 'yes'; expected true or false"),
        ("optimizer__telepathy", 1, "it has the unknown key 'optimizer.telepathy'"),
        ("telepathy", 1, "it has the unknown key 'telepathy'"),
        ("schedule__sizes", [[0.0, 10**9]], "expected sides from 16 to 4096 pixels"),
        ("schedule__sizes", [[0.0, "64"]], "schedule.sizes is a tuple; expected a list of 2 numbers"),
        ("schedule__sizes", [[[0.0], 64]], "schedule.sizes"),
        ("schedule__sizes", 3, "schedule.sizes is 3; expected a list of 2 numbers"),
        ("schedule__sizes", [[0.0, 64]] * 10_000, "schedule.sizes is a tuple"),
        ("augment__area", [0.1], "augment.area is a tuple; expected 2 numbers or none"),
        ("augment__aspect", None, "augment.aspect is None; expected 2 numbers"),
        ("augment__area", [math.nan, 1.0], "augment.area is a tuple"),
        ("adversarial__method", None, "adversarial.method is None; expected pgd or fast"),
        ("adversarial", {"method": "pgd"}, "it misses 'adversarial.epsilon'"),
        ("adversarial", 3, "adversarial is 3; expected values by name"),
    ],
)
def test_what_is_wrong_is_said(name, value, said):
    with pytest.raises(LabError) as caught:
        from_plain(stored(**{name: value}))
    assert said in str(caught.value)


@pytest.mark.parametrize("values", [None, [], 3, "x", {}, {"optimizer": {}}])
def test_what_is_no_config(values):
    with pytest.raises(LabError, match="the config"):
        from_plain(values)


@pytest.mark.parametrize("name", ["minutes", "epochs", "clip_norm", "holdout", "checkpoint_seconds"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_flags_that_are_no_numbers(name, value):
    with pytest.raises(LabError, match=f"^{name} is (nan|inf); expected a number"):
        change(get("starter"), {name: value})
    with pytest.raises(LabError, match="^optimizer.lr is (nan|inf); expected a number"):
        change(get("starter"), {}, lr=value)
    with pytest.raises(LabError, match="^schedule.warmup_epochs is (nan|inf); expected a number"):
        change(get("starter"), {}, warmup_epochs=value)


@pytest.mark.parametrize(
    "text",
    ["[]", "null", "{}", '{"train": []}', '{"train": {}}', '{"train": {}, "data": 3}',
     '{"train": {}, "data": "a\\u0000b"}', '{"train": {}, "data": "a", "cache": []}',
     '{"train": {}, "data": "a", "train_digest": null}'],
)  # fmt: skip
def test_a_run_whose_config_is_something_else(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(LabError, match="is not the config of a run of scenelab"):
        Run(tmp_path).read_config()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deep"),
        ("1" * 5000, "cannot be read as JSON: Exceeds the limit"),
        ("{", "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("\udcff", "cannot be read as JSON"),
    ],
)
def test_json_without_end(tmp_path, text, said):
    (tmp_path / "x.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LabError, match=said):
        read_json(tmp_path / "x.json")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(LabError, match="is not a regular file"):
        read_json(tmp_path / "x.json")
    with pytest.raises(LabError, match="is not a regular file"):
        read_json(tmp_path)


def test_a_file_that_is_too_long_is_not_read(tmp_path):
    with open(tmp_path / "x.json", "wb") as file:
        file.truncate(1 << 40)  # holes take no room
    with pytest.raises(LabError, match=r"has 1,099,511,627,776 bytes; at most 1,073,741,824 are read"):
        read_json(tmp_path / "x.json")
    with pytest.raises(LabError, match="at most 10 are read"):
        read_text(tmp_path / "x.json", max_bytes=10)
