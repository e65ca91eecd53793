"""Evaluate a trained network for the handout's `main.py`: accuracy, attention maps, the student's attack."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from scenelab.course.handout.training import LOGS, device_of, lookup
from scenelab.data.augment import resize
from scenelab.data.cache import MemmapDataset
from scenelab.data.splits import open_dataset
from scenelab.errors import LabError
from scenelab.evaluation.metrics import hits, predict_logits, top_k
from scenelab.models.normalize import Classifier
from scenelab.models.simplenet import Factory
from scenelab.progress import progress
from scenelab.runs.network import read_classifier
from scenelab.training.recipes import starter
from scenelab.training.session import available_cores
from scenelab.training.trainer import pick_device

BATCH_SIZE, COLUMNS = 100, 10  # images of a grid, and of its rows


@dataclass(frozen=True)
class Judged:
    """A checkpoint's model on its device, the side at which it is evaluated, and the val images."""

    model: Classifier
    size: int
    val: MemmapDataset
    device: torch.device

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield normalised images in batches of a hundred, with their labels."""
        for start in range(0, len(self.val), BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            images = self.val.gather(rows).to(self.device).float().div_(255)
            with torch.no_grad():
                yield self.model.normalize(resize(images, self.size)), self.val.labels[rows]


def open_judged(data: Path, checkpoint: str, factory: Factory, gpu: int) -> Judged:
    """Load a checkpoint's model and open val.

    Raises:
        LabError: no checkpoint was given, or it does not fit the network or the data.
    """
    if not checkpoint:
        raise LabError("-e and -a need a trained model; say which with --resume=../models/model_best.pth.tar")
    torch.set_num_threads(available_cores())
    device = pick_device(device_of(gpu))
    stored = read_classifier(Path(checkpoint), factory=factory)
    print(f"=> loaded checkpoint '{checkpoint}' (epoch {stored.epoch})")
    val = open_dataset(data, None, "val", starter().stored_size)
    if len(stored.categories) != len(val.categories):
        raise LabError(f"{checkpoint} knows {len(stored.categories)} classes, {data} has {len(val.categories)}")
    model = stored.model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return Judged(model, stored.size, val, device)


def evaluate(data: Path, checkpoint: str, factory: Factory, *, gpu: int = -1) -> None:
    """Evaluate a checkpoint on val, averaged with mirror images, and print the handout's last line."""
    judged = open_judged(data, checkpoint, factory, gpu)
    logits = predict_logits(judged.model, judged.val, size=judged.size, mirror=True, device=judged.device)
    labels = judged.val.labels
    print(f"******Acc@1 {top_k(logits, labels, 1):.3f} Acc@5 {top_k(logits, labels, 5):.3f}")


def log_attention(data: Path, checkpoint: str, factory: Factory, student_code: ModuleType, *, gpu: int = -1) -> None:
    """Draw the attention maps of all val images to `../logs`, a grid of a hundred per step.

    The student's `default_attention` and `default_visfunction` work on normalised images, as in the handout.

    Raises:
        LabError: student_code.py lacks these names, or the attention does not return maps.
    """
    attention, show = (lookup(student_code, name) for name in ("default_attention", "default_visfunction"))
    judged, attention = open_judged(data, checkpoint, factory, gpu), attention(torch.nn.CrossEntropyLoss())
    with SummaryWriter(str(LOGS)) as writer, progress("attention maps", len(judged.val)) as advance:
        for step, (images, _) in enumerate(judged.batches()):
            maps = attention.explain(judged.model.network, images)
            _require_shape("explain", maps, (len(images), 1, *images.shape[2:]), images)
            writer.add_image("Image/Image_Atten", show(images, n_rows=COLUMNS, vis_output=maps), step)
            advance(len(images))
    _print_hint("Attention maps")


def attack(
    data: Path, checkpoint: str, factory: Factory, student_code: ModuleType, *, gpu: int = -1, vis: bool = False
) -> None:
    """Attack all val images with the student's `default_attack` and print clean and attacked accuracy.

    The attack works on normalised images, as in the handout; mirror images do not count. With `vis`, draw original and
    adversarial images to `../logs`, a grid of a hundred per step.

    Raises:
        LabError: student_code.py lacks these names, or the attack does not return images.
    """
    attacker = lookup(student_code, "default_attack")(torch.nn.CrossEntropyLoss())
    show = lookup(student_code, "default_visfunction") if vis else None
    judged = open_judged(data, checkpoint, factory, gpu)
    counts, largest = {"clean": torch.zeros(2), "attacked": torch.zeros(2)}, 0.0
    with SummaryWriter(str(LOGS)) if vis else nullcontext() as writer, progress("attack", len(judged.val)) as advance:
        for step, (images, labels) in enumerate(judged.batches()):
            adversarial = attacker.perturb(judged.model.network, images)
            _require_shape("perturb", adversarial, tuple(images.shape), images)
            largest = max(largest, (adversarial - images).abs().max().item())
            for batch, count, name in zip((images, adversarial), counts.values(), ("Org", "Adv"), strict=True):
                with torch.no_grad():
                    scores = judged.model.network(batch).cpu()
                count += torch.tensor([hits(scores, labels, k).sum() for k in (1, 5)])
                if writer is not None and show is not None:
                    writer.add_image(f"Image/{name}_Image", show(batch, n_rows=COLUMNS), step)
            advance(len(images))
    if vis:
        _print_hint("Original and adversarial images")
    print(f"Largest change of a normalised value: {largest:.4f}")
    for name, count in counts.items():
        top1, top5 = (100 * count / len(judged.val)).tolist()
        print(f"=> {name}:\n******Acc@1 {top1:.3f} Acc@5 {top5:.3f}")


def _print_hint(what: str) -> None:
    options = f"--logdir={LOGS} --samples_per_plugin images=1000"  # it keeps ten images per tag by default
    print(f"{what}: tensorboard {options}, tab Images; the slider moves through the batches.")


def _require_shape(function: str, result: Any, expected: tuple[int, ...], images: Tensor) -> None:
    if not isinstance(result, Tensor) or tuple(result.shape) != expected:
        got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise LabError(f"{function} returned {got} for images {tuple(images.shape)}; expected a tensor {expected}")
