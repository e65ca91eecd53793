"""PGD against two well-known libraries: the same steps on the same images, in turns in one process."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from scenelab.attacks import Linf, pgd
from scenelab.bench.measure import ratio
from scenelab.errors import LabError
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.models.registry import create
from scenelab.runs.provenance import environment

EPSILON, STEP, STEPS = 8 / 255, 2 / 255, 10
Attack = Callable[[], Tensor]


def bench_attack(*, batch: int, size: int, rounds: int) -> dict[str, Any]:
    """Seconds of PGD-10 on SimpleNet by ours, ours with early leaving, torchattacks and foolbox.

    The network has random weights of a size (He et al. 2015) at which its answers depend on the images, and labels are
    what it says, so that early leaving has something to do. Ours attacks it made ready for inference, which is part of
    what it offers; the others are given the network as it is.

    Raises:
        LabError: torchattacks or foolbox is not installed.
    """
    model, images, labels = _task(batch, size)
    contestants = _contestants(model, images, labels)
    results = {name: attack() for name, attack in contestants.items()}  # warms up
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in list(contestants)[:: 1 if number % 2 == 0 else -1]:
            began = time.perf_counter()
            contestants[name]()
            seconds[name].append(time.perf_counter() - began)
    return {
        "pgd_vs_torchattacks": ratio(seconds, "ours", "torchattacks"),
        "pgd_vs_foolbox": ratio(seconds, "ours", "foolbox"),
        "leaving_vs_torchattacks": ratio(seconds, "ours, leaving", "torchattacks"),
        "seconds": seconds,
        "fooled": {name: _fooled(model, found, labels) for name, found in results.items()},
        "same_images": {
            name: (results["ours"] - results[name]).abs().flatten(1).amax(dim=1).le(1e-5).float().mean().item()
            for name in ("torchattacks", "foolbox")
        },
        "what": f"SimpleNet (spring 2019), {size} pixels, batch {batch}, PGD with {STEPS} steps, no random start",
        "environment": environment(),
    }


def _task(batch: int, size: int) -> tuple[Classifier, Tensor, Tensor]:
    torch.manual_seed(0)
    model = create("simplenet", num_classes=100).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    images = torch.rand(batch, 3, size, size)
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    return model, images, labels


def _contestants(model: Classifier, images: Tensor, labels: Tensor) -> dict[str, Attack]:
    try:
        import foolbox
        import torchattacks
    except ImportError as error:
        raise LabError(f"{error.name} is not installed; the comparison needs it: pip install {error.name}") from error
    ready, laid = prepare_for_inference(model), images.contiguous(memory_format=torch.channels_last)
    options: dict[str, Any] = {"ball": Linf(EPSILON), "steps": STEPS, "step_size": STEP, "batch_size": len(images)}
    theirs = torchattacks.PGD(model, eps=EPSILON, alpha=STEP, steps=STEPS, random_start=False)
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1))  # pyright: ignore[reportPrivateImportUsage]
    other = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)
    return {
        "ours": lambda: pgd(ready, laid, labels, leave=False, best=False, **options).images,
        "ours, leaving": lambda: pgd(ready, laid, labels, **options).images,
        "torchattacks": lambda: theirs(images, labels),
        "foolbox": lambda: other(bounded, images, labels, epsilons=[EPSILON])[1][0],
    }


def _fooled(model: Classifier, images: Tensor, labels: Tensor) -> float:
    """Share of the images that are taken for something else."""
    with torch.no_grad():
        return (model(images).argmax(dim=1) != labels).float().mean().item()
