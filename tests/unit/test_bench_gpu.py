"""The check of a GPU finds a device whose numbers differ from the CPU's."""

import pytest
import torch
from benchmarks import gpu

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", [name for name in gpu.cases() if "occlusion" not in name])
def test_every_comparison_of_the_cpu_with_itself_passes(name):
    row = gpu.compare(name, gpu.cases()[name], CPU, "float32")
    assert row["passed"]
    assert row["difference"] < 1e-5  # products round by the alignment of memory


def test_bfloat16_is_near_and_is_not_exact():
    row = gpu.compare("convolution", lambda device: gpu.convolved(device, 3, 1, 1), CPU, "bfloat16")
    assert row["passed"]
    assert row["difference"] > 1e-3


def test_a_wrong_number_and_a_missing_operation_fail():
    values = iter([1.0, 1.01])
    row = gpu.compare("wrong", lambda device: [torch.tensor([next(values)])], CPU, "float32")
    assert not row["passed"]
    calls = iter([torch.ones(1)])

    def once(device):
        try:
            return [next(calls)]
        except StopIteration:
            raise NotImplementedError("no kernel") from None

    assert gpu.compare("missing", once, CPU, "float32") == {
        "name": "missing",
        "precision": "float32",
        "passed": False,
        "error": "no kernel",
    }


def test_a_machine_without_a_gpu_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "pick_device", lambda name: CPU)
    with pytest.raises(gpu.LabError, match="no GPU was found"):
        gpu.bench_gpu(out=tmp_path / "gpu.json")
    assert not (tmp_path / "gpu.json").exists()
