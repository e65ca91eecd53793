"""What the design study varies, and what it says of differences."""

import dataclasses
import json
import math
import shutil

import pytest

from scenelab.cli import main
from scenelab.data.augment import Augment
from scenelab.errors import Diverged
from scenelab.io import read_json
from scenelab.models.registry import NETWORKS
from scenelab.progress import LogProgress
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig, to_plain
from scenelab.studies import apart, design
from scenelab.studies.design_findings import judge, pooled_spread, to_markdown
from scenelab.training.recipes import RECIPES, get


def variant(name: str, *top1: float, **values) -> dict:
    run = {"top5": 50.0, "loss": 2.0, "images_per_second": 100.0, "epochs": 2.0, "images_seen": 2000}
    runs = [
        {"seed": seed, "top1": value, "parameters": 10, "training_flops": 5, **run} for seed, value in enumerate(top1)
    ]
    return {"name": name, "what": f"what {name} is", "ladder": False, "against": "ours", "runs": runs, **values}


def verdicts(*variants: dict, images: int = 3000) -> dict[str, dict]:
    return {row["name"]: row for row in judge(list(variants), classes=100, images=images)}


# Judging


def test_the_spread_is_pooled_over_variants():
    pooled, freedom = pooled_spread([variant("a", 1.0, 3.0), variant("b", 10.0, 11.0, 12.0), variant("c", 50.0)])
    assert pooled == pytest.approx(math.sqrt((1 + 1 + 1 + 0 + 1) / (1 + 2)))
    assert freedom == 3
    assert pooled_spread([variant("a", 1.0), variant("b", 2.0)]) == (None, 0)


def test_differences_are_held_against_students_t():
    """s = 1 with four degrees of freedom: t is 2.776, and three runs against three give t·√(2/3) = 2.267."""
    reference = variant("ours", 30.0, 31.0, 32.0, against=None)
    for shift, verdict in ((2.25, "within noise"), (2.28, "better"), (-2.25, "within noise"), (-2.28, "worse")):
        rows = verdicts(reference, variant("x", 30.0 + shift, 31.0 + shift, 32.0 + shift))
        assert rows["x"]["verdict"] == verdict
        assert rows["x"]["difference"] == pytest.approx(shift)
        assert rows["x"]["noise"] == pytest.approx(2.776 * math.sqrt(2 / 3), abs=0.01)
    assert rows["ours"]["verdict"] == "the reference"
    assert "difference" not in rows["ours"]
    assert rows["x"]["range"] == pytest.approx([27.72, 29.72])


def test_each_is_judged_against_the_one_that_it_names():
    rows = verdicts(
        variant("ours", 30.0, 30.2, against=None), variant("low", 20.0, 20.2), variant("lower", 18.0, against="low")
    )
    assert rows["lower"]["difference"] == pytest.approx(-2.1)
    assert rows["low"]["difference"] == pytest.approx(-10.0)


def test_single_runs_are_held_against_the_error_of_so_many_images():
    """At 50 % and 1,000 images: 1.96·√(2·0.25/1000) = 4.38 points."""
    for value, verdict in ((54.3, "within noise"), (54.5, "better")):
        rows = verdicts(variant("ours", 50.0, against=None), variant("x", value), images=1000)
        assert rows["x"]["verdict"] == verdict


def test_networks_that_did_not_learn_or_diverged():
    failed = {"seed": 0, "message": "training diverged at step 3"}
    gone, shaky = {**variant("gone"), "runs": [failed]}, variant("shaky", 30.0)
    shaky["runs"].append(failed)
    rows = verdicts(variant("ours", 30.0, against=None), variant("stuck", 1.0), gone, shaky)
    assert rows["stuck"]["verdict"] == "does not learn"
    assert rows["gone"]["verdict"] == "diverged"
    assert rows["gone"]["n"] == 0
    assert rows["shaky"]["verdict"] == "within noise; 1 of 2 diverged"


def test_a_reference_that_diverged():
    rows = verdicts(variant("ours", against=None, runs=[{"seed": 0, "message": "diverged"}]), variant("x", 30.0))
    assert rows["ours"]["verdict"] == "diverged"
    assert rows["x"]["verdict"] == "nothing to compare with"


# Variants


def test_each_switch_changes_one_thing():
    schedule = ScheduleConfig(sizes=((0, 48), (0.6, 64)))
    base = dataclasses.replace(get("laptop"), plan=False, autocast=True, schedule=schedule)
    plain = to_plain(base)
    for switch in design.SWITCHES:
        changed = to_plain(switch.change(base))
        different = [name for name in plain if plain[name] != changed[name]]
        assert len(different) == 1, switch.name
        assert design.against()[switch.name] == "ours"
    names = [entry.name for entry in design.VARIANTS]
    assert len(set(names)) == len(names)


def test_the_ladder_differs_in_the_network_alone():
    made = [entry.change(get("laptop")) for entry in design.LADDER]
    assert len({entry.model for entry in made}) == len(made)
    assert len({json.dumps(to_plain(dataclasses.replace(entry, model="plain"))) for entry in made}) == 1
    assert {entry.model for entry in made} <= NETWORKS.keys()
    names = [entry.name for entry in design.LADDER]
    assert [design.against()[name] for name in names] == [None, *names[:-1]]


# The study


class Quiet(LogProgress):
    def step(self, moment): ...
    def epoch(self, text): ...


def tiny() -> TrainConfig:
    return TrainConfig(
        recipe="laptop", batch_size=16, log_every=1, minutes=0.01, plan=True, stored_size=32, eval_size=32, threads=2,
        augment=Augment(flip=True, area=(0.5, 1.0)), label_smoothing=0.1, ema=0.9,
        optimizer=OptimizerConfig(name="muon", lr=0.02, momentum=0.95), schedule=ScheduleConfig(sizes=((0.0, 32),)),
    )  # fmt: skip


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """Train in this process with a small recipe that was planned already; lists the runs; `plain` diverges."""
    names = []

    def train(folder, data, config):
        names.append(f"{folder.parent.name}/{folder.name}")
        if config.model == "plain":
            raise Diverged("training diverged at step 1: the loss is nan; try less")
        apart.train_here(folder, data, config, display=Quiet())

    def planned(config, *, images, categories):
        return dataclasses.replace(config, plan=False, epochs=1, schedule=ScheduleConfig(sizes=((0.0, 16), (0.5, 32))))

    monkeypatch.setattr(design, "train_apart", train)
    monkeypatch.setattr(design, "plan", planned)
    monkeypatch.setattr(design, "HOLDOUT", 0.34)
    monkeypatch.setattr(design, "VARIANTS", (*design.LADDER[:1], design.LADDER[3], *design.VARIANTS[5:7]))
    monkeypatch.setitem(RECIPES, "laptop", tiny)
    return names


def study(scenes, out, *arguments: object, status: int = 0) -> None:
    assert main.run(["study", "design", "--data", str(scenes), "--out", str(out), *map(str, arguments)]) == status


def test_a_study_in_files_and_what_is_finished_is_kept(trained, scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(design, "NEAR", 100.0)
    out = tmp_path / "study"
    study(scenes, out, "--minutes", 0.02, "--seeds", 2, "--json")
    result = json.loads(capsys.readouterr().out)
    assert result == read_json(out / "design.json")
    names = [entry["name"] for entry in result["variants"]]
    assert names == ["plain", "residual-sgd", "ours", "adamw"]
    # the rung above a rung that diverged has nothing near it
    assert trained == ["ours/0", "plain/0", "residual-sgd/0", "adamw/0", "ours/1", "adamw/1"]
    rows = {entry["name"]: entry for entry in result["variants"]}
    assert rows["plain"]["verdict"] == "diverged"
    assert [run["seed"] for run in rows["ours"]["runs"]] == [0, 1]
    assert result["data"]["held_out"] == 24
    assert all(run["accuracy"]["holdout"] for run in rows["ours"]["runs"])
    text = (out / "design.md").read_text()
    assert "| plain | ten convolutions with ReLU | | | | | | | | training diverged at step 1: the loss is nan |" in text
    assert (out / "design.png").read_bytes().startswith(b"\x89PNG")
    trained.clear()
    study(scenes, out, "--minutes", 0.02, "--seeds", 2)
    assert trained == []
    study(scenes, out, "--minutes", 0.03, status=1)
    assert f"{out} was begun with another minutes; name another --out" in capsys.readouterr().err


def test_val_is_not_opened(trained, scenes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scenes, data, ignore=shutil.ignore_patterns("packed"))
    (data / "val.txt").unlink()
    shutil.rmtree(data / "images" / "val")
    study(data, tmp_path / "study", "--minutes", 0.01, "--seeds", 1)


def test_only_near_variants_are_repeated(trained, scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(design, "NEAR", -1.0)
    study(scenes, tmp_path, "--minutes", 0.01, "--seeds", 2)
    assert [name for name in trained if name.endswith("/1")] == ["ours/1"]
    assert "adamw, seed 0: 4 of 4 with this seed" in capsys.readouterr().err


def test_bad_seeds(trained, scenes, tmp_path, capsys):
    study(scenes, tmp_path, "--seeds", 0, status=1)
    assert "--seeds is 0; expected 1 or more" in capsys.readouterr().err


def test_the_table_names_what_was_measured():
    place = {"processor": "a processor", "versions": {"torch": "2"}, "command": "scenelab study design"}
    config = to_plain(dataclasses.replace(get("laptop"), threads=2))
    variants = [variant("ours", 30.0, 31.0, 32.0, against=None), variant("x", 31.0)]
    rows = judge(variants, classes=100, images=9)
    data = {"folder": "d", "held_out": 9}
    study = {"config": config, "environment": place, "data": data, "variants": rows, "reference": "ours"}
    text = to_markdown(study)
    assert "varies by 1.00 points" in text
    measured = "10 | 100 | 2.0 | 31.00 (30.0–32.0, n 3) | 50.00 | 2.000 | – | the reference |"
    assert f"| ours | what ours is | {measured}" in text
    assert "31.00 (n 1) | 50.00 | 2.000 | +0.00 ± 4.97 | within noise |" in text
