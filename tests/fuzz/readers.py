"""Whatever reads files that strangers may have made: valid files to begin with, and how they are read."""

import asyncio
import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from scenelab.app.middleware import Gate
from scenelab.course.grading.extract import Extraction, ExtractionLimits
from scenelab.data.annotations import draw_masks, read_objects
from scenelab.data.cache import pack
from scenelab.data.decode import fit, read_image
from scenelab.data.fetch.archive import Limits, extract
from scenelab.data.fetch.download import _origin
from scenelab.data.miniplaces import Listing, is_miniplaces, read_categories, read_list, read_split
from scenelab.evaluation.challenge import read_guesses, score
from scenelab.models.normalize import Classifier
from scenelab.report.collect import read_run
from scenelab.report.team import read_team
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import OptimizerConfig, TrainConfig, to_plain
from scenelab.runs.network import read_classifier
from scenelab.runs.run import Run
from scenelab.training.metrics_logger import read_metrics
from scenelab.training.state import checkpoint_values, restore, start


@dataclass(frozen=True)
class Reader:
    """`seeds` are valid; `read` gets a file of the name `file` in an empty folder."""

    file: str
    read: Callable[[Path], Any]
    seeds: Callable[[], list[bytes]]
    examples: int = 150
    lines: int = 1  # of a message; that about the team ends with an example


class Tiny(torch.nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)
        self.fc = torch.nn.Linear(3, num_classes)

    def forward(self, images):
        return self.fc(self.norm(images).mean(dim=(2, 3)))


CONFIG = TrainConfig(model="plain", ema=0.9, optimizer=OptimizerConfig(name="adamw"))


def tiny_state():
    return start(CONFIG, classes=3, device=torch.device("cpu"), factory=Tiny)


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


def read_config(path: Path) -> None:
    Run(path.parent).read_config()


METRICS = b"""{"step": 1, "training_loss": 2.5, "learning_rate": 0.1}
{"epoch": 1, "step": 9, "split": "train", "loss": 2.4, "top1": 8.3, "top5": 40.0}
{"epoch": 1, "step": 9, "split": "probe", "fgsm": 50.0, "pgd": 10.0}
"""
EVALUATION = b"""{"split": "val", "images": 3, "digest": "x", "weights": "y", "date": "2026-01-01",
"command": "scenelab evaluate", "plain": {"top1": 33.3, "top5": 100.0, "loss": 1.1},
"mirror": {"top1": 33.3, "top5": 100.0, "loss": 1.1},
"per_class": [{"category": "a", "top1": 50.0, "images": 2}],
"most_confused": [{"true": "a", "predicted": "b", "count": 1}]}"""
GUESSED = b"path,label,guess1,guess2,confidence\nval/1.jpg,0,0,1,0.9\nval/2.jpg,1,0,1,0.5\n"


def read_results(path: Path) -> None:
    """A run folder whose val.json is the file, and its guesses too where it is a table."""
    run = Run(path.parent)
    run.results.mkdir()
    run.config.write_bytes(configs()[0])
    path.rename(run.results / "val.json")
    if (run.results / "val.json").read_bytes()[:1] != b"{":
        (run.results / "val.json").rename(run.results / "val_predictions.csv")
        (run.results / "val.json").write_bytes(EVALUATION)
    read = read_run(path.parent)
    assert read.evaluated == "val"


LIST = b"val/00000001.jpg 0\nval/00000002.jpg 1\nval/c d.jpg 2\n"
CATEGORIES = b"/a/abbey 0\n/b/bar 1\n/a/apartment_building/outdoor 2\n"


def read_lists(path: Path) -> None:
    read_list(path)
    assert is_miniplaces(path.parent)
    read_split(path.parent, "val")
    path.rename(path.with_name("categories.txt"))
    read_categories(path.parent)


GUESSES = b"val/00000001.jpg 0 1 2 3 4\nval/00000002.jpg 4 3 2 1 0\nval/c d.jpg 0 1 2 3 4\n".replace(b"c d", b"cd")


def read_challenge(path: Path) -> None:
    labels = path.with_name("labels.txt")
    labels.write_bytes(b"val/00000001.jpg 0\nval/00000002.jpg 1\nval/cd.jpg 2\n")
    score(read_guesses(path), labels)


OBJECTS = b"""<?xml version="1.0"?><filename>1.jpg</filename><folder>a</folder><class>3</class>
<objects><class>4</class><polygon><pt><x>1</x><y>2</y></pt><pt><x>60</x><y>2</y></pt><pt><x>60</x><y>90</y></pt></polygon>
<xmin>1</xmin><xmax>60</xmax></objects>"""


def read_annotation(path: Path) -> None:
    draw_masks(read_objects(path), 32)


def images() -> list[bytes]:
    found = []
    picture = Image.linear_gradient("L").resize((24, 18))
    frames = [picture.convert("P"), picture.rotate(90, expand=True).convert("P")]
    modes = {"JPEG": "RGB", "PNG": "RGBA", "WEBP": "RGB", "GIF": "P", "BMP": "RGB", "TIFF": "RGB"}
    for kind, mode in modes.items():
        stream = io.BytesIO()
        more = {"save_all": True, "append_images": frames[1:]} if kind == "GIF" else {}
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.convert(mode).save(stream, kind, **more, **({"exif": exif} if kind in ("JPEG", "WEBP") else {}))
        found.append(stream.getvalue())
    return found


def read_picture(path: Path) -> None:
    assert fit(read_image(path), 16).shape == (3, 16, 16)


def archives() -> list[bytes]:
    files = {"train.txt": b"a.jpg 0\n", "images/train/a.jpg": b"x" * 300, "objects/a.xml": b"<x/>", "README": b"y"}
    files = {f"top/{name}": content for name, content in files.items()}
    found = []
    for mode in ("w:", "w:gz"):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode) as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        found.append(stream.getvalue())
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return [*found, stream.getvalue()]


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
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (20, 18), colour).save(folder / "images" / f"{number}.png")
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


QUESTION = b'{"data": [{"path": "/nowhere/a.jpg"}, "PGD", 4, null], "fn_index": 1, "session_hash": "x"}'


def read_question(path: Path) -> None:
    """The body of a question to the explorer: passed on as it is, or refused with a status."""
    passed: list[bytes] = []

    async def app(scope, receive, send):
        passed.append((await receive())["body"])

    body = path.read_bytes()

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        assert message.get("status", 400) in (400, 403, 413)

    headers = [(b"host", b"localhost"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "headers": headers}
    asyncio.run(Gate(app, Path("/nowhere"), ("localhost",))(scope, receive, send))
    for part in passed:
        text = json.dumps(json.loads(part))
        assert '"path": "/etc' not in text
        assert '"path": "http' not in text


SIDECAR = b'{"address": "http://a/x", "validator": "y"}'
TEAM = b"""title = "Scenes"
[[member]]
name = "Ada"
did = "all"
[text]
abstract = "a"
results = "*b*"
"""

READERS = {
    "checkpoint": Reader("x.pth.tar", read_checkpoint, checkpoints, examples=250),
    "config": Reader("config.json", read_config, configs, examples=250),
    "metrics": Reader("metrics.jsonl", lambda path: read_metrics(Run(path.parent)), lambda: [METRICS]),
    "results": Reader("x.json", read_results, lambda: [EVALUATION, GUESSED]),
    "lists": Reader("val.txt", read_lists, lambda: [LIST, CATEGORIES]),
    "guesses": Reader("x.txt", read_challenge, lambda: [GUESSES]),
    "objects": Reader("1.xml", read_annotation, lambda: [OBJECTS]),
    "image": Reader("x.jpg", read_picture, images, examples=300),
    "archive": Reader("x.zip", read_archive, archives, examples=120),
    "hand-in": Reader("x.zip", read_hand_in, archives, examples=120),
    "packed": Reader("x.bin", read_pack, packs, examples=60),
    "sidecar": Reader("x.part.json", lambda path: _origin(path.with_name("x")), lambda: [SIDECAR], examples=80),
    "question": Reader("x.json", read_question, lambda: [QUESTION], examples=100),
    "team": Reader("team.toml", lambda path: read_team(path, ("results",)), lambda: [TEAM], lines=6),
}
