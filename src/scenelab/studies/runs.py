"""Plan, train and evaluate the runs of a study; finished runs are not repeated."""

import dataclasses
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from jinja2 import Environment, StrictUndefined

from scenelab.data.cache import MemmapDataset
from scenelab.data.splits import open_split
from scenelab.errors import Diverged, Interrupted, LabError
from scenelab.evaluation.accuracy_results import EvaluationResult
from scenelab.evaluation.evaluate import evaluate
from scenelab.evaluation.study_results import Study
from scenelab.io import atomic_write, read_object, write_json
from scenelab.progress import TrainProgress
from scenelab.runs.config import TrainConfig, from_plain, to_plain
from scenelab.runs.network import Stored, read_classifier
from scenelab.runs.run import Run
from scenelab.runtime import available_cores
from scenelab.studies.worker import run_worker
from scenelab.training.budget import plan
from scenelab.training.session import resume_run, start_run

HOLDOUT = 0.1
FAILURE = "diverged.json"
S = TypeVar("S", bound=Study)


def plan_once(out: Path, data: Path, config: TrainConfig) -> TrainConfig:
    """Return a study's base config, with 10 % of the training images held out, planned to fit its time limit.

    The first call chooses epochs and resolutions and saves the config in `out/plan.json`; later calls read it.

    Raises:
        LabError: the folder has a study with other settings.
    """
    path = out / "plan.json"
    listing = open_split(data, "train")
    config = dataclasses.replace(config, holdout=HOLDOUT, threads=config.threads or available_cores(), evaluate_every=2)
    if path.exists():
        stored = read_object(path)
        _refuse_difference(out, to_plain(config), to_plain(from_plain(stored.get("asked"))))
        return from_plain(stored.get("planned"))
    torch.set_num_threads(config.threads)
    planned = plan(config, images=round(len(listing) * (1 - HOLDOUT)), categories=listing.categories)
    planned = dataclasses.replace(planned, speeds=())  # all runs of a study keep its plan
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, {"asked": to_plain(config), "planned": to_plain(planned)})
    return planned


def require_same(folder: Path, data: Path, config: TrainConfig) -> None:
    """Raise a LabError if the folder has a run with another data folder or config."""
    run = Run(folder)
    if run.config.exists():
        stored = run.read_config()
        asked = {"data": str(data.resolve()), **to_plain(config)}
        _refuse_difference(folder, asked, {"data": stored.data, **to_plain(stored.train)})


def _refuse_difference(folder: Path, asked: dict[str, Any], stored: dict[str, Any]) -> None:
    different = [name for name, value in asked.items() if stored.get(name) != value]
    if different:
        raise LabError(f"{folder} was begun with another {', '.join(different)}; name another --out or remove it")


def train_run(folder: Path, data: Path, config: TrainConfig) -> None:
    """Train or resume a run in its own process, so that its peak memory can be measured."""
    name, what = "scenelab.studies.runs", f"training in {folder}"
    try:
        run_worker(name, folder, data, to_plain(config), what=what, prepared=True, show_log=True)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; repeat the command to resume") from None


def worker(folder: str, data: str, config: dict[str, Any], *, display: TrainProgress | None = None) -> bool:
    """Train or resume one run in this process; return True, because `run_worker` needs a result."""
    if Run(Path(folder)).config.exists():
        resume_run(Path(folder), display=display)
    else:
        start_run(Path(folder), Path(data), from_plain(config), display=display)
    return True


def is_finished(run: Run) -> bool:
    """Return whether training has finished: `results/training.json`, which is written last, exists."""
    return (run.results / "training.json").exists()


def finish_run(run: Run, data: Path, config: TrainConfig, holdout: MemmapDataset) -> Stored | None:
    """Train a run and evaluate it on `holdout` if not done yet; return its network, or None if training diverged.

    The network has no temperature. Raise a LabError if the run was begun with other values or judged on other images.

    The error message of a diverged run is written to `results/diverged.json`; see `failure_message`.
    """
    failure = run.results / FAILURE
    require_same(run.folder, data, config)
    if not is_finished(run) and not failure.exists():
        try:
            train_run(run.folder, data, config)
        except Diverged as error:
            write_json(failure, {"message": str(error)})
    if failure.exists():
        return None
    torch.set_num_threads(config.threads)
    stored = read_classifier(run.best)
    stored.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if not (path := run.results / "holdout.json").exists():
        evaluate(run, stored, holdout, source=str(data))
    if EvaluationResult.read(path).digest != holdout.digest:
        raise LabError(f"{run.folder} was judged on other images than those of {data} now; name another --out")
    stored.model.temperature, stored.model.threshold = 1.0, None  # attacks are of the logits without it
    return stored


def failure_message(run: Run) -> str:
    """Return the error message of a diverged run."""
    return read_object(run.results / FAILURE)["message"]


def write_study(out: Path, name: str, study: S, draw: Callable[[S, Path], None], **values: Any) -> str:
    """Write `NAME.json`, `NAME.md` and, with `draw`, the figure `NAME.png` to the folder `out`; return the Markdown.

    The Markdown is rendered from the template `NAME.md` with the content of `study` and the additional `values`.
    """
    source = (files("scenelab.studies") / "templates" / f"{name}.md").read_text(encoding="utf-8")
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    text = environment.from_string(source).render(**dict(study), **values)
    study.write(out / f"{name}.json")
    with atomic_write(out / f"{name}.md", "w") as file:
        file.write(text)
    draw(study, out / f"{name}.png")
    return text
