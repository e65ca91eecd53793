"""The commands that faults are injected into: what each starts from, and what must be there when it has ended."""

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from faults.forking import Ended
from faults.forking import Server as Forks
from faults.tally import FULL
from folders import tree
from mutants import MUTANTS, mutate, solution, write_as_zip
from runs_compared import assert_same_run, same
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.run import Run
from serving import Server, slowly

COMMAND = "faults.acts:command"
OBJECTS = "object_categories.txt"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One command.

    Attributes:
        command: makes the arguments from the folder that it works in.
        prepare: puts what it starts from into that folder.
        finished: asserts that the folder holds what an undisturbed one holds (its second argument).
        again: makes the arguments of the call after a fault; the same ones by default.
        call: what runs it.
        slow: tried less often.
    """

    name: str
    command: Callable[[Path], list[str]]
    prepare: Callable[[Path], None]
    finished: Callable[[Path, Path], None]
    again: Callable[[Path], list[str]] | None = None
    call: str = COMMAND
    slow: bool = False

    def run(self, server: Forks, work: Path, **options: Any) -> Ended:
        return server.run(*self.command(work), call=self.call, **options)

    def run_undisturbed(self, server: Forks, work: Path, **options: Any) -> Ended:
        self.prepare(work)
        ended = self.run(server, work, **options)
        assert ended.status == 0, ended.err
        return ended

    def go_on(self, server: Forks, work: Path, expected: Path) -> None:
        """Run again after a fault, to the same end as an undisturbed command."""
        ended = server.run(*(self.again or self.command)(work), call=self.call)
        assert ended.status == 0, ended.err
        self.finished(work, expected)


def nothing(work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)


def training(scenes: Path) -> Case:
    def first(work: Path) -> list[str]:
        return ["train", "tiny", "--data", str(scenes), "--out", str(work / "run"), "--cache", str(work / "cache")]

    def again(work: Path) -> list[str]:
        return ["resume", str(work / "run")] if (work / "run" / "config.json").exists() else first(work)

    def finished(work: Path, expected: Path) -> None:
        assert_same_training(work / "run", expected / "run")

    return Case(name="train", command=first, prepare=nothing, finished=finished, again=again)


def packing(scenes: Path) -> Case:
    def command(work: Path) -> list[str]:
        return ["data", "pack", str(scenes), "--cache", str(work / "cache"), "--size", "96"]

    def finished(work: Path, expected: Path) -> None:
        for split in ("train-96", "val-96"):
            ours, clean = (np.load(each / "cache" / split / "images.npy") for each in (work, expected))
            assert np.array_equal(ours, clean)
        assert not list((work / "cache").glob(".*.partial"))

    return Case(name="pack", command=command, prepare=nothing, finished=finished)


def reporting(clean: Path, *, pdf: bool) -> Case:
    def command(work: Path) -> list[str]:
        return ["report", str(clean), "--out", str(work / "report"), "--card", *([] if pdf else ["--html-only"])]

    def finished(work: Path, expected: Path) -> None:
        for name in ("report.html", "card.md"):
            assert (work / "report" / name).read_bytes() == (expected / "report" / name).read_bytes()

    def prepare(work: Path) -> None:
        """An older report, whose parts would show."""
        folder = work / "report"
        folder.mkdir(parents=True)
        for name in ("report.html", "card.md", "report.pdf"):
            (folder / name).write_bytes(b"old\n" * 1000)

    return Case(name="report", command=command, prepare=prepare, finished=finished, slow=pdf)


def grading(handed: Path) -> Case:
    def command(work: Path) -> list[str]:
        return ["grade", str(handed), "--out", str(work / "grades"), "--jobs", "2"]

    def finished(work: Path, expected: Path) -> None:
        assert (work / "grades/grades.csv").read_bytes() == (expected / "grades/grades.csv").read_bytes()
        for path in (expected / "grades" / "students").glob("*/gradescope.json"):
            ours = work / path.relative_to(expected)
            assert scores(ours) == scores(path)
        assert not (work / "grades" / ".work").exists()

    return Case(name="grade", command=command, prepare=nothing, finished=finished, slow=True)


def scores(path: Path) -> list[tuple[str, float]]:
    return [(each["name"], each.get("score", 0.0)) for each in json.loads(path.read_text())["tests"]]


def downloading(scenes: Path, site: Server) -> Case:
    def command(work: Path) -> list[str]:
        return [str(work / "data"), site.address("/data.tar.gz"), site.address("/lists/")]

    def finished(work: Path, expected: Path) -> None:
        sent = {name: content for name, content in tree(scenes).items() if "packed" not in name}
        assert tree(work / "data") == sent | {OBJECTS: site.files[f"/lists/{OBJECTS}"]}
        assert [path.name for path in work.iterdir()] == ["data"]

    return Case(name="download", command=command, prepare=nothing, finished=finished, call="faults.acts:fetch_data")


def serve(site: Server, scenes: Path) -> None:
    """Let the server have the scenes as MiniPlaces' archive and lists, and give the archive slowly."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(scenes / "images", "images")
    lists = [path for path in scenes.iterdir() if path.suffix == ".txt"]
    site.files = {f"/lists/{path.name}": path.read_bytes() for path in lists}
    site.files |= {"/data.tar.gz": buffer.getvalue(), f"/lists/{OBJECTS}": b"arcade_machine 0\n"}
    site.script = {"/data.tar.gz": [slowly] * 100_000}


ON_RUN = {
    "export": ("export/model.safetensors", "--format", "safetensors", "--limit", "9"),
    "challenge": ("results/challenge.json",),
    "explain": ("results/attribution.json", "--limit", "1", "--methods", "gradient"),
}


def on_run(name: str, clean: Path) -> Case:
    """A command that adds a file to a run folder."""
    result, *flags = ON_RUN[name]

    def command(work: Path) -> list[str]:
        return [name, str(work / "run"), *flags]

    def prepare(work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        shutil.copytree(clean, work / "run")

    def finished(work: Path, expected: Path) -> None:
        assert (work / "run" / result).exists()
        names = ({name for name in tree(each / "run") if "tfevents" not in name} for each in (work, expected))
        assert next(names) == next(names)

    return Case(name=name, command=command, prepare=prepare, finished=finished, slow=True)


def named(name: str, scenes: Path, clean: Path, site: Server, folder: Path) -> Case:
    if name in ON_RUN:
        return on_run(name, clean)
    cases = {
        "train": lambda: training(scenes),
        "pack": lambda: packing(scenes),
        "download": lambda: downloading(scenes, site),
        "report": lambda: reporting(clean, pdf=FULL),
        "grade": lambda: grading(submit_some(folder / "submitted", 2 if FULL else 1)),
    }
    return cases[name]()


def submit_some(folder: Path, count: int) -> Path:
    """At most three submissions; one is right."""
    folder.mkdir()
    submitted = (("bob", mutate(MUTANTS[0])), ("ann", solution()), ("cy", mutate(MUTANTS[3])))
    for name, files in submitted[:count]:
        write_as_zip(folder / f"{name}.zip", files, folder.parent / f"scratch-{name}")
    return folder


def read_rows(content: bytes) -> None:
    assert len({len(row) for row in csv.reader(content.decode().splitlines())}) == 1
    assert content.endswith(b"\n")


def load_safetensors(content: bytes) -> None:
    from safetensors.torch import load

    load(content)


WHOLE: dict[str, Callable[[bytes], object]] = {
    ".json": json.loads,
    ".npy": lambda content: np.load(io.BytesIO(content)),
    ".safetensors": load_safetensors,
    ".csv": read_rows,
} | dict.fromkeys((".png", ".jpg"), lambda content: Image.open(io.BytesIO(content)).load())
ENDS = {".html": b"</html>", ".svg": b"</svg>", ".pdf": b"%%EOF"}


def assert_whole(path: Path) -> None:
    """A file that has its name can be read to its end."""
    content = path.read_bytes()
    if path.name.endswith(".pth.tar"):
        assert load_checkpoint(path)["state_dict"]
    elif path.suffix in WHOLE:
        WHOLE[path.suffix](content)
    elif path.suffix in ENDS:
        assert content.rstrip().endswith(ENDS[path.suffix])
    elif path.suffix in (".md", ".txt"):
        assert content.endswith(b"\n")


GROWING = ("metrics.jsonl", "timings.jsonl")  # the checkpoint says how much of them is true


def assert_nothing_half_written(work: Path, before: dict[str, bytes]) -> None:
    """Each file is the one that was there before, or a whole one; hidden ones have not got their names yet."""
    for name, content in tree(work).items():
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if hidden or Path(name).name in GROWING or "tfevents" in name or content == before.get(name):
            continue
        assert_whole(work / name)
    for name in before:
        assert (work / name).exists() or "results/attention" in name or "tfevents" in name, f"{name} is gone"
    assert_few_leftovers(work)


def assert_run_whole(run: Path, clean: Path) -> None:
    """What the checkpoint vouches for is what an undisturbed run has."""
    ours = Run(run)
    if ours.checkpoint.exists():
        kept = load_checkpoint(ours.checkpoint)["metrics_bytes"]
        metrics, expected = ours.metrics.read_bytes(), Run(clean).metrics.read_bytes()
        assert kept <= len(metrics)
        assert metrics[:kept] == expected[:kept]


def assert_few_leftovers(folder: Path) -> None:
    """A kill leaves at most one part of a file, which the next writer of that file removes."""
    leftovers = [(path.parent, path.name.rsplit(".", 2)[0]) for path in folder.rglob(".*.part")]
    assert len(leftovers) == len(set(leftovers)), leftovers


def assert_same_training(run: Path, clean: Path) -> None:
    """Metrics byte for byte, weights, average and optimizer bit for bit, and nothing is left lying about."""
    assert_same_run(run, clean)
    ours, expected = (load_checkpoint(Run(each).checkpoint) for each in (run, clean))
    assert ours["step"] == expected["step"]
    assert all(same(ours[part], expected[part]) for part in ("average", "optimizer"))
    assert json.loads((run / "results" / "training.json").read_text())["steps"] == expected["step"]
    for line in (run / "timings.jsonl").read_text().splitlines():
        json.loads(line)
    assert list(run.glob(".*")) == []
