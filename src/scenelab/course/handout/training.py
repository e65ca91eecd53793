"""Training as the handout's `main.py` has it, on scenelab's own loop: its flags, its folders, its checkpoints."""

import dataclasses
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


def config_from_flags(
    *, epochs: int, batch_size: int, lr: float, momentum: float, weight_decay: float, warmup_epochs: int,
    clip_grad: float, gpu: int, model: str,
) -> TrainConfig:  # fmt: skip
    """The `starter` recipe with the handout's flags in their places.

    Args:
        model: what the checkpoints call the network.
    """
    recipe = starter()
    optimizer = dataclasses.replace(recipe.optimizer, lr=lr, momentum=momentum, weight_decay=weight_decay)
    return dataclasses.replace(
        recipe, model=model, epochs=epochs, batch_size=batch_size, optimizer=optimizer, clip_norm=clip_grad,
        schedule=dataclasses.replace(recipe.schedule, warmup_epochs=warmup_epochs),
        device=device_of(gpu), threads=available_cores(),
    )  # fmt: skip


def device_of(gpu: int) -> str:
    """The handout's --gpu: a number, or -1 for the CPU; where there is no GPU it says so and goes on."""
    if gpu < 0:
        return "cpu"
    if not torch.cuda.is_available():
        print(f"No GPU here: training on the CPU ({available_cores()} cores). --gpu=-1 asks for that.")
        return "cpu"
    print(f"Use GPU: {gpu}")
    return f"cuda:{gpu}"


def chosen(student_code: ModuleType, name: str) -> Any:
    """What student_code.py calls so.

    Raises:
        LabError: it has no such name.
    """
    if not hasattr(student_code, name):
        raise LabError(f"student_code.py has no {name}, which this needs, as in the handout")
    return getattr(student_code, name)


def attach_attack(factory: Factory, attack: Any) -> Factory:
    """A network that, in training, sees adversarial images in place of its own: the handout's adversarial training.

    The attack is called in front of the network's forward pass, on the normalised images that come in, and not while it
    runs itself. Parameters and checkpoints are those of the network without it.

    Args:
        attack: has `perturb(model, images)`, as the student's `PGDAttack`.
    """
    attacking: list[bool] = []

    def harden(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if attacking or not module.training:
            return None
        attacking.append(True)
        try:
            return (attack.perturb(module, arguments[0]).detach(),)
        finally:
            attacking.clear()

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
    """Train into `../models` and `../logs`, from the start or from a checkpoint.

    An earlier run that would be overwritten is moved to `../models/earlier-N` first.

    Args:
        attached: whether the factory's networks have an attack in front of them, which the run's config then says.

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
            f"{MODELS} was trained {before} --adversarial; go on {before} it, or train anew {now} it and leave "
            "--resume out"
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
    """Keep an earlier run whole: its folder's and its logs' content moves to a sub-folder with the next number."""
    if not any(path.exists() for path in (run.checkpoint, run.best, run.config)):
        return
    number = 1
    while (MODELS / f"earlier-{number}").exists():
        number += 1
    for folder in (MODELS, LOGS):
        if not folder.exists():
            continue
        entries = [path for path in folder.iterdir() if not path.name.startswith("earlier-")]
        target = folder / f"earlier-{number}"
        target.mkdir()
        for path in entries:
            path.rename(target / path.name)
    print(f"An earlier run was here: moved to {MODELS / f'earlier-{number}'}")


def name_of(checkpoint: str) -> str:
    """Which network a checkpoint holds, by the name in it; `DEFAULT` where it names none of ours.

    Raises:
        LabError: the checkpoint is missing or damaged.
    """
    name = load_checkpoint(Path(checkpoint)).get("model_arch", DEFAULT) if checkpoint else DEFAULT
    if name == DEFAULT or name not in NETWORKS:
        return DEFAULT
    print(f"The checkpoint holds a {name}: evaluating that.")
    return name


def network(name: str, student_code: ModuleType) -> Factory:
    """The network of that name: the student's own where student_code.py makes it, else ours."""
    own = {DEFAULT: "default_model", "vit": "default_vit_model"}.get(name, "")
    return getattr(student_code, own, NETWORKS[name].build)
