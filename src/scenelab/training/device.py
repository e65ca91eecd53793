"""The device of a training run, and the settings that it supports."""

import dataclasses
import warnings

import torch

from scenelab.errors import LabError
from scenelab.runs.config import TrainConfig

COMPILED = ("cpu", "cuda")  # devices for which torch.compile is complete


def pick_device(name: str) -> torch.device:
    """Return the torch device with this name; `auto` selects a CUDA GPU, else Apple's GPU (`mps`), else the CPU.

    Raises:
        LabError: the device is unknown, not available, or cannot compute (`meta`).
    """
    available = [kind for kind in ("cuda", "mps", "xpu") if getattr(torch, kind).is_available()]
    if name == "auto":
        name = next((kind for kind in ("cuda", "mps") if kind in available), "cpu")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names that torch has given up, such as mkldnn
            device = torch.device(name)
            torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:  # torch without CUDA raises AssertionError
        raise LabError(f"device is {name!r}; expected auto, {' or '.join(['cpu', *available])}") from error
    return device


def adapt(config: TrainConfig, device: torch.device) -> TrainConfig:
    """Return the config without settings that the device does not support: bfloat16, channels-last, torch.compile."""
    kind = device.type
    autocast = torch.amp.is_autocast_available(kind) and (kind != "cuda" or torch.cuda.is_bf16_supported())
    return dataclasses.replace(
        config,
        autocast=config.autocast and autocast,
        channels_last=config.channels_last and kind != "mps",  # several of its operations are wrong or slow there
        compile=config.compile and kind in COMPILED,
    )
