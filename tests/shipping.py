"""Networks and example images of the tests in the place of those that ship with the package."""

import shutil
from pathlib import Path

import torch

from scenelab.runs import pretrained
from scenelab.runs.export import export
from scenelab.runs.network import read_classifier


def ship(monkeypatch, package: Path, networks: dict[str, Path], example: Path) -> None:
    """Ship the networks of run folders by name, and an example image."""
    for name, run in networks.items():
        folder = package / name
        folder.mkdir(parents=True)
        shutil.copy(run / "config.json", folder)
        stored = read_classifier(run / "model_best.pth.tar")
        export(stored, torch.rand(2, 3, stored.size, stored.size), "safetensors", folder / "model.safetensors")
    (package / "examples").mkdir()
    shutil.copy(example, package / "examples")
    monkeypatch.setattr(pretrained, "FOLDER", package)
