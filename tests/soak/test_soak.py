"""Training, the explorer and the grader for a time: memory, open files, threads and disk stay flat.

`make soak` gives each of them 20 minutes, `make test-all` some seconds. SCENELAB_SOAK_VISITS=10000 visits the explorer
that often, however long it takes, and with `pytest -s` prints its memory on the way.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import pytest
import requests

import folders
from mutants import solution, write_as_zip
from runs_compared import read_rows
from scenelab.course.grading.sandbox import best
from scenelab.evaluation.predict import predict_files
from scenelab.runs.loading import open_network
from soak.watch import FULL, SECONDS, VISITS, Watch

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


@contextlib.contextmanager
def explorer(run: Path, folder: Path, log):
    """The explorer of a run: its process, its address, and the folder that it could write temporary files to."""
    pytest.importorskip("uvicorn")
    temporary = folder / "temporary"
    temporary.mkdir()
    options = {"stdout": subprocess.PIPE, "text": True, "env": os.environ | {"TMPDIR": str(temporary)}}
    process = started(["app", str(run), "--port", "0"], log, **options)
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found, log_of(log)
        yield process, found[0], temporary
    finally:
        stop(process)
        process.stdout.close()
    assert not list(temporary.iterdir())  # nothing is written to disk
    assert log_of(log).strip() in ("", "scenelab: stopped")


@pytest.mark.slow
@pytest.mark.timeout(0 if VISITS else SECONDS + 300)
def test_the_explorer_stays_flat(untrained, scenes, tmp_path, log):
    pictures = cycle(sorted((scenes / "images" / "val").rglob("*.jpg")))
    with explorer(untrained.folder, tmp_path, log) as (process, address, temporary):
        visit_explorer(address, next(pictures))  # torch is imported now
        watch, visits = Watch(process, temporary), [0]

        def visit() -> None:
            visit_explorer(address, next(pictures))
            visits[0] += 1
            if VISITS and visits[0] % max(1, VISITS // 40) == 0:
                print(f"{visits[0]} visits, {watch.passed:.0f} s: {watch.rows[-1]['memory'] >> 10:,} KiB", flush=True)

        soak(process, watch, log, visit, done=lambda: visits[0] / VISITS if VISITS else watch.passed / SECONDS)
        watch.write("explorer", visits=visits[0], growing=watch.growing(threads=POOL))
    assert visits[0] > SECONDS / 10
    assert not watch.growing(threads=POOL)


def visit_explorer(address: str, picture: Path, expected: list[str] | None = None) -> None:
    """Ask for the runs, and for a prediction, a map, feature maps and an attack of an image that is new each time."""
    session, name = requests.Session(), uuid.uuid4().bytes  # behind the end of a JPEG, where it changes no pixel
    with session:
        runs = session.get(f"{address}/api/runs", timeout=60).json()
        (run,) = (entry["id"] for entry in runs if entry["state"] != "shipped")
        known = session.get(f"{address}/api/runs/{run}/network", timeout=60).json()
        image = session.post(f"{address}/api/images", data=picture.read_bytes() + name, timeout=60).json()["image"]
        body = {"run": run, "image": image}
        layer = {"layer": known["layers"][0][0]}
        for path, more in (("predict", {}), ("explain", {"method": "cam"}), ("features", layer), ("attack", {})):
            answer = session.post(f"{address}/api/{path}", json={**body, **more}, timeout=60)
            assert answer.ok, answer.text
            assert path != "attack" or "event: result" in answer.text
            assert path != "predict" or expected in (None, [category for category, _ in answer.json()])


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_twenty_clients_at_once_get_their_own_answers(untrained, scenes, tmp_path, log):
    """SCENELAB_SOAK_SECONDS=60 gives them a minute."""
    pictures = sorted((scenes / "images" / "val").rglob("*.jpg"))[:20]
    predictions = predict_files(open_network(untrained.folder)[1], pictures)
    expected = [[guess["category"] for guess in each["guesses"]] for each in predictions]
    assert len({tuple(guesses) for guesses in expected}) > 2
    ready, visits, ended = threading.Barrier(21), [0] * 20, threading.Event()

    def visit(number: int) -> None:
        ready.wait()
        while not ended.is_set():
            visit_explorer(address, pictures[number], expected[number])
            visits[number] += 1

    with explorer(untrained.folder, tmp_path, log) as (process, address, temporary), ThreadPoolExecutor(20) as pool:
        visit_explorer(address, pictures[0], expected[0])
        clients = [pool.submit(visit, number) for number in range(20)]
        ready.wait()
        watch = Watch(process, temporary)
        try:
            failed = lambda: any(client.done() for client in clients)  # noqa: E731
            soak(process, watch, log, done=lambda: failed() or min(watch.passed / SECONDS, min(visits)))
        finally:
            ended.set()
        for client in clients:
            client.result()
        watch.write("clients", visits=visits, growing=watch.growing(threads=POOL))
        print(f"{sum(visits)} visits, {watch.passed:.0f} s, memory: {watch.summary()['memory']}")
    assert not watch.growing(threads=POOL)


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


def soak(process: subprocess.Popen, watch: Watch, log, work=lambda: time.sleep(0.05), done=None) -> None:
    """Watch a process, and keep it at work until it has done enough: for the time, if nothing else is said."""
    while (done() if done else watch.passed / SECONDS) < 1:
        assert process.poll() is None, log_of(log)
        work()
        watch.sample()


def log_of(file) -> str:
    file.flush()
    file.seek(0)
    return file.read()[-3000:]
