"""Training from shards, in a folder or on a server: stopped in mid-epoch it goes on as if it had not been."""

import json
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from range_server import Range
from scenelab.cli import main
from scenelab.data.shards import write_shards
from scenelab.errors import LabError
from scenelab.progress import Silent
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig
from scenelab.training.session import resume_run, start_run
from scenelab.training.trainer import Trainer

CONFIG = TrainConfig(
    model="simplenet-small", epochs=3, batch_size=16, eval_size=32, threads=1, log_every=1, checkpoint_seconds=0,
    schedule=ScheduleConfig(sizes=((0.0, 16), (0.5, 32))), optimizer=OptimizerConfig(name="sgd", lr=0.05),
)  # fmt: skip


@pytest.fixture(scope="module")
def shards(scenes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("streamed") / "shards"
    assert main.run(["data", "shard", str(scenes), "--out", str(out), "--size", "32"]) == 0
    return out


def train(data: Path, out: Path) -> dict[str, torch.Tensor]:
    start_run(out, data, CONFIG, display=Silent())
    return load_checkpoint(out / "model_best.pth.tar")["state_dict"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[key]) for key, value in one.items())


def test_stopped_in_mid_epoch_and_resumed(shards, tmp_path, monkeypatch):
    whole = train(shards, tmp_path / "whole")
    step = Trainer.step

    def stop(trainer: Trainer) -> int:
        if trainer.state.step == 7:  # of 5 an epoch
            raise KeyboardInterrupt
        return step(trainer)

    monkeypatch.setattr(Trainer, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(shards, tmp_path / "stopped")
    monkeypatch.setattr(Trainer, "step", step)
    assert load_checkpoint(tmp_path / "stopped" / "checkpoint.pth.tar")["step"] == 7
    resume_run(tmp_path / "stopped", display=Silent())
    assert same(load_checkpoint(tmp_path / "stopped" / "model_best.pth.tar")["state_dict"], whole)
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "stopped")]
    assert metrics[0] == metrics[1]
    assert len(metrics[0].splitlines()) == 15 + 3 + 3


def test_from_a_server_as_from_the_folder(shards, tmp_path, capsys):
    whole = train(shards, tmp_path / "folder")
    handler = type("Handler", (Range,), {"folder": shards, "drops": 2})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{served.server_port}"
        assert same(train(Path(address), tmp_path / "server"), whole)
        assert json.loads((tmp_path / "server" / "config.json").read_text())["data"] == address
        assert main.run(["evaluate", str(tmp_path / "server"), "--json"]) == 0
        served.shutdown()
    result = json.loads((tmp_path / "server" / "results" / "val.json").read_text())
    assert result["images"] == 36
    assert "trying again" in capsys.readouterr().err


def test_changed_shards_are_another_data_set(scenes, shards, tmp_path):
    train(shards, tmp_path / "run")
    index = json.loads((shards / "index.json").read_text())
    copy = tmp_path / "copy"
    write_shards(scenes, copy, size=32, shard_bytes=1)
    assert json.loads((copy / "index.json").read_text())["digest"] != index["digest"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"data": str(copy)}))
    with pytest.raises(LabError, match=r"the training images in .* changed since"):
        resume_run(tmp_path / "run", display=Silent())
