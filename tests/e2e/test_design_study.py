"""What the design study varies, and what it says of differences."""

import dataclasses
import json
import math
import shutil

import pytest

from quick_studies import plan_here
from scenelab.cli import main
from scenelab.evaluation.study_results import (
    DesignRow,
    DesignRun,
    DesignStudy,
    DesignVariant,
    FinishedRun,
    HeldOutImages,
)
from scenelab.io import read_json
from scenelab.models.registry import NETWORKS
from scenelab.runs.config import ScheduleConfig, to_plain
from scenelab.runs.provenance import environment
from scenelab.studies import design, runs
from scenelab.studies.design_findings import judge, pooled_spread
from scenelab.training.recipes import get


def variant(name: str, *top1: float, against: str | None = "ours", diverged: int = 0) -> DesignVariant:
    values = {"top5": 50.0, "loss": 2.0, "images_per_second": 100.0, "epochs": 2.0, "images_seen": 2000, "minutes": 1}
    values |= {"parameters": 10, "training_flops": 5, "steps": 7}
    runs = [FinishedRun(seed=seed, top1=value, **values) for seed, value in enumerate(top1)]
    failed = [DesignRun(seed=9, message="training diverged at step 3")] * diverged
    return DesignVariant(name=name, what=f"what {name} is", ladder=False, against=against, runs=[*runs, *failed])


def verdicts(*variants: DesignVariant, images: int = 3000) -> dict[str, DesignRow]:
    return {row.name: row for row in judge(list(variants), classes=100, images=images)}


def test_the_spread_is_pooled_over_variants():
    pooled, freedom = pooled_spread([variant("a", 1.0, 3.0), variant("b", 10.0, 11.0, 12.0), variant("c", 50.0)])
    assert pooled == pytest.approx(math.sqrt((1 + 1 + 1 + 0 + 1) / (1 + 2)))
    assert freedom == 3
    assert pooled_spread([variant("a", 1.0), variant("b", 2.0)]) == (None, 0)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(2.25, "within noise"), (2.28, "better"), (-2.25, "within noise"), (-2.28, "worse")]
)
def test_differences_are_compared_with_students_t(shift, verdict):
    """s = 1 with four degrees of freedom: t is 2.776, and three runs against three give t·√(2/3) = 2.267."""
    reference = variant("ours", 30.0, 31.0, 32.0, against=None)
    rows = verdicts(reference, variant("x", 30.0 + shift, 31.0 + shift, 32.0 + shift))
    assert rows["x"].verdict == verdict
    assert rows["x"].difference == pytest.approx(shift)
    assert rows["x"].noise == pytest.approx(2.776 * math.sqrt(2 / 3), abs=0.01)
    assert rows["x"].range == pytest.approx([30 + shift, 32 + shift])
    assert rows["ours"].verdict == "the reference"
    assert rows["ours"].difference is None


@pytest.mark.parametrize(("value", "verdict"), [(54.3, "within noise"), (54.5, "better")])
def test_single_runs_are_compared_with_the_error_of_an_accuracy(value, verdict):
    """At 50 % and 1,000 images: 1.96·√(2·0.25/1000) = 4.38 points."""
    rows = verdicts(variant("ours", 50.0, against=None), variant("x", value), images=1000)
    assert rows["x"].verdict == verdict


def test_networks_that_did_not_learn_or_diverged_are_named():
    gone, shaky = variant("gone", diverged=1), variant("shaky", 30.0, diverged=1)
    rows = verdicts(variant("ours", 30.0, against=None), variant("stuck", 1.0, against="shaky"), gone, shaky)
    expected = {"stuck": "does not learn", "gone": "diverged", "shaky": "within noise; 1 of 2 diverged"}
    assert rows["stuck"].difference == pytest.approx(-29)
    assert {name: rows[name].verdict for name in expected} == expected
    assert rows["gone"].n == 0
    rows = verdicts(variant("ours", against=None, diverged=1), variant("x", 30.0))
    assert rows["x"].verdict == "nothing to compare with"


def test_each_switch_changes_one_thing():
    schedule = ScheduleConfig(sizes=((0, 48), (0.6, 64)))
    base = dataclasses.replace(get("laptop"), plan=False, autocast=True, schedule=schedule)
    plain = to_plain(base)
    for switch in design.SWITCHES:
        changed = to_plain(switch.change(base))
        different = [name for name in plain if plain[name] != changed[name]]
        assert len(different) == 1, switch.name
        assert switch.against == "ours"
    names = [entry.name for entry in design.VARIANTS]
    assert len(set(names)) == len(names)


def test_the_ladder_differs_in_the_network_alone():
    configs = [entry.change(get("laptop")) for entry in design.LADDER]
    assert len({config.model for config in configs}) == len(configs)
    assert len({json.dumps(to_plain(dataclasses.replace(config, model="plain"))) for config in configs}) == 1
    assert {config.model for config in configs} <= NETWORKS.keys()
    assert [entry.against for entry in design.LADDER] == [None, *(entry.name for entry in design.LADDER[:-1])]


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """Study four variants with small runs in this process; lists the runs."""
    monkeypatch.setattr(design, "VARIANTS", (*design.LADDER[:1], design.LADDER[3], *design.VARIANTS[5:7]))
    return plan_here(monkeypatch)


def study(scenes, out, *arguments: object, status: int = 0) -> None:
    assert main.run(["study", "design", "--data", str(scenes), "--out", str(out), *map(str, arguments)]) == status


def test_a_study_writes_its_files_and_keeps_finished_runs(trained, scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(design, "NEAR", 100.0)
    out = tmp_path / "study"
    study(scenes, out, "--minutes", 0.02, "--seeds", 2, "--json")
    result = json.loads(capsys.readouterr().out)
    assert result == read_json(out / "design.json")
    rows = {entry["name"]: entry for entry in result["variants"]}
    assert list(rows) == ["plain", "residual-sgd", "ours", "adamw"]
    # nothing is near a diverged network
    assert trained == ["ours/0", "plain/0", "residual-sgd/0", "adamw/0", "ours/1", "adamw/1"]
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
    study(scenes, out, "--seeds", 0, status=1)
    assert "--seeds is 0; expected 1 or more" in capsys.readouterr().err
    study(scenes, out, "--minutes", 0.03, status=1)
    assert f"{out} was begun with another minutes; name another --out" in capsys.readouterr().err


def test_val_is_not_opened_and_only_near_variants_are_repeated(trained, scenes, tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    shutil.copytree(scenes, data, ignore=shutil.ignore_patterns("packed"))
    (data / "val.txt").unlink()
    shutil.rmtree(data / "images" / "val")
    monkeypatch.setattr(design, "NEAR", -1.0)
    monkeypatch.setattr(design, "draw_design", lambda study, path: None)
    study(data, tmp_path / "study", "--minutes", 0.01, "--seeds", 2)
    assert [name for name in trained if name.endswith("/1")] == ["ours/1"]
    assert "adamw, seed 0: 4 of 4 with this seed" in capsys.readouterr().err


def test_the_table_names_what_was_measured(tmp_path):
    variants = [variant("ours", 30.0, 31.0, 32.0, against=None), variant("x", 31.0)]
    result = DesignStudy(
        config=dataclasses.replace(get("laptop"), threads=2),
        environment=environment(),
        data=HeldOutImages(folder="d", held_out=9),
        variants=judge(variants, classes=100, images=9),
        reference="ours",
        guessing_loss=4.6,
    )
    text = runs.write_study(tmp_path, "design", result, lambda study, path: None)
    assert "between seeds is 1.00 points" in text
    measured = "10 | 100 | 2.0 | 31.00 (30.0–32.0, n 3) | 50.00 | 2.000 | – | the reference |"
    assert f"| ours | what ours is | {measured}" in text
    assert "31.00 (n 1) | 50.00 | 2.000 | +0.00 ± 4.97 | within noise |" in text
