"""python -m benchmarks NAME: what each prints; the comparisons themselves run with tiny settings."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import efficiency
from benchmarks.efficiency import bench_efficiency
from benchmarks.evaluate import two_passes
from benchmarks.run import BENCHMARKS, run

from scenelab.evaluation.precision import predict_mirrored
from scenelab.models.flops import count_flops
from scenelab.runs.loading import open_run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch, capsys):
    """Run a benchmark in this process and return its result; its children import the benchmarks too."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")

    def result(*arguments: object) -> dict:
        assert run([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return result


def test_the_entry_is_a_process_with_an_exit_status():
    command = [sys.executable, "-m", "benchmarks", "scaling", "--side", "96", "--flops", "1e8", "--json"]
    assert json.loads(subprocess.run(command, cwd=ROOT, capture_output=True).stdout)["side"] == 96
    assert run(["unknown"]) == 2


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        run([name, "--help"])
    assert stop.value.code == 0
    assert f"python -m benchmarks {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "ratio", "subjects"),
    [
        ("data", "packed_vs_imagefolder", "packed imagefolder packed-augment imagefolder-augment"),
        ("train", "train_vs_starter", "ours starter"),
    ],
)
def test_subjects_are_compared_in_one_run(name, ratio, subjects, scenes, bench, monkeypatch):
    monkeypatch.setattr(efficiency, "MATRICES", (64,))
    result = bench(name, "--data", scenes, "--rounds", 1, "--seconds", 0.2)
    assert result[ratio]["n"] == 1
    assert result[ratio]["median"] > 0
    assert set(result["images_per_second"]) == set(subjects.split())


@pytest.mark.slow
def test_scale_compares_in_one_run(bench, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.scale.PRECISIONS", ("float32",))
    result = bench("scale", "--rounds", 1, "--seconds", 0.2, "--side", 16)
    assert result["efficiency"] == result["by_precision"][result["precision"]]
    assert set(result["images_per_second"]) == {"processes float32", "threads float32"}
    assert result["efficiency"]["n"] == 1
    assert run(["scale", "--processes", "1"]) == 1
    assert "--processes is 1; expected 2 or more" in capsys.readouterr().err


def test_attack_compares_with_other_libraries(bench):
    pytest.importorskip("foolbox")
    pytest.importorskip("torchattacks")
    result = bench("attack", "--rounds", 1, "--batch", 2, "--size", 16)
    assert result["pgd_vs_foolbox"]["n"] == result["pgd_vs_torchattacks"]["n"] == 1
    assert result["same_images"] == {"torchattacks": 1, "foolbox": 1}


def test_evaluate_compares_predictions_too(bench, untrained, monkeypatch):
    monkeypatch.setattr("scenelab.evaluation.precision.MIN_IMAGES", 1)
    monkeypatch.setattr("scenelab.evaluation.precision.measure_bfloat16", lambda forward: 1e-6)
    result = bench("evaluate", "--run", untrained.folder, "--images", 20, "--rounds", 2)
    assert result["two_passes_vs_auto"]["n"] == result["two_passes_vs_float32"]["n"] == 2
    assert {len(values) for values in [*result["seconds"].values(), *result["cpu_seconds"].values()]} == {2}
    assert result["precision"].startswith("bfloat16, ")
    assert set(result["top1"]) == {"two passes", "float32", "auto"}
    assert result["top1"]["float32"] == result["top1"]["two passes"]
    assert 0 <= result["changed_predictions"] < 20
    assert "20 images, 32 pixels" in result["what"]
    opened = open_run(untrained.folder)
    logits = predict_mirrored(opened.stored.model, opened.dataset, size=32, precision="float32").mirrored
    torch.testing.assert_close(two_passes(opened.stored.model, opened.dataset, 32), logits, rtol=0, atol=1e-5)


def test_compare_names_what_became_slower(bench, tmp_path, capsys):
    results = [
        {
            "seconds_vs_theirs": {"median": ratio, "min": 1, "max": 9, "n": 3},
            "seconds": {"ours": [1, 1, seconds], "theirs": [2, 2, 2]},
            "images_per_second": {"train": {"alone": [speed]}},
            "cpu_seconds_each": 5 * seconds,
            "what": "seconds",
            "environment": {"processor": machine},
        }
        for ratio, seconds, speed, machine in ((2, 9, 100, "A"), (1, 9, 92, "A"), (2, 9.5, 80, "A"), (2, 9, 100, "B"))
    ]
    paths = [tmp_path / f"{number}.json" for number in range(len(results))]
    for path, result in zip(paths, results, strict=True):
        path.write_text(json.dumps(result))
    assert bench("compare", paths[0], paths[1]) == {"compared": 4, "slower": 0}
    slower = {"images_per_second train alone": "1.25 times as slow"}
    assert bench("compare", paths[0], paths[2]) == {"compared": 4, "slower": 1, **slower}
    results[2]["seconds"]["ours"][1] = 3
    paths[2].write_text(json.dumps(results[2]))
    assert bench("compare", paths[0], paths[2])["seconds ours"] == "3.00 times as slow"
    assert run(["compare", str(paths[0]), str(paths[3])]) == 1
    assert f"{paths[0]} is from A, {paths[3]} from B; measure both on one machine" in capsys.readouterr().err


def test_efficiency_reports_the_faster_precision(monkeypatch):
    monkeypatch.setattr(efficiency, "MATRICES", (8, 256))  # 8 is nearly all overhead
    result = bench_efficiency(rounds=2, seconds=0.01, side=32)
    rates = result["flops_per_second"]
    assert set(rates) == {f"{what} {name}" for what in ("step", "product") for name in ("float32", "bfloat16")}
    assert all(len(values) == 2 and min(values) > 0 for values in rates.values())
    assert result["training_flops_per_image"] == count_flops("residual", num_classes=100, side=32, training=True)
    faster = max(("float32", "bfloat16"), key=lambda name: sum(rates[f"step {name}"]))
    assert result["precision"] == faster
    assert result["step_vs_product"] == result["by_precision"][faster]
    assert set(result["product_side"].values()) == {256}
