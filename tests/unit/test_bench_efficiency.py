"""The step against the machine's matrix products."""

import torch

from scenelab.bench import efficiency
from scenelab.bench.efficiency import bench_efficiency, fastest_product
from scenelab.models.registry import count_flops


def test_both_precisions_are_measured_and_the_faster_is_reported(monkeypatch):
    monkeypatch.setattr(efficiency, "MATRICES", (32, 64))
    result = bench_efficiency(rounds=2, seconds=0.01, side=32)
    rates = result["flops_per_second"]
    assert set(rates) == {f"{what} {name}" for what in ("step", "product") for name in ("float32", "bfloat16")}
    assert all(len(values) == 2 and min(values) > 0 for values in rates.values())
    assert result["training_flops_per_image"] == count_flops("residual", num_classes=100, side=32, training=True)
    faster = max(("float32", "bfloat16"), key=lambda name: sum(rates[f"step {name}"]))
    assert result["precision"] == faster
    assert result["step_vs_product"] == result["by_precision"][faster]
    first = rates[f"step {faster}"][0] / rates[f"product {faster}"][0]
    assert result["step_vs_product"]["min"] <= first <= result["step_vs_product"]["max"]
    assert set(result["product_side"].values()) <= {32, 64}


def test_the_fastest_product_is_one_of_the_sides(monkeypatch):
    monkeypatch.setattr(efficiency, "MATRICES", (8, 256))  # 8 is nearly all overhead
    work, operations = fastest_product(torch.float32, 0.05)
    assert operations == 2 * 256**3
    assert work().shape == (256, 256)
