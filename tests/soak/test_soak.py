"""Training, the explorer and the grader for a time: memory, open files, threads and disk stay flat.

`make soak` gives each of the three 20 minutes, `make test` some seconds.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from itertools import cycle
from pathlib import Path

import pytest
import requests

import folders
from mutants import solution, write_as_zip
from runs_compared import read_rows
from scenelab.course.grading.sandbox import best
from soak.watch import FULL, SECONDS, Watch

SCENELAB = [sys.executable, "-m", "scenelab"]
POOL = 1 if FULL else 4  # threads that are started for work and kept for 10 s after it: longer than the short form
TIDIER = f"""
import scenelab.app.server as serve
serve.STALE_SECONDS = {SECONDS / 10}
from scenelab.cli import entry_point
entry_point()
"""
"""The command line whose explorer deletes images after a tenth of the soak, where it would after an hour."""


@pytest.fixture
def log(tmp_path):
    with open(tmp_path / "log.txt", "w+") as file:
        yield file


def started(arguments: list[str], log, *, command: list[str] = SCENELAB, **options) -> subprocess.Popen:
    return subprocess.Popen([*command, *arguments], stderr=log, preexec_fn=hear, **{"stdout": log, **options})


def hear() -> None:
    """Ctrl-C reaches a process whose parents were started in the background, where a shell has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_training_stays_flat(scenes, tmp_path, log):
    run, minutes = tmp_path / "run", str((SECONDS + 120) / 60)
    flags = ["--model", "residual-small", "--batch-size", "16", "--minutes", minutes, "--checkpoint-seconds", "2"]
    process = started(["train", "demo", "--data", str(scenes), "--out", str(run), *flags, "--threads", "1"], log)
    try:
        wait_for((run / "checkpoint.pth.tar").exists, process)
        watch = Watch(process, run)
        soak(process, watch, log)
    finally:
        stop(process)
    steps = max(row["step"] for row in read_rows(run))
    watch.write("train", steps=steps, growing=watch.growing())
    assert not watch.growing()
    assert steps > 5 * SECONDS
    files, size = (watch.summary()[name] for name in ("folder_files", "folder_bytes"))
    assert files["late"] <= files["early"] + 1  # a file that is being written
    logs = sum(path.stat().st_size for path in [*run.rglob("*.jsonl"), *run.rglob("*tfevents*")])
    assert size["late"] - size["early"] <= logs  # the logs are what grows


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_the_explorer_stays_flat(untrained, scenes, tmp_path, log):
    pytest.importorskip("gradio")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    options = {"stdout": subprocess.PIPE, "text": True, "env": os.environ | {"TMPDIR": str(temporary)}}
    command = [sys.executable, "-c", TIDIER]
    process = started(["app", str(untrained.folder), "--port", "0"], log, command=command, **options)
    pictures = cycle(sorted((scenes / "images" / "val").rglob("*.jpg")))
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found, log_of(log)
        visitor, watch = Visitor(found[0]), Watch(process, temporary)
        visits: list[Path] = []

        def visit() -> None:
            visits.append(next(pictures))
            visitor.visit(visits[-1])

        soak(process, watch, log, visit)
        watch.write("explorer", visits=len(visits), growing=watch.growing(threads=POOL))
    finally:
        stop(process)
        process.stdout.close()
    assert len(visits) > SECONDS / 10
    assert not watch.growing(threads=POOL)
    files = watch.summary()["folder_files"]
    assert files["late"] > 0
    assert not FULL or files["late"] < 1.5 * files["early"] + 10  # as many as are younger than that
    assert not list(temporary.glob("scenelab-app-*"))
    assert "Traceback" not in log_of(log)


class Visitor:
    """Somebody who asks the explorer for predictions, a map and an attack of one image after the other."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.config = requests.get(f"{address}/config", timeout=60).json()
        self.values = {part["id"]: part["props"].get("value") for part in self.config["components"]}

    def visit(self, picture: Path) -> None:
        """A visit has a session of its own, as each page that is opened has."""
        session = uuid.uuid4().hex[:11]
        with picture.open("rb") as file:
            (path,) = requests.post(f"{self.address}/gradio_api/upload", files={"files": file}, timeout=60).json()
        for event in self._events():
            data = [self.values[part] for part in event["inputs"]]
            data[0] = {"path": path, "orig_name": picture.name, "meta": {"_type": "gradio.FileData"}}
            body = {"data": data, "fn_index": event["id"], "session_hash": session}
            requests.post(f"{self.address}/gradio_api/queue/join", json=body, timeout=60).raise_for_status()
            url = f"{self.address}/gradio_api/queue/data?session_hash={session}"
            answer = requests.get(url, timeout=60).text.replace(" ", "")
            assert '"process_completed"' in answer, answer[-500:]
            assert '"success":true' in answer, answer[-500:]

    def _events(self) -> list[dict]:
        """The predictions, the map, the attack: what takes the image first and is asked with a button or a change."""
        picture = self.config["dependencies"][0]["inputs"][0]
        found = [part for part in self.config["dependencies"] if part["inputs"][:1] == [picture] and part["outputs"]]
        return [part for part in found if len(part["inputs"]) > 1 and part["backend_fn"]][:4]


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
def test_the_grader(tmp_path, log):
    """Submissions that differ, one after the other, more than there is time for."""
    if not best(tmp_path / "try").whole:
        pytest.skip("no sandbox is whole here (Debian: apt install bubblewrap)")
    files = solution()
    (tmp_path / "in").mkdir()
    for number in range(int(SECONDS) + 4):
        handed = {**files, "code/student_code.py": files["code/student_code.py"] + f"\n# {number}\n".encode()}
        write_as_zip(tmp_path / "in" / f"student{number}.zip", handed, tmp_path / "files")
    out = tmp_path / "grades"
    process = started(["grade", str(tmp_path / "in"), "--out", str(out), "--no-similarity"], log)
    graded = lambda: len(list(out.glob("students/*/grade.html")))  # noqa: E731
    try:
        wait_for(lambda: graded() >= 1, process)
        watch = Watch(process, out / ".work")
        soak(process, watch, log)
        watch.write("grader", submissions=graded(), growing=watch.growing())
    finally:
        stop(process)
    assert graded() > SECONDS / 20
    assert not watch.growing()
    left = [path for path in (out / ".work").rglob("*") if path.is_file()] if (out / ".work").exists() else []
    assert len(left) <= watch.rows[0]["folder_files"] + 2, left[:10]


def wait_for(condition, process: subprocess.Popen) -> None:
    def ready() -> bool:
        assert process.poll() is None, "it has ended"
        return condition()

    folders.wait_for(ready)


def soak(process: subprocess.Popen, watch: Watch, log, work=lambda: time.sleep(0.05)) -> None:
    """Watch a process, and keep it at work."""
    while watch.passed < SECONDS:
        assert process.poll() is None, log_of(log)
        work()
        watch.sample()


def log_of(file) -> str:
    file.flush()
    file.seek(0)
    return file.read()[-3000:]
