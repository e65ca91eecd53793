"""Check of a GPU, in under eight minutes: its numbers against the CPU's, training speed, and two processes."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scenelab.attacks import APGD, PGD, Linf
from scenelab.attribution import METHODS
from scenelab.conv import Conv2d
from scenelab.data.augment import warp
from scenelab.errors import LabError
from scenelab.io import write_json
from scenelab.models.registry import create_model
from scenelab.runs.provenance import TrainingResult, environment
from scenelab.runs.run import Run
from scenelab.training.device import pick_device
from scenelab.training.metrics_logger import read_metrics
from scenelab_scenes import write_scenes

TOLERANCES = {"float32": 1e-3, "bfloat16": 0.03}
"""Largest difference from the CPU's float32, relative to the largest value; sums have another order."""
SHAPES = ((3, 1, 1), (3, 2, 1), (1, 1, 0), (5, 1, 2), (4, 2, 1))  # kernel, stride, padding
Case = Callable[[torch.device], list[Tensor]]


def bench_gpu(*, device: str = "auto", minutes: float = 2.0, out: Path = Path("gpu.json")) -> dict[str, Any]:
    """Compare a GPU's results with the CPU's, train the recipe `gpu`, and train in two processes if there are two GPUs.

    Writes the result to `out`. A number that is too far from the CPU's is listed in `failures`.

    Args:
        device: device to check; `auto` is cuda, else mps.
        minutes: training time of the recipe `gpu`.
        out: the file to write.
    """
    place = pick_device(device)
    if device == "auto" and place.type == "cpu":
        raise LabError("no GPU was found; install a build of PyTorch for it, or name a --device")
    rows = [compare(name, case, place, precision) for name, case in cases().items() for precision in TOLERANCES]
    result = {
        "failures": [f"{row['name']} in {row['precision']}" for row in rows if not row["passed"]],
        "device": str(place),
        "environment": environment().to_json(),
        "comparisons": rows,
        "training": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(Path(folder) / "scenes", train_per_class=500)
        processes = min(2, torch.cuda.device_count()) if place.type == "cuda" else 1
        for count in range(1, processes + 1):
            trained = _train(Path(folder), str(place) if count == 1 else "cuda", minutes, count)
            result["training"][f"{count} process{'es' if count > 1 else ''}"] = trained
    write_json(out, result)
    return result


def compare(name: str, case: Case, device: torch.device, precision: str) -> dict[str, Any]:
    """Run a case on the CPU in float32 and on the device in a precision; return the largest relative difference."""
    expected = [value.detach() for value in case(torch.device("cpu"))]
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            values = [value.detach().float().cpu() for value in case(device)]
    except (RuntimeError, NotImplementedError) as error:
        return {"name": name, "precision": precision, "passed": False, "error": str(error).splitlines()[0]}
    pairs = zip(values, expected, strict=True)
    difference = max(float((value - other).abs().max() / other.abs().max().clamp_min(1e-12)) for value, other in pairs)
    return {
        "name": name,
        "precision": precision,
        "difference": difference,
        "passed": difference <= TOLERANCES[precision],
    }


def cases() -> dict[str, Case]:
    """Return the functions to compare, by name; each maps a device to tensors."""
    convolutions = {
        f"convolution {kernel}×{kernel}, stride {stride}": lambda device, shape=(kernel, stride, padding): convolved(
            device, *shape
        )
        for kernel, stride, padding in SHAPES
    }
    methods = {f"attribution {name}": lambda device, name=name: [METHODS[name](*_inputs(device))] for name in METHODS}
    attacks = {
        f"loss after {type(attack).__name__}": lambda device, attack=attack: attacked(device, attack)
        for attack in (PGD(steps=5), APGD(steps=5))
    }
    return {**convolutions, "network": trained_step, "augmentation": augmented, **methods, **attacks}


def convolved(device: torch.device, kernel: int, stride: int, padding: int) -> list[Tensor]:
    """Return output and gradients of scenelab's convolution."""
    torch.manual_seed(0)
    conv = Conv2d(64, 64, kernel, stride=stride, padding=padding).to(device)
    images = torch.rand(4, 64, 24, 28).to(device).requires_grad_()
    output = conv(images)
    return [output, *torch.autograd.grad(output.float().square().sum(), [images, *conv.parameters()])]


def trained_step(device: torch.device) -> list[Tensor]:
    """Return logits, and gradients of the weights, of the network `residual` in training."""
    model, images, labels = _inputs(device)
    logits = model.train()(images)
    loss = F.cross_entropy(logits.float(), labels)
    return [logits, *torch.autograd.grad(loss, [p for p in model.parameters() if p.ndim == 4])]


def augmented(device: torch.device) -> list[Tensor]:
    """Return images that were turned and cropped."""
    _, images, _ = _inputs(device)
    maps = torch.tensor([[0.6, -0.2, 0.1], [0.2, 0.5, -0.1]], device=device).expand(len(images), 2, 3)
    return [warp(images, maps, 48)]


def attacked(device: torch.device, attack: PGD | APGD) -> list[Tensor]:
    """Return the mean loss after an attack; single pixels may differ where a gradient is almost zero."""
    model, images, labels = _inputs(device)
    return [F.cross_entropy(model(attack(model, images, labels, threat=Linf(4 / 255)).images).float(), labels)[None]]


def _inputs(device: torch.device) -> tuple[torch.nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = create_model("residual", num_classes=12).to(device).eval()
    images = torch.randint(256, (8, 3, 64, 64), generator=torch.Generator().manual_seed(1)) / 255
    return model, images.to(device), (torch.arange(8) % 12).to(device)


def _train(folder: Path, device: str, minutes: float, processes: int) -> dict[str, Any]:
    """Train the recipe `gpu` by the command line, in two processes by torchrun; return its speed and accuracy."""
    run = Run(folder / f"run-{processes}")
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    options = ["--data", folder / "scenes", "--out", run.folder, "--minutes", minutes, "--device", device]
    command = [sys.executable, "-m", *launch, "scenelab", "train", "gpu", *options]
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)
    training = TrainingResult.read(run.results / "training.json").to_json()
    keys = ("images_per_second", "images_seen", "minutes", "processes", "peak_memory_bytes")
    top1 = [row["top1"] for row in read_metrics(run) if row.get("split") == "val"]
    return {**{key: training[key] for key in keys}, "top1": top1[-1]}
