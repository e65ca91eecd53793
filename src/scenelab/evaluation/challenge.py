"""The MiniPlaces challenge: five guesses an image in a text file, and the error that they are scored by.

A line an image, in the order of the file names: `test/00000001.jpg l1 l2 l3 l4 l5` with labels from 0. The winner has
the lowest top-5 error (github.com/CSAILVision/miniplaces).
"""

import re
from pathlib import Path
from typing import Any

import torch

from scenelab.data.decode import read_pictures
from scenelab.data.miniplaces import list_test, read_list
from scenelab.errors import LabError
from scenelab.io import atomic_write, read_json, read_text
from scenelab.progress import progress
from scenelab.runs.network import Stored
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run

GUESSES = 5
LARGEST_MODEL = 10_000_000  # bytes, the handout's
K40_SECONDS = 4 * 3600
K40_PEAK = 4.29e12  # float32 operations a second of an NVIDIA Tesla K40 at its base clock (data sheet, 2013)
BATCH = 100

Guesses = dict[str, tuple[int, ...]]  # by path, in order


@torch.no_grad()
def guess(stored: Stored, images: Path, names: list[str]) -> Guesses:
    """The five most likely labels of each image, mirror-averaged.

    Args:
        images: the folder that the names are relative to.
        names: `test/00000001.jpg`, …

    Raises:
        LabError: an image cannot be decoded, or the network knows fewer than five classes.
    """
    if len(stored.categories) < GUESSES:
        raise LabError(f"the network knows {len(stored.categories)} classes; the challenge takes {GUESSES} guesses")
    guesses: Guesses = {}
    with progress("guessing", len(names)) as advance:
        for start in range(0, len(names), BATCH):
            chosen = names[start : start + BATCH]
            batch = read_pictures([images / name for name in chosen], stored.size)
            batch = batch.contiguous(memory_format=torch.channels_last)
            best = (stored.model(batch) + stored.model(batch.flip(-1))).topk(GUESSES, dim=1).indices
            guesses |= {name: tuple(row) for name, row in zip(chosen, best.tolist(), strict=True)}
            advance(len(chosen))
    return guesses


def list_test_images(data: Path) -> list[str]:
    """Names of the images in `images/test`, sorted.

    Raises:
        LabError: there are none.
    """
    names = list_test(data)
    if not names:
        raise LabError(
            f"{data / 'images' / 'test'} holds no .jpg files; the challenge is about MiniPlaces' test images"
        )
    return names


def write_guesses(path: Path, guesses: Guesses) -> None:
    """Write the challenge's text file."""
    with atomic_write(path, "w") as file:
        file.writelines(f"{name} {' '.join(map(str, row))}\n" for name, row in guesses.items())


def read_guesses(path: Path) -> Guesses:
    """Read the challenge's text file.

    Raises:
        LabError: the file is missing, or a line is not a name and five labels, or names an image again.
    """
    guesses: Guesses = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, *labels = line.split()
        if len(labels) != GUESSES or not all(re.fullmatch("[0-9]{1,6}", label) for label in labels):
            raise LabError(f"{path} line {number} is {line[:80]!r}; expected a name and five labels from 0")
        if name in guesses:
            raise LabError(f"{path} line {number} names {name} a second time; keep one line an image")
        guesses[name] = tuple(map(int, labels))
    return guesses


def score(guesses: Guesses, labels: Path) -> list[float]:
    """Share of images whose label is not among the first 1, 2, … 5 guesses, in percent.

    Args:
        labels: a list of `path label` lines; each of its images must have been guessed, and no other.

    Raises:
        LabError: images are missing from the guesses or from the list.
    """
    truth = dict(read_list(labels))
    for missing, where in ((truth.keys() - guesses.keys(), "no guesses"), (guesses.keys() - truth.keys(), "no label")):
        if missing:
            raise LabError(f"{len(missing)} images have {where}, first {min(missing)}; both files must name the same")
    wrong = [0] * GUESSES
    for name, label in truth.items():
        for count in range(GUESSES):
            wrong[count] += label not in guesses[name][: count + 1]
    return [100 * count / len(truth) for count in wrong]


def make_card(run: Run) -> dict[str, Any]:
    """What the entry took, from the run's accounting, beside the challenge's frame.

    Raises:
        LabError: training is not finished, its operations were not counted, they are more than a K40 does at its peak
            in four hours, or the model is too large.
    """
    path = run.results / "training.json"
    if not path.exists():
        raise LabError(f"{run.folder} has no finished training; 'scenelab resume {run.folder}' finishes it")
    accounting = read_json(path)
    if not accounting.get("training_flops"):
        raise LabError(f"{path} does not count operations; train again with this version")
    if accounting["checkpoint_bytes"] > LARGEST_MODEL:
        raise LabError(
            f"{run.best} has {accounting['checkpoint_bytes']:,} bytes; the challenge allows {LARGEST_MODEL:,}, "
            "choose a smaller model"
        )
    share = accounting["training_flops"] / (K40_SECONDS * K40_PEAK)
    if share > 1:
        raise LabError(
            f"training {run.folder} took {accounting['training_flops']:.3g} operations; a K40 at its peak does "
            f"{K40_SECONDS * K40_PEAK:.3g} in the challenge's four hours, train for less"
        )
    return {
        **accounting,
        "largest_bytes": LARGEST_MODEL,
        "k40_budget_flops": K40_SECONDS * K40_PEAK,
        "share_of_k40_peak": share,
        "assumed_utilisation": 1.0,
        **stamp(run.best),
    }
