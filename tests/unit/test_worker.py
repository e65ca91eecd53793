"""Worker processes: what they return, how they fail, and which settings they have."""

import os
from pathlib import Path

import pytest

from scenelab.errors import Diverged, Interrupted, LabError
from scenelab.studies.worker import run_worker


@pytest.fixture(autouse=True)
def importable(monkeypatch) -> None:
    tests = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]))


@pytest.mark.parametrize(("prepared", "spins"), [(True, "3000"), (False, None)])
def test_a_plain_worker_does_not_inherit_the_settings_of_a_prepared_parent(monkeypatch, prepared, spins):
    monkeypatch.setenv("GOMP_SPINCOUNT", "3000")
    for name in ("OMP_WAIT_POLICY", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    assert run_worker("noisy_worker", "a", 1, Path("b"), prepared=prepared) == [spins, "a", 1, str(Path("b").resolve())]


@pytest.mark.parametrize(
    ("end", "error", "message"),
    [
        ("invalid", LabError, "^no such device$"),
        ("diverged", Diverged, "^the loss is nan$"),
        ("interrupted", Interrupted, "^stopped at step 4$"),
        ("broken", LabError, "^the measurement of 'broken' failed: MemoryError: no more; if memory ran out, try small"),
        ("killed", LabError, "^the measurement of 'killed' failed: warning; if memory"),
    ],
)
def test_the_end_of_a_worker_is_passed_on(end, error, message):
    with pytest.raises(error, match=message):
        run_worker("noisy_worker", end, prepared=False)


def test_a_worker_that_shows_its_log_fails_with_its_exit_status(capfd):
    with pytest.raises(LabError, match="^training failed: exit status 3; if memory"):
        run_worker("noisy_worker", "killed", what="training", prepared=False, show_log=True)
    assert "noise" in capfd.readouterr().err
