"""A run killed with SIGKILL at any moment and resumed ends bit for bit as the uninterrupted run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from scenelab.runs.checkpoint import load_checkpoint

PROGRAM = """
import sys
from pathlib import Path
from scenelab.runtime import prepare
prepare()
from scenelab.data.augment import Augment
from scenelab.errors import LabError
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig
from scenelab.progress import LogProgress
from scenelab.training.session import resume_run, start_run

run, data = map(Path, sys.argv[1:])
config = TrainConfig(
    model="simplenet-small", epochs=8, batch_size=16, stored_size=32, eval_size=32, threads=2, log_every=1, ema=0.9,
    schedule=ScheduleConfig(warmup_epochs=1, sizes=((0.0, 16), (0.5, 32))), keep="best", checkpoint_seconds=0,
    optimizer=OptimizerConfig(name="muon", lr=0.02), augment=Augment(flip=True, area=(0.5, 1.0), gain=0.1),
)
display = LogProgress(every_steps=10**9)
if (run / "config.json").exists():
    resume_run(run, display=display)
else:
    start_run(run, data, config, display=display)
"""


def start(run: Path, data: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(run), str(data)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def run_and_kill(run: Path, data: Path, delay: float) -> bool:
    """Start or resume, wait until the process has logged something new, then kill it; whether it was still alive."""
    metrics = run / "metrics.jsonl"
    before = metrics.stat().st_mtime_ns if metrics.exists() else 0
    process = start(run, data)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and metrics.stat().st_mtime_ns != before:
            break
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors.decode()
    return process.returncode == -signal.SIGKILL


def read_events(run: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = {}
    for folder in [run / "tensorboard", *(path for path in (run / "tensorboard").iterdir() if path.is_dir())]:
        events = EventAccumulator(str(folder)).Reload()
        for tag in events.Tags()["scalars"]:
            curves[f"{folder.name} {tag}"] = [(event.step, event.value) for event in events.Scalars(tag)]
    return curves


def test_killed_at_random_moments_and_resumed(scenes, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = start(whole, scenes)
    _, errors = done.communicate()
    assert done.returncode == 0, errors.decode()

    moments = random.Random(int(os.environ.get("SCENELAB_TEST_SEED", "1")))
    kills = sum(run_and_kill(killed, scenes, moments.uniform(0, 0.6)) for _ in range(4))
    assert kills >= 2, "the run ended before it could be killed twice: make it longer"
    last = start(killed, scenes)
    _, errors = last.communicate()
    assert last.returncode == 0, errors.decode()

    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert read_events(killed) == read_events(whole)
    for name in ("checkpoint.pth.tar", "model_best.pth.tar"):
        ours, expected = load_checkpoint(killed / name), load_checkpoint(whole / name)
        for part in ("state_dict", "average"):
            for key, value in (expected.get(part) or {}).items():
                assert torch.equal(ours[part][key], value), (name, part, key)
    leftovers = [path.name for path in killed.iterdir() if path.name.endswith(".part")]
    assert len(leftovers) <= 4
