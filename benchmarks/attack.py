"""Benchmark of PGD against torchattacks and foolbox: the same steps on the same images, alternately in one process."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from scenelab.attacks import PGD, Linf
from scenelab.errors import LabError
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.models.registry import create_model
from scenelab.runs.provenance import environment
from scenelab.studies.timing import interleave, ratio, seconds_of

EPSILON, STEP, STEPS = 8 / 255, 2 / 255, 10
Attack = Callable[[], Tensor]


def bench_attack(*, rounds: int = 5, batch: int = 64, size: int = 128) -> dict[str, Any]:
    """Compare PGD-10 on SimpleNet: ours, ours with early stopping, torchattacks and foolbox.

    The network has random weights (He et al. 2015). The labels are its predictions, so that early stopping has an
    effect. Our attack uses `prepare_for_inference`; the other libraries attack the original network. Ratios are our
    seconds over theirs, so lower is better.

    Args:
        rounds: number of measurements per attack, taken in turns.
        batch: number of images.
        size: side of the images in pixels, 16 or more.
    """
    model, images, labels = _task(batch, size)
    subjects = _subjects(model, images, labels)
    results = {name: attack() for name, attack in subjects.items()}  # warms up
    seconds = interleave(subjects, lambda name: seconds_of(subjects[name]), rounds)["seconds"]
    return {
        "pgd_vs_torchattacks": ratio(seconds, "ours", "torchattacks"),
        "pgd_vs_foolbox": ratio(seconds, "ours", "foolbox"),
        "leaving_vs_torchattacks": ratio(seconds, "ours, leaving", "torchattacks"),
        "seconds": seconds,
        "fooled": {name: float((_predict(model, each) != labels).float().mean()) for name, each in results.items()},
        "same_images": {
            name: (results["ours"] - results[name]).abs().flatten(1).amax(dim=1).le(1e-5).float().mean().item()
            for name in ("torchattacks", "foolbox")
        },
        "what": f"SimpleNet (spring 2019), {size} pixels, batch {batch}, PGD with {STEPS} steps, no random start",
        "environment": environment().to_json(),
    }


def _task(batch: int, size: int) -> tuple[Classifier, Tensor, Tensor]:
    torch.manual_seed(0)
    model = create_model("simplenet", num_classes=100).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    images = torch.rand(batch, 3, size, size)
    return model, images, _predict(model, images)


def _subjects(model: Classifier, images: Tensor, labels: Tensor) -> dict[str, Attack]:
    try:
        import foolbox
        import torchattacks
    except ImportError as error:
        raise LabError(f"{error.name} is not installed; the comparison needs it: pip install {error.name}") from error
    ready, laid = prepare_for_inference(model), images.contiguous(memory_format=torch.channels_last)
    options: dict[str, Any] = {"threat": Linf(EPSILON), "batch_size": len(images)}
    full = PGD(steps=STEPS, step_size=STEP, early_stop=False, keep_best=False)
    theirs = torchattacks.PGD(model, eps=EPSILON, alpha=STEP, steps=STEPS, random_start=False)
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1))  # pyright: ignore[reportPrivateImportUsage]
    other = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)
    return {
        "ours": lambda: full(ready, laid, labels, **options).images,
        "ours, leaving": lambda: PGD(steps=STEPS, step_size=STEP)(ready, laid, labels, **options).images,
        "torchattacks": lambda: theirs(images, labels),
        "foolbox": lambda: other(bounded, images, labels, epsilons=[EPSILON])[1][0],
    }


@torch.no_grad()
def _predict(model: Classifier, images: Tensor) -> Tensor:
    return model(images).argmax(dim=1)
