"""MiniPlaces challenge: five predicted labels per image in a text file, scored by top-5 error.

The file has one line per image, sorted by file name: `test/00000001.jpg l1 l2 l3 l4 l5`, with labels counted from 0
(github.com/CSAILVision/miniplaces).
"""

import re
from pathlib import Path

import torch

from scenelab.data.decode import read_images
from scenelab.data.miniplaces import list_test, read_list
from scenelab.errors import LabError, printable
from scenelab.evaluation.accuracy_results import ChallengeCard
from scenelab.io import atomic_write, read_lines
from scenelab.progress import progress
from scenelab.runs.network import Stored, read_classifier
from scenelab.runs.provenance import TrainingResult, stamp
from scenelab.runs.run import Run

GUESSES = 5
MAX_MODEL_BYTES = 10_000_000  # the handout's limit
K40_SECONDS = 4 * 3600
K40_PEAK = 4.29e12  # float32 operations per second of an NVIDIA Tesla K40 at its base clock (data sheet, 2013)
BATCH = 100

Guesses = dict[str, tuple[int, ...]]  # labels by image path, most likely first


@torch.no_grad()
def guess(stored: Stored, images: Path, names: list[str]) -> Guesses:
    """Return the five most likely labels of each image, by the mean logits of the image and its mirror image.

    `names` are file paths relative to the folder `images`.

    Raises:
        LabError: an image cannot be decoded, or the model has fewer than five classes.
    """
    if len(stored.categories) < GUESSES:
        raise LabError(f"the model has {len(stored.categories)} classes; the challenge needs at least {GUESSES}")
    guesses: Guesses = {}
    with progress("guessing", len(names)) as advance:
        for start in range(0, len(names), BATCH):
            part = names[start : start + BATCH]
            batch = read_images([images / name for name in part], stored.size)
            batch = batch.contiguous(memory_format=torch.channels_last)
            top = (stored.model(batch) + stored.model(batch.flip(-1))).topk(GUESSES, dim=1).indices
            guesses |= {name: tuple(row) for name, row in zip(part, top.tolist(), strict=True)}
            advance(len(part))
    return guesses


def write_guesses(path: Path, guesses: Guesses) -> None:
    """Write predicted labels to a file in the challenge's text format."""
    with atomic_write(path, "w") as file:
        for name, labels in guesses.items():
            if "\n" in name or "\r" in name:
                raise LabError(f"the name {printable(name)!r} has a line break; rename the image")
            file.write(f"{name} {' '.join(map(str, labels))}\n")


def read_guesses(path: Path) -> Guesses:
    """Read predicted labels from a file in the challenge's text format.

    Raises:
        LabError: the file is missing, a line is not a name and five labels, or an image occurs twice.
    """
    guesses: Guesses = {}
    for number, line in read_lines(path):
        name, *labels = line.rsplit(maxsplit=GUESSES)
        if len(labels) != GUESSES or not all(re.fullmatch("[0-9]{1,6}", label) for label in labels):
            raise LabError(f"{path} line {number} is {line[:80]!r}; expected a name and five labels from 0")
        if name in guesses:
            raise LabError(f"{path} line {number} repeats {name}; keep one line per image")
        guesses[name] = tuple(map(int, labels))
    return guesses


def score(guesses: Guesses, labels: Path) -> list[float]:
    """Return the top-1, top-2, … top-5 errors in percent, for true labels from the file `labels` (lines `path label`).

    Raises:
        LabError: an image has no predicted labels or no true label.
    """
    truth = dict(read_list(labels))
    for missing, what in ((truth.keys() - guesses.keys(), "guesses"), (guesses.keys() - truth.keys(), "label")):
        if missing:
            raise LabError(f"{len(missing)} images have no {what}, first {min(missing)}; both files must name the same")
    return [
        100 * sum(label not in guesses[name][: count + 1] for name, label in truth.items()) / len(truth)
        for count in range(GUESSES)
    ]


def make_card(run: Run) -> ChallengeCard:
    """Return the training cost of a run and the limits of the challenge, after checking the run against the limits.

    Raises:
        LabError: training is not finished or exceeded the compute limit, or the model file is too large.
    """
    path = run.results / "training.json"
    if not path.exists():
        raise LabError(f"{run.folder} has no finished training; finish it with 'scenelab resume {run.folder}'")
    training, budget = TrainingResult.read(path), K40_SECONDS * K40_PEAK
    operations, size = training.training_flops, training.checkpoint_bytes
    if not operations:
        raise LabError(f"{path} has no count of operations; train again with this version")
    if size > MAX_MODEL_BYTES:
        raise LabError(
            f"{run.best} has {size:,} bytes; the challenge allows {MAX_MODEL_BYTES:,}, choose a smaller model"
        )
    if operations > budget:
        raise LabError(
            f"training {run.folder} took {operations:.3g} operations; the challenge allows {budget:.3g}, four hours of "
            "a K40 at its peak, train for less"
        )
    values = {**training.model_dump(exclude_unset=True), **stamp(run.best), "largest_bytes": MAX_MODEL_BYTES}
    share = operations / budget
    return ChallengeCard(**values, k40_budget_flops=budget, share_of_k40_peak=share, assumed_utilization=1.0)


def write_submission(run: Run, *, data: Path | None = None, split: str = "test") -> ChallengeCard:
    """Write the model, predicted labels of `split` (`test` or `val`) and challenge.json to RUN/results.

    Raises:
        LabError: images are missing, or the run exceeds a limit of the challenge.
    """
    source = data or Path(run.read_config().data)
    images, labels = source / "images", source / "val.txt"
    val = [name for name, _ in read_list(labels)] if split == "val" or labels.exists() else []
    names = val if split == "val" else list_test(source)
    card, stored = make_card(run), read_classifier(run.best)
    stored.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    torch.set_num_threads(card.threads)
    path = run.results / f"{split}_predictions.txt"
    guesses = guess(stored, images, names)
    write_guesses(path, guesses)
    card = card.model_copy(update={"predictions": path.name, "images": len(names)})
    if val and all((images / name).exists() for name in val):
        errors = score(guesses if split == "val" else guess(stored, images, val), labels)
        card = card.model_copy(update={"val_images": len(val), "val_errors": tuple(errors)})
    with atomic_write(run.results / run.best.name) as file:
        file.write(run.best.read_bytes())
    card.write(run.results / "challenge.json")
    return card
