"""scenelab bench conv: the subjects do the same work, and what the command prints."""

import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from scenelab.cli import main
from scenelab.runtime import peak_memory, resident_memory
from scenelab.studies import conv_step
from scenelab.studies.conv_speed import LayerTrial, conv_layers, measure_layer
from scenelab.studies.conv_step import IMPLEMENTATIONS, make_step
from scenelab.studies.textbook_conv import TextbookConv2d
from scenelab.studies.timing import interleave

MIB = 2**20


@pytest.mark.parametrize(("kernel", "stride", "padding", "bias"), [(3, 1, 1, True), (7, 2, 3, False), (1, 1, 0, True)])
def test_the_textbook_convolution_is_right(kernel, stride, padding, bias):
    torch.manual_seed(0)
    module = TextbookConv2d(3, 5, kernel, stride=stride, padding=padding, bias=bias).double()
    images = torch.randn(2, 3, 11, 8, dtype=torch.float64, requires_grad=True)
    inputs = [images, *module.parameters()]
    output = module(images)
    expected = F.conv2d(images, module.weight, module.bias, stride, padding)
    torch.testing.assert_close(output, expected)
    grad = torch.randn_like(expected)
    grads, expected_grads = (torch.autograd.grad(result, inputs, grad) for result in (output, expected))
    torch.testing.assert_close(grads, expected_grads)
    torch.relu_(module(images)).sum().backward()  # an in-place ReLU may follow
    assert module.weight.grad is not None


def test_the_layers_are_those_of_simplenet_in_their_real_inputs():
    layers = conv_layers(64, 128)
    kinds = [(layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.input_shape[2]) for layer in layers]
    narrow = [(64, 64, 1, 32), (64, 64, 3, 32), (64, 256, 1, 32), (256, 64, 1, 16), (64, 64, 3, 16), (64, 256, 1, 16)]
    assert kinds == [(3, 64, 7, 128), *narrow, (256, 512, 3, 8)]
    assert {layer.input_shape[0] for layer in layers} == {64}
    assert [layer.needs_input_grad for layer in layers] == [False] + [True] * 7
    assert str(layers[0]) == "conv 7×7/2 3→64, 128×128"


def test_a_layer_is_the_same_work_for_all_and_all_agree():
    for layer in conv_layers(2, 16):
        first, *others = (LayerTrial(layer, name) for name in IMPLEMENTATIONS)
        for trial in (first, *others):
            assert torch.equal(first.images, trial.images)
            assert torch.equal(first.grad, trial.grad)
            assert trial.grad.is_contiguous(memory_format=torch.channels_last)
            assert len(trial.results()) == 3 + layer.needs_input_grad


def test_a_layer_is_timed_and_compared(monkeypatch):
    layer = conv_layers(2, 16)[2]
    row = measure_layer(layer, rounds=2)
    for part in ("forward", "backward", "both"):
        assert set(row[part]["seconds"]) == {"native", "ours", "textbook"}
        assert all(len(values) == 2 and min(values) > 0 for values in row[part]["seconds"].values())
        assert row[part]["ours_vs_native"]["n"] == 2
    assert row["error_vs_native"]["native"] == 0
    assert 0 < row["error_vs_native"]["textbook"] < 1e-5
    assert row["error_vs_native"]["ours"] < 1e-4

    class Wrong(torch.nn.Conv2d):
        def forward(self, input):
            return 1.01 * super().forward(input)

    monkeypatch.setitem(IMPLEMENTATIONS, "ours", Wrong)
    assert measure_layer(layer, rounds=1)["error_vs_native"]["ours"] > 5e-3


def test_rounds_run_in_turns_and_back():
    order = []

    def measure(name):
        order.append(name)
        return {"part": float(len(order))}

    times = interleave("abc", measure, 3)
    assert "".join(order) == "abccbaabc"
    assert times == {"part": {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}}


def test_all_subjects_take_the_same_training_steps():
    steps = {name: make_step(name, 4, 16) for name in IMPLEMENTATIONS}
    losses = {name: [step() for _ in range(3)] for name, step in steps.items()}
    assert losses["native"][0] > losses["native"][2]
    assert losses["ours"] == pytest.approx(losses["native"], rel=1e-4)
    assert losses["textbook"] == pytest.approx(losses["native"], rel=1e-4)


def test_the_peak_of_a_small_process_is_not_that_of_its_large_parent():
    block = torch.ones(400 * MIB, dtype=torch.uint8)
    assert peak_memory() >= resident_memory() > len(block)
    code = "from scenelab.runtime import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 * MIB
    del block


def test_without_proc_the_peak_comes_from_getrusage(monkeypatch, tmp_path):
    monkeypatch.setattr("scenelab.runtime.STATUS", tmp_path / "status")
    assert min(peak_memory(), resident_memory()) > 50 * MIB


@pytest.mark.parametrize("prepared", [True, False])
def test_a_step_is_measured_in_a_fresh_process(prepared):
    figures = conv_step.measure_step("textbook", batch=8, size=32, threads=1, prepared=prepared)
    assert figures["peak_bytes"] > figures["increase_bytes"] > 8 * MIB
    assert 0 < figures["seconds"] < 60


@pytest.fixture
def in_this_process(monkeypatch):
    """Take the steps without starting a process for each."""

    def measure(implementation, *, batch, size, threads, prepared):
        before = torch.get_num_threads()
        figures = conv_step.worker(implementation, batch, size, threads)
        torch.set_num_threads(before)
        assert figures["peak_bytes"] > figures["increase_bytes"]  # this process may give memory back meanwhile
        seconds = {"native": 1.0, "ours": 0.5, "textbook": 2.0 + 2 * prepared}[implementation]
        increase = {"native": 100, "ours": 110, "textbook": 330}[implementation] * MIB
        return {"seconds": seconds, "peak_bytes": 300 * MIB, "increase_bytes": increase}

    monkeypatch.setattr("scenelab.studies.conv_speed.measure_step", measure)
    monkeypatch.setattr("scenelab.studies.conv_speed.MIN_SECONDS", 0.0)


@pytest.mark.usefixtures("in_this_process")
def test_the_command_gives_three_ratios_of_a_plain_process_and_all_details(capsys):
    before = torch.get_num_threads()
    assert main.run(["bench", "conv", "--json", "--rounds", "2", "--batch", "2", "--size", "16", "--threads", "1"]) == 0
    assert torch.get_num_threads() == before
    result = json.loads(capsys.readouterr().out)
    ratios = {"memory_vs_native": 1.1, "step_vs_native": 0.5, "textbook_vs_ours": 4}
    assert {name: result[name] for name in ratios} == pytest.approx(ratios)
    assert result["prepared"]["textbook_vs_ours"] == pytest.approx(8)
    assert result["steps"]["plain"]["memory"]["textbook_vs_ours"]["median"] == pytest.approx(3)
    assert result["steps"]["prepared"]["memory"]["ours_vs_native_whole_process"]["median"] == 1
    # 16 pixels end in layers of one pixel; all eight are distinct still
    assert len(result["layers"]) == 8
    assert result["environment"]["cores"] >= 1


@pytest.mark.usefixtures("in_this_process")
def test_without_json_the_command_prints_tables(capsys):
    assert main.run(["bench", "conv", "--rounds", "1", "--batch", "2", "--size", "16"]) == 0
    text = capsys.readouterr().out
    parts = "conv 7×7/2|whole training step|t/o|plain process|prepared process|step_vs_native: 0.50|native: 1.10"
    assert [part for part in parts.split("|") if part not in text] == []


@pytest.mark.parametrize(
    ("flag", "value", "least"), [("rounds", 0, 1), ("batch", 0, 1), ("size", 8, 16), ("threads", -1, 0)]
)
def test_invalid_settings_are_refused(flag, value, least, capsys):
    assert main.run(["bench", "conv", f"--{flag}", str(value)]) == 1
    assert f"--{flag} is {value}; expected {least} or more" in capsys.readouterr().err
