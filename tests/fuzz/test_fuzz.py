"""Every reader of strangers' files gives a value or one LabError, in bounded time and memory, whatever the bytes.

`corpus/READER/` holds what ever failed and what was made by hand; it is read first. Then valid files are changed at
random: always the same changes in `make test`, new ones for so many seconds a reader where SCENELAB_FUZZ_SECONDS says
so. An input that fails is written to a file whose name is told: it belongs into the corpus.
"""

import hashlib
import os
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fuzz.mutations import CHANGES, mutate
from fuzz.readers import READERS
from scenelab.errors import LabError

CORPUS = Path(__file__).parent / "corpus"
SECONDS = float(os.environ.get("SCENELAB_FUZZ_SECONDS", "0"))
LONGEST = 5.0  # seconds for one input; the slowest that was seen takes 0.1
MEMORY = 1 << 30  # bytes of addresses beyond what the process has
KEPT = [(path.parent.name, path) for path in sorted(CORPUS.glob("*/*"))]


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """A limit to memory, which is taken back afterwards."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    status = Path("/proc/self/status")
    if status.exists():
        held = int(re.search(r"VmSize:\s+(\d+)", status.read_text())[1]) << 10  # type: ignore[index]
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def check(name: str, data: bytes) -> None:
    """Read one input in a folder of its own."""
    reader = READERS[name]
    folder = Path(tempfile.mkdtemp(prefix="scenelab-fuzz-"))
    began, refused = time.monotonic(), ""
    try:
        (folder / reader.file).write_bytes(data)
        reader.read(folder / reader.file)
    except LabError as error:
        refused = str(error)
    except Exception as error:
        kept = Path(tempfile.gettempdir()) / f"scenelab-{name}-{hashlib.sha256(data).hexdigest()[:12]}"
        kept.write_bytes(data)
        error.add_note(f"{name} fails on {kept}; mend it, and keep the file as {CORPUS / name}/…")
        raise
    finally:
        shutil.rmtree(folder)
    assert time.monotonic() - began < LONGEST
    assert len(refused.splitlines()) <= reader.lines
    assert len(refused) < 1000


@pytest.mark.parametrize(("name", "path"), KEPT, ids=[f"{name}-{path.name}" for name, path in KEPT])
def test_the_corpus(name, path):
    check(name, path.read_bytes())


@pytest.mark.parametrize("name", READERS)
def test_valid_files_are_read(name, tmp_path):
    """Or there would be nothing to spoil."""
    for number, content in enumerate(READERS[name].valid()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / READERS[name].file).write_bytes(content)
        if name == "lists" and number:
            (folder / "val.txt").rename(folder / "categories.txt")
            continue
        READERS[name].read(folder / READERS[name].file)


@pytest.mark.timeout(0 if SECONDS else 300)
@pytest.mark.parametrize("name", READERS)
def test_spoiled_files_are_read_or_refused(name):
    seeds = READERS[name].valid()
    phases, every_check = (Phase.generate, Phase.shrink), list(HealthCheck)
    limits = {"max_examples": READERS[name].examples, "deadline": None, "database": None}
    end, rounds = time.monotonic() + SECONDS, 0
    while rounds == 0 or time.monotonic() < end:

        @seed(int.from_bytes(os.urandom(6)) if SECONDS else rounds)
        @settings(phases=phases, suppress_health_check=every_check, **limits)
        @given(st.sampled_from(seeds), CHANGES)
        def spoiled(valid, edits):
            check(name, mutate(valid, edits))

        spoiled()
        rounds += 1
