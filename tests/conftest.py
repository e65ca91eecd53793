from scenelab.runtime import prepare

prepare()  # before torch loads, as the command line does

import ctypes
import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scenelab.data.splits import open_dataset
from scenelab.models.registry import create_model
from scenelab.runs import pretrained
from scenelab.runs.checkpoint import save_checkpoint
from scenelab.runs.config import RunConfig, ScheduleConfig, TrainConfig
from scenelab.runs.network import to_values
from scenelab.runs.run import Run
from scenelab_scenes import write_scenes

os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))  # its fonts take long
USER_CACHE = tempfile.TemporaryDirectory(prefix="scenelab-cache-")
os.environ["XDG_CACHE_HOME"] = USER_CACHE.name  # also of the commands that tests start

CLONE_NEWNS = 0x20000
TOGETHER = ("e2e", "grading", "oracle", "soak")
"""Folders whose files share what is expensive: each file's tests run in one process, those of other folders where there
is room."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in a hook of its own
def pytest_collection_modifyitems(items) -> None:
    """Tell the processes that share the tests what belongs together."""
    for item in items:
        if item.path.parent.name in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session", autouse=True)
def no_pretrained() -> Iterator[None]:
    """Hide the networks that ship, so that the tests do not depend on them; `test_pretrained.py` shows them again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "FOLDER", Path(os.devnull) / "pretrained")
        yield


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """A small synthetic data set: 12 kinds, 6 training and 3 validation images each."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    write_scenes(folder, train_per_class=6, val_per_class=3, test=2)
    return folder


@pytest.fixture(scope="session")
def own_mounts() -> None:
    """What this process and its children mount from here on is seen by them alone and gone with them, however they end.

    A mount that outlived a killed run would sit in pytest's folder, which the next run could not remove.
    """
    if os.geteuid() == 0 and ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)


@pytest.fixture
def unreadable(monkeypatch):
    """Makes the disk fail under the listing of a folder, or the reading of a file by `read_bytes`."""

    def failing(call, place: Path):
        def fail(path=".", *rest, **options):
            if not isinstance(path, int) and Path(os.fsdecode(path)) == place:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(place))
            return call(path, *rest, **options)

        return fail

    def spoil(place: Path) -> None:
        monkeypatch.setattr("os.scandir", failing(os.scandir, place))
        monkeypatch.setattr("pathlib.Path.read_bytes", failing(Path.read_bytes, place))

    return spoil


def make_untrained(folder: Path, data: Path, *, model: str = "residual-small", seed: int = 0) -> Run:
    """A run folder whose network has learned nothing: enough wherever it only has to answer."""
    config = TrainConfig(
        model=model, stored_size=32, eval_size=32, threads=2, schedule=ScheduleConfig(sizes=((0.0, 32),))
    )
    run = Run(folder)
    run.create(RunConfig(data=str(data), train=config))
    categories = open_dataset(data, None, "val", 32).categories
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = create_model(model, num_classes=len(categories))
    save_checkpoint(run.best, to_values(network, arch=model, categories=categories, size=32, epoch=1))
    return run


@pytest.fixture(scope="session")
def untrained(scenes, tmp_path_factory) -> Run:
    """A run of the synthetic scenes with random weights, evaluated."""
    from scenelab.cli import main

    run = make_untrained(tmp_path_factory.mktemp("untrained") / "untrained", scenes)
    assert main.run(["evaluate", str(run.folder), "--json"]) == 0
    return run
