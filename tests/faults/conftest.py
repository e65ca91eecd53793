import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.cases import serve
from faults.forking import Server
from faults.tally import FULL, Tally
from serving import Server as Site


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in a hook of its own
def pytest_collection_modifyitems(items) -> None:
    """All of them in one process, whose server they share, but in full, where they take an hour and more."""
    for item in items:
        if item.path.parent == Path(__file__).parent and not FULL:
            item.add_marker(pytest.mark.xdist_group("faults"))


@pytest.fixture(scope="session")
def server(own_mounts, tmp_path_factory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("printed"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def tally(request) -> Iterator[Tally]:
    counts = Tally()
    yield counts
    counts.write(request.module.__name__.rpartition(".")[2].removeprefix("test_"))


@pytest.fixture
def strace() -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed (Debian: apt install strace)")


@pytest.fixture(scope="session")
def clean(server, scenes, tmp_path_factory) -> Path:
    """A run that nothing disturbed, evaluated."""
    run = tmp_path_factory.mktemp("clean") / "run"
    train = ("train", "tiny", "--data", str(scenes), "--out", str(run))
    for arguments in (train, ("evaluate", str(run), "--json")):
        ended = server.run(*arguments, call="faults.acts:command")
        assert ended.status == 0, ended.err
    return run


@pytest.fixture
def site(scenes) -> Iterator[Site]:
    """A server on the loopback interface that has the scenes as an archive and gives it slowly."""
    with Site() as running:
        serve(running, scenes)
        yield running
