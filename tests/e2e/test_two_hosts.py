"""Two hosts train one network: network namespaces of this machine, joined by a virtual cable that is cut and healed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import folders
from runs_compared import read_rows

FLAGS = ["--model", "residual-small", "--epochs", "8", "--batch-size", "16", "--device", "cpu", "--threads", "1"]
HOSTS = ("scenelab-a", "scenelab-b")
PORT = 29544


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


def remove_hosts() -> None:
    for host in HOSTS:
        subprocess.run(["ip", "netns", "del", host], check=False, capture_output=True)


@pytest.fixture
def cable():
    """Addresses 10.77.0.1 and 10.77.0.2; `link` takes the cable down or up."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    remove_hosts()  # of a run that was killed
    try:
        for host in HOSTS:
            ip("netns", "add", host)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    try:
        ip("link", "add", "sl-a", "netns", HOSTS[0], "type", "veth", "peer", "name", "sl-b", "netns", HOSTS[1])
        for number, (host, end) in enumerate(zip(HOSTS, ("sl-a", "sl-b"), strict=True), start=1):
            ip("-n", host, "address", "add", f"10.77.0.{number}/24", "dev", end)
            ip("-n", host, "link", "set", "lo", "up")
            ip("-n", host, "link", "set", end, "up")
        yield lambda state: ip("-n", HOSTS[0], "link", "set", "sl-a", state)
    finally:
        remove_hosts()


def launch(rank: int, log: Path, *arguments: str) -> subprocess.Popen:
    """`torchrun --nnodes=2` on one of the two, with the names that gloo needs to find its own end of the cable."""
    command = ["ip", "netns", "exec", HOSTS[rank], sys.executable, "-m", "torch.distributed.run", "--nnodes=2"]
    command += ["--nproc-per-node=1", f"--node-rank={rank}", "--master-addr=10.77.0.1", f"--master-port={PORT}"]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": ("sl-a", "sl-b")[rank], "OMP_NUM_THREADS": "1"}
    options = {"start_new_session": True, "env": environment}
    with open(log, "a") as file:
        return subprocess.Popen([*command, "-m", "scenelab", *arguments], stdout=file, stderr=file, **options)


def wait_for(condition, *processes: subprocess.Popen) -> None:
    def ready() -> bool:
        assert all(process.poll() in (None, 0) for process in processes)
        return condition()

    folders.wait_for(ready)


def step_of(run: Path) -> int:
    try:
        return max((row["step"] for row in read_rows(run)), default=0)
    except (OSError, ValueError):
        return 0


def kill(*processes: subprocess.Popen) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_cable_that_is_cut_and_healed(scenes, tmp_path, cable):
    """For seconds: training stands still and goes on. For good: both hosts are lost, and the same command goes on from
    the checkpoint. The losses are those of one process all along.
    """
    alone, run, log = tmp_path / "alone", tmp_path / "run", tmp_path / "log.txt"
    train = ["train", "demo", "--data", str(scenes), *FLAGS, "--out"]
    single = [sys.executable, "-m", "scenelab", *train, str(alone)]
    subprocess.run(single, check=True, capture_output=True, timeout=240)
    command = [*train, str(run), "--checkpoint-seconds", "0"]
    pair: list[subprocess.Popen] = []
    try:
        pair = [launch(rank, log, *command) for rank in (0, 1)]
        wait_for(lambda: step_of(run) >= 5, *pair)
        cable("down")
        time.sleep(0.7)
        before = (run / "checkpoint.pth.tar").stat().st_mtime_ns
        time.sleep(1.5)
        assert (run / "checkpoint.pth.tar").stat().st_mtime_ns == before  # it stands still
        assert [process.poll() for process in pair] == [None, None]
        cable("up")
        wait_for(lambda: (run / "checkpoint.pth.tar").stat().st_mtime_ns > before, *pair)
        wait_for(lambda: step_of(run) >= 15, *pair)
        cable("down")
        kill(*pair)
        assert not (run / "results" / "training.json").exists()
        cable("up")
        pair = [launch(rank, log, *command) for rank in (0, 1)]
        wait_for(lambda: all(process.poll() == 0 for process in pair), *pair)
    except AssertionError:
        print(log.read_text()[-4000:])
        raise
    finally:
        kill(*pair)
    assert json.loads((run / "environment.json").read_text())["resumed"]
    assert json.loads((run / "results" / "training.json").read_text())["processes"] == 2
    losses = [[row["loss"] for row in read_rows(folder, "train")] for folder in (alone, run)]
    assert len(losses[1]) == len(losses[0]) == 8
    assert losses[1][0] == pytest.approx(losses[0][0], rel=5e-4)
    assert losses[1][:5] == pytest.approx(losses[0][:5], rel=2e-2)  # rounding, enlarged with every step
