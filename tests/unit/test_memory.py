"""Batches that do not fit into memory are refused before the first step, with a size that fits."""

import dataclasses
import re

import pytest
import torch
from torch import nn

from runs_compared import QUIET, tiny
from scenelab.errors import LabError
from scenelab.runtime import free_memory
from scenelab.training import memory
from scenelab.training.distributed import SINGLE_PROCESS
from scenelab.training.memory import image_bytes, require_memory
from scenelab.training.session import start_run

CPU = torch.device("cpu")
MIB = 2**20


def require(config, **options) -> None:
    about = {"num_classes": 10, "images": 10**6, "device": CPU, "world": SINGLE_PROCESS, "factory": None}
    require_memory(config, **{**about, **options})


@pytest.fixture
def free(monkeypatch) -> int:
    monkeypatch.setattr(memory, "free_memory", lambda: 200 * MIB)
    return 200 * MIB


def test_a_batch_that_does_not_fit_is_refused_with_sizes_that_fit(free):
    config = dataclasses.replace(tiny(), batch_size=2**15)
    with pytest.raises(
        LabError, match=r"batch_size is 32768, .* needs about [\d.]+ GiB of memory; 0.2 GiB are free"
    ) as info:
        require(config)
    size, parts = map(int, re.findall(r"--batch-size (\d+), or --accumulate (\d+)", str(info.value))[0])
    assert size * parts == 2**15
    for fitting in ({"batch_size": size}, {"accumulate": parts}):
        require(dataclasses.replace(config, **fitting))
    with pytest.raises(LabError, match="batch_size"):
        require(dataclasses.replace(config, batch_size=4 * size))


def test_a_batch_is_at_most_all_images(free):
    config = dataclasses.replace(tiny(), batch_size=2**15)
    require(config, images=64)


def test_images_that_do_not_fit_alone(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    with pytest.raises(LabError, match="use smaller images or another network"):
        require(tiny())


def test_a_run_is_refused_before_it_begins(free, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: MIB)
    with pytest.raises(LabError, match="are free: use "):
        start_run(tmp_path / "run", scenes, tiny(), display=QUIET)
    assert not (tmp_path / "run" / "config.json").exists()


def test_bytes_of_an_image_are_those_that_autograd_keeps():
    config = dataclasses.replace(tiny(), stored_size=32, channels_last=False)
    config = dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, sizes=((0.0, 32),)))
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 32 * 32, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    maps, pixels = 4 * 8 * 32 * 32, 3 * 4 * 32 * 32
    expected = pixels + maps + 2 * maps + 4 * pixels + 3 * 32 * 32  # input, output of ReLU, gradients, augmentation
    assert image_bytes(model, config, CPU) == int(memory.MARGIN * expected)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_free_memory_is_below_that_of_the_machine():
    assert 10 * MIB < free_memory() < 2**45
