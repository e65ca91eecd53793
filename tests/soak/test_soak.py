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
    pytest.importorskip("uvicorn")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    options = {"stdout": subprocess.PIPE, "text": True, "env": os.environ | {"TMPDIR": str(temporary)}}
    process = started(["app", str(untrained.folder), "--port", "0"], log, **options)
    pictures = cycle(sorted((scenes / "images" / "val").rglob("*.jpg")))
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found, log_of(log)
        visit_explorer(found[0], next(pictures))  # torch is imported now
        watch, visits = Watch(process, temporary), [0]

        def visit() -> None:
            visit_explorer(found[0], next(pictures))
            visits[0] += 1

        soak(process, watch, log, visit)
        watch.write("explorer", visits=visits[0], growing=watch.growing(threads=POOL))
    finally:
        stop(process)
        process.stdout.close()
    assert visits[0] > SECONDS / 10
    assert not watch.growing(threads=POOL)
    assert watch.summary()["folder_files"]["late"] == 0  # nothing is written to disk
    assert log_of(log).strip() in ("", "scenelab: stopped")


def visit_explorer(address: str, picture: Path) -> None:
    """Ask for the runs, and for a prediction, a map, feature maps and an attack of an image that is new each time."""
    session, name = requests.Session(), uuid.uuid4().bytes  # behind the end of a JPEG, where it changes no pixel
    with session:
        (run,) = (entry["id"] for entry in session.get(f"{address}/api/runs", timeout=60).json())
        known = session.get(f"{address}/api/runs/{run}/network", timeout=60).json()
        image = session.post(f"{address}/api/images", data=picture.read_bytes() + name, timeout=60).json()["image"]
        body = {"run": run, "image": image}
        layer = {"layer": known["layers"][0][0]}
        for path, more in (("predict", {}), ("explain", {"method": "cam"}), ("features", layer), ("attack", {})):
            answer = session.post(f"{address}/api/{path}", json={**body, **more}, timeout=60)
            assert answer.ok, answer.text
            assert path != "attack" or "event: result" in answer.text


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
