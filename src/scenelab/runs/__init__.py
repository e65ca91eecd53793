"""Run folders: configs, checkpoints, provenance, and the trained network."""

from typing import TYPE_CHECKING

from scenelab.lazy import lazy_exports

if TYPE_CHECKING:
    from scenelab.runs.checkpoint import load_checkpoint, save_checkpoint
    from scenelab.runs.config import (
        AdversarialConfig,
        FinetuneConfig,
        OptimizerConfig,
        RunConfig,
        ScheduleConfig,
        TrainConfig,
    )
    from scenelab.runs.loading import open_images, open_network, open_run, read_network
    from scenelab.runs.network import read_classifier
    from scenelab.runs.pretrained import example_images, list_pretrained
    from scenelab.runs.run import Run
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = [
    "AdversarialConfig",
    "FinetuneConfig",
    "OptimizerConfig",
    "Run",
    "RunConfig",
    "ScheduleConfig",
    "TrainConfig",
    "example_images",
    "list_pretrained",
    "load_checkpoint",
    "open_images",
    "open_network",
    "open_run",
    "read_classifier",
    "read_network",
    "save_checkpoint",
]
