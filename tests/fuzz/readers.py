"""Whatever reads files that strangers may have made: valid files to begin with, and how they are read."""

import io
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import ValidationError

from scenelab.app.schemas import AttackQuestion
from scenelab.course.grading.extract import Extraction, ExtractionLimits
from scenelab.data.annotations import draw_masks, read_objects
from scenelab.data.cache import pack
from scenelab.data.decode import fit, read_image
from scenelab.data.fetch.archive import Limits, extract
from scenelab.data.fetch.download import _origin
from scenelab.data.miniplaces import Listing, is_miniplaces, read_categories, read_list, read_split
from scenelab.errors import LabError
from scenelab.evaluation.challenge import read_guesses, score
from scenelab.models.normalize import Classifier
from scenelab.report.collect import read_run
from scenelab.report.team import read_team
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import OptimizerConfig, TrainConfig, to_plain
from scenelab.runs.network import read_classifier
from scenelab.runs.run import Run
from scenelab.runs.summary import summarize
from scenelab.schema import describe
from scenelab.training.metrics_logger import read_metrics
from scenelab.training.state import checkpoint_values, initialize, restore

SEEDS = Path(__file__).parent / "seeds"


@dataclass(frozen=True)
class Reader:
    """`read` gets a file of the name `file` in an empty folder; valid ones lie in a folder of `seeds/` or are made."""

    file: str
    read: Callable[[Path], Any]
    seeds: str | Callable[[], list[bytes]]
    examples: int = 150
    lines: int = 1  # of a message; that about the team ends with an example

    def valid(self) -> list[bytes]:
        if callable(self.seeds):
            return self.seeds()
        return [path.read_bytes() for path in sorted((SEEDS / self.seeds).iterdir())]


class Tiny(torch.nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)
        self.fc = torch.nn.Linear(3, num_classes)

    def forward(self, images):
        return self.fc(self.norm(images).mean(dim=(2, 3)))


CONFIG = TrainConfig(model="plain", ema=0.9, optimizer=OptimizerConfig(name="adamw"))


def tiny_state():
    return initialize(CONFIG, num_classes=3, device=torch.device("cpu"), factory=Tiny)


def checkpoints() -> list[bytes]:
    state = tiny_state()
    assert isinstance(state.model, Classifier)
    state.model(torch.rand(2, 3, 8, 8)).sum().backward()
    state.optimizers[0].step()
    stream = io.BytesIO()
    torch.save(checkpoint_values(state, CONFIG, ("a", "b", "c"), 1), stream)
    return [stream.getvalue()]


def read_checkpoint(path: Path) -> None:
    read_classifier(path, factory=Tiny)
    restore(tiny_state(), load_checkpoint(path), path, arch="plain", steps_per_epoch=3)


def configs() -> list[bytes]:
    return [json.dumps({"data": "d", "cache": None, "train_digest": "x", "train": to_plain(TrainConfig())}).encode()]


def read_results(path: Path) -> None:
    """A run folder whose val.json is the file, and its guesses too where it is a table."""
    run = Run(path.parent)
    run.results.mkdir()
    run.config.write_bytes(configs()[0])
    path.rename(run.results / "val.json")
    if (run.results / "val.json").read_bytes()[:1] != b"{":
        (run.results / "val.json").rename(run.results / "val_predictions.csv")
        shutil.copy(SEEDS / "results" / "val.json", run.results)
    assert read_run(path.parent).evaluation


def read_lists(path: Path) -> None:
    read_list(path)
    assert is_miniplaces(path.parent)
    read_split(path.parent, "val")
    path.rename(path.with_name("categories.txt"))
    read_categories(path.parent)


def read_challenge(path: Path) -> None:
    labels = path.with_name("labels.txt")
    labels.write_bytes(b"val/00000001.jpg 0\nval/00000002.jpg 1\nval/cd.jpg 2\n")
    score(read_guesses(path), labels)


def read_archive(path: Path) -> None:
    before = {path}
    try:
        extract(path, path.parent / "out", limits=Limits(max_bytes=1 << 20, max_files=100, max_file_bytes=1 << 19))
    finally:
        require_inside(path.parent, before, most=1 << 20)


def read_hand_in(path: Path) -> None:
    """Is never refused: what cannot be read is noted."""
    Extraction(ExtractionLimits(file_bytes=1 << 16, bytes=1 << 18, files=50)).unpack(path, path.parent / "out")
    require_inside(path.parent, {path}, most=1 << 18)


def require_inside(folder: Path, before: set[Path], *, most: int) -> None:
    """Nothing but plain files and folders, below `out`, of so many bytes."""
    size = 0
    for found in set(folder.rglob("*")) - before:
        assert (folder / "out") in (found, *found.parents), found
        assert not found.is_symlink()
        assert found.is_file() or found.is_dir()
        size += found.stat().st_size if found.is_file() else 0
    assert size <= most


def packs() -> list[bytes]:
    """A packed split's array and, behind a line, its manifest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pack(two_images(folder), folder / "cache", size=16)
        made = folder / "cache" / "val-16"
        return [(made / "images.npy").read_bytes() + b"\nMANIFEST\n" + (made / "manifest.json").read_bytes()]


def two_images(folder: Path) -> Listing:
    (folder / "images").mkdir()
    for number, color in enumerate(("red", "blue")):
        Image.new("RGB", (20, 18), color).save(folder / "images" / f"{number}.png")
    return Listing(root=folder / "images", split="val", paths=("0.png", "1.png"), labels=(0, 1), categories=("a", "b"))


def read_pack(path: Path) -> None:
    """A spoiled cache is made anew, whatever is wrong with it, unless only its pixels are."""
    array, _, manifest = path.read_bytes().partition(b"\nMANIFEST\n")
    made = path.parent / "cache" / "val-16"
    made.mkdir(parents=True)
    (made / "images.npy").write_bytes(array)
    (made / "manifest.json").write_bytes(manifest)
    dataset = pack(two_images(path.parent), path.parent / "cache", size=16)
    assert dataset.gather(slice(None)).shape == (2, 3, 16, 16)


def read_question(path: Path) -> None:
    """A question to the explorer: one of its schema, or refused in a line."""
    try:
        question = AttackQuestion.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise LabError(describe(error)) from None
    assert question.image.partition(":")[0] in ("upload", "val", "synthetic")
    assert "/" not in question.image


def read_summary(path: Path) -> None:
    """A run whose metrics are damaged is summed up without them."""
    (path.parent / "config.json").write_bytes(configs()[0])
    assert summarize("run", Run(path.parent)).state == "broken off"


READERS = {
    "checkpoint": Reader("x.pth.tar", read_checkpoint, checkpoints, examples=250),
    "config": Reader("config.json", lambda path: Run(path.parent).read_config(), configs, examples=250),
    "metrics": Reader("metrics.jsonl", lambda path: read_metrics(Run(path.parent)), "metrics"),
    "summary": Reader("metrics.jsonl", read_summary, "metrics"),
    "results": Reader("x.json", read_results, "results"),
    "lists": Reader("val.txt", read_lists, "lists"),
    "guesses": Reader("x.txt", read_challenge, "guesses"),
    "objects": Reader("1.xml", lambda path: draw_masks(read_objects(path), 32), "objects"),
    "image": Reader("x.jpg", lambda path: fit(read_image(path), 16), "image", examples=300),
    "archive": Reader("x.zip", read_archive, "archive", examples=120),
    "hand-in": Reader("x.zip", read_hand_in, "archive", examples=120),
    "packed": Reader("x.bin", read_pack, packs, examples=60),
    "sidecar": Reader("x.part.json", lambda path: _origin(path.with_name("x")), "sidecar", examples=80),
    "question": Reader("x.json", read_question, "question", examples=100),
    "team": Reader("team.toml", lambda path: read_team(path, ("results",)), "team", lines=6),
}
