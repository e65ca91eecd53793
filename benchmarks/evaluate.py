"""Benchmark of evaluation: two passes in float32, as it once was, against one, and against bfloat16."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scenelab.data.augment import resize
from scenelab.data.cache import MemmapDataset
from scenelab.evaluation.metrics import BATCH, top_k
from scenelab.evaluation.precision import predict_mirrored
from scenelab.evaluation.predict import spread_rows
from scenelab.models.normalize import Classifier
from scenelab.runs.loading import open_run
from scenelab.runs.provenance import environment
from scenelab.studies.timing import Measurements, interleave, ratio, seconds_of


def bench_evaluate(*, run: Path, data: Path | None = None, images: int = 10_000, rounds: int = 5) -> dict[str, Any]:
    """Compare evaluations with mirror images: two float32 passes, one batch in float32, and one in automatic precision.

    Ratios are the seconds of two passes over those of the others: higher is better.

    Args:
        run: a run folder.
        data: a data folder, by default that of the run.
        images: largest number of images, evenly spread.
        rounds: number of measurements per subject, taken in turns.
    """
    opened = open_run(run, data=data)
    stored, dataset = opened.stored, opened.dataset
    dataset = dataset.subset(np.array(spread_rows(len(dataset), images)), split=dataset.split, name="spread")
    two_passes(stored.model, dataset, stored.size)  # warms up, and reads the images
    subjects = {
        "two passes": lambda: two_passes(stored.model, dataset, stored.size),
        "float32": lambda: predict_mirrored(stored.model, dataset, size=stored.size, precision="float32"),
        "auto": lambda: predict_mirrored(stored.model, dataset, size=stored.size),
    }
    outputs: dict[str, Any] = {}

    def measure(name: str) -> Measurements:
        began = time.process_time()
        seconds = seconds_of(lambda: outputs.update({name: subjects[name]()}))
        return {**seconds, "cpu_seconds": time.process_time() - began}

    values = interleave(subjects, measure, rounds)
    logits = {name: output if isinstance(output, Tensor) else output.mirrored for name, output in outputs.items()}
    changed = logits["auto"].argmax(dim=1) != logits["two passes"].argmax(dim=1)
    return {
        **{f"two_passes_vs_{name}": ratio(values["seconds"], "two passes", name) for name in ("float32", "auto")},
        **values,
        "precision": outputs["auto"].precision,
        "top1": {name: top_k(each, dataset.labels, 1) for name, each in logits.items()},
        "changed_predictions": int(changed.sum()),
        "what": f"{stored.arch}, {len(dataset)} images, {stored.size} pixels; {torch.get_num_threads()} threads",
        "environment": environment().to_json(),
    }


@torch.no_grad()
def two_passes(model: Classifier, dataset: MemmapDataset, size: int) -> Tensor:
    """Return the mean logits of image and mirror image, one pass for each, with normalization layers of their own."""
    parts = []
    for start in range(0, len(dataset), BATCH):
        images = resize(dataset.gather(np.arange(len(dataset))[start : start + BATCH]).float().div_(255), size)
        images = images.contiguous(memory_format=torch.channels_last)
        parts.append((model(images) + model(images.flip(-1))) / 2)
    return torch.cat(parts)
