"""Train as the handout's `main.py` does, by scenelab's own loop: its flags, folders and checkpoints."""

import argparse
import dataclasses
import itertools
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from scenelab.data.splits import open_dataset
from scenelab.errors import LabError
from scenelab.models.registry import NETWORKS
from scenelab.models.simplenet import Factory
from scenelab.progress import LogProgress
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import RunConfig, TrainConfig
from scenelab.runs.run import Run
from scenelab.training.batches import TrainingBatches
from scenelab.training.metrics_logger import RunLogger
from scenelab.training.recipes import starter
from scenelab.training.session import available_cores
from scenelab.training.state import TrainState, initialize, restore
from scenelab.training.trainer import Trainer, pick_device

MODELS = Path("../models")
LOGS = Path("../logs")
DEFAULT = "simplenet"  # what checkpoints of `default_model` say, whatever a student makes of it


def config_from_flags(flags: argparse.Namespace, model: str) -> TrainConfig:
    """Return the `starter` recipe with the handout's flags; checkpoints name the network `model`."""
    recipe = starter()
    rates = {name: getattr(flags, name) for name in ("lr", "momentum", "weight_decay")}
    plain = {name: getattr(flags, name) for name in ("epochs", "batch_size")}
    return dataclasses.replace(
        recipe,
        model=model,
        optimizer=dataclasses.replace(recipe.optimizer, **rates),
        schedule=dataclasses.replace(recipe.schedule, warmup_epochs=flags.warmup_epochs),
        clip_norm=flags.clip_grad,
        device=device_of(flags.gpu),
        threads=available_cores(),
        **plain,
    )


def device_of(gpu: int) -> str:
    """Return the device of the handout's --gpu: a number, or -1 for the CPU, which also replaces a missing GPU."""
    if gpu < 0:
        return "cpu"
    if not torch.cuda.is_available():
        print(f"No GPU here: training on the CPU ({available_cores()} cores). --gpu=-1 asks for that.")
        return "cpu"
    print(f"Use GPU: {gpu}")
    return f"cuda:{gpu}"


def lookup(student_code: ModuleType, name: str) -> Any:
    """Return an object of student_code.py; raise LabError if it is missing."""
    if not hasattr(student_code, name):
        raise LabError(f"student_code.py has no {name}, which this needs, as in the handout")
    return getattr(student_code, name)


def attach_attack(factory: Factory, attack: Any) -> Factory:
    """Return a factory of networks that train on adversarial images in place of their inputs.

    The attack is called before the network's forward pass, on the normalised images, and not while it runs itself.
    Parameters and checkpoints are those of the network without it.

    Args:
        factory: makes the network.
        attack: has `perturb(model, images)`, as the student's `PGDAttack`.
    """
    is_attacking = False

    def harden(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        nonlocal is_attacking
        if is_attacking or not module.training:
            return None
        is_attacking = True
        try:
            return (attack.perturb(module, arguments[0]).detach(),)
        finally:
            is_attacking = False

    def make(**options: Any) -> nn.Module:
        network = factory(**options)
        network.register_forward_pre_hook(harden)
        return network

    return make


def train(
    data: Path,
    config: TrainConfig,
    factory: Factory,
    *,
    resume: str = "",
    start_epoch: int = 0,
    print_freq: int = 10,
    attached: bool = False,
) -> None:
    """Train to `../models` and `../logs`, from the start or from the checkpoint `resume`.

    An earlier run that would be overwritten is moved to `../models/earlier-N` first. `attached` tells whether the
    factory's networks have an attack attached.

    Raises:
        LabError: bad data or checkpoint, or divergence.
        Interrupted: Ctrl-C; the checkpoint is written.
    """
    torch.set_num_threads(config.threads)
    train_set, val_set = (open_dataset(data, None, split, config.stored_size) for split in ("train", "val"))
    run = Run(MODELS)
    continues = bool(resume) and Path(resume).resolve().parent == MODELS.resolve()
    if not continues:
        _move_aside(run)
    elif run.config.exists() and bool(run.read_config().attached_attack) != attached:
        before, now = ("with", "without") if not attached else ("without", "with")
        raise LabError(
            f"{MODELS} was trained {before} --adversarial; resume {before} it, or leave --resume out to train {now} it"
        )
    device = pick_device(config.device)
    batches = TrainingBatches(train_set, config, device)
    state = initialize(config, num_classes=len(train_set.categories), device=device, factory=factory)
    if resume:
        _resume(state, Path(resume), config.model, batches.steps_per_epoch)
    if start_epoch:
        state.step = start_epoch * batches.steps_per_epoch
    if not continues:
        state.metrics_bytes = 0
        attack = "default_attack of student_code.py" if attached else None
        digest = train_set.digest
        run.create(RunConfig(data=str(data.resolve()), train_digest=digest, attached_attack=attack, train=config))
    if state.step >= batches.total_steps:
        raise LabError(
            f"--resume {resume or start_epoch} is at epoch {state.step // batches.steps_per_epoch} "
            f"of {config.epochs:g} already; ask for more with --epochs"
        )
    with closing(RunLogger(run, keep_bytes=state.metrics_bytes, events=LOGS)) as logger:
        display = LogProgress(every_steps=print_freq)
        Trainer(run=run, config=config, state=state, batches=batches, val=val_set, logger=logger, display=display).fit()
    print(f"Best top-1 on val: {state.best_acc1:.3f}. Model: {run.best}. Curves: tensorboard --logdir={LOGS}")


def _resume(state: TrainState, path: Path, arch: str, steps_per_epoch: int) -> None:
    print(f"=> loading checkpoint '{path}'")
    values = load_checkpoint(path)
    for missing in restore(state, values, path, arch=arch, steps_per_epoch=steps_per_epoch):
        print(f"The checkpoint does not hold {missing}: starting that anew. checkpoint.pth.tar holds everything.")
    print(f"=> loaded checkpoint '{path}' (epoch {values.get('epoch', 0)})")


def _move_aside(run: Run) -> None:
    """Move the content of an earlier run's folder and logs to a sub-folder with the next number."""
    if not any(path.exists() for path in (run.checkpoint, run.best, run.config)):
        return
    number = next(number for number in itertools.count(1) if not (MODELS / f"earlier-{number}").exists())
    for folder in (folder for folder in (MODELS, LOGS) if folder.exists()):
        paths = [path for path in folder.iterdir() if not path.name.startswith("earlier-")]
        (folder / f"earlier-{number}").mkdir()
        for path in paths:
            path.rename(folder / f"earlier-{number}" / path.name)
    print(f"An earlier run was here: moved to {MODELS / f'earlier-{number}'}")


def name_of(checkpoint: str) -> str:
    """Return the name of a checkpoint's network; `DEFAULT` if it names none of ours."""
    name = load_checkpoint(Path(checkpoint)).get("model_arch", DEFAULT) if checkpoint else DEFAULT
    if name == DEFAULT or name not in NETWORKS:
        return DEFAULT
    print(f"The checkpoint holds a {name}: evaluating that.")
    return name


def network(name: str, student_code: ModuleType) -> Factory:
    """Return the factory of a network: the student's own if student_code.py has it, else ours."""
    own = {DEFAULT: "default_model", "vit": "default_vit_model"}.get(name, "")
    return getattr(student_code, own, NETWORKS[name].build)
