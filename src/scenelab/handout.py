"""What the handout's `main.py` does, on scenelab's own loop: its folders, its checkpoints, its last line."""

import dataclasses
from pathlib import Path
from types import ModuleType

import torch
from torch.utils.tensorboard import SummaryWriter

from scenelab.data.augment import resize
from scenelab.errors import LabError
from scenelab.evaluation.accuracy import predict_logits, top_k
from scenelab.models.registry import NETWORKS
from scenelab.models.simplenet import Factory
from scenelab.models.stored import read_classifier
from scenelab.progress import progress
from scenelab.recipes import starter
from scenelab.runs import Run, load_checkpoint
from scenelab.training.config import TrainConfig, to_plain
from scenelab.training.display import Lines
from scenelab.training.loop import Trainer, pick_device
from scenelab.training.session import available_cores, open_packed

MODELS = Path("../models")
LOGS = Path("../logs")
PICTURES, COLUMNS = 100, 10  # in a grid, and in a row of it
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
        device=_device(gpu), threads=available_cores(),
    )  # fmt: skip


def _device(gpu: int) -> str:
    """The handout's --gpu: a number, or -1 for the CPU; where there is no GPU it says so and goes on."""
    if gpu < 0:
        return "cpu"
    if not torch.cuda.is_available():
        print(f"No GPU here: training on the CPU ({available_cores()} cores). --gpu=-1 asks for that.")
        return "cpu"
    print(f"Use GPU: {gpu}")
    return f"cuda:{gpu}"


def train(
    data: Path, config: TrainConfig, factory: Factory, *, resume: str = "", start_epoch: int = 0, print_freq: int = 10
) -> None:
    """Train into `../models` and `../logs`, from the start or from a checkpoint.

    An earlier run that would be overwritten is moved to `../models/earlier-N` first.

    Raises:
        LabError: bad data or checkpoint, or divergence.
        Interrupted: Ctrl-C; the checkpoint is written.
    """
    torch.set_num_threads(config.threads)
    train_set, val_set = (open_packed(data, None, split, config.stored_size) for split in ("train", "val"))
    run = Run(MODELS)
    continues = bool(resume) and Path(resume).resolve().parent == MODELS.resolve()
    if not continues:
        _move_aside(run)
    trainer = Trainer(
        run=run, config=config, packed=train_set, val=val_set, factory=factory, events=LOGS,
        display=Lines(every_steps=print_freq),
    )  # fmt: skip
    if resume:
        _resume(trainer, Path(resume), continues)
    if start_epoch:
        trainer.state.step = start_epoch * trainer.batches.steps_per_epoch
    if not continues:
        stored = {"data": str(data.resolve()), "cache": None, "train_digest": train_set.digest}
        run.create({**stored, "train": to_plain(config)})
    if trainer.state.step >= trainer.batches.total_steps:
        raise LabError(
            f"--resume {resume or start_epoch} is at epoch {trainer.state.step // trainer.batches.steps_per_epoch} "
            f"of {config.epochs:g} already; ask for more with --epochs"
        )
    trainer.fit()
    print(f"Best top-1 on val: {trainer.state.best_acc1:.3f}. Model: {run.best}. Curves: tensorboard --logdir={LOGS}")


def _resume(trainer: Trainer, path: Path, continues: bool) -> None:
    print(f"=> loading checkpoint '{path}'")
    for lacking in trainer.resume(path):
        print(f"The checkpoint does not hold {lacking}: starting that anew. checkpoint.pth.tar holds everything.")
    if not continues:
        trainer.state.metrics_bytes = 0
    print(f"=> loaded checkpoint '{path}' (epoch {load_checkpoint(path).get('epoch', 0)})")


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
    return getattr(student_code, own, NETWORKS[name].make)


def log_attention(data: Path, checkpoint: str, factory: Factory, student_code: ModuleType, *, gpu: int = -1) -> None:
    """Draw the attention maps of all val images into `../logs`, a grid of a hundred a step.

    The student's `default_attention` and `default_visfunction` work on normalised images, as the handout has it.

    Raises:
        LabError: student_code.py has no such names, or its function returns something else than maps.
    """
    for name in ("default_attention", "default_visfunction"):
        if not hasattr(student_code, name):
            raise LabError(f"student_code.py has no {name}; -v needs one, as in the handout")
    device = pick_device(_device(gpu))
    stored = read_classifier(Path(checkpoint), factory=factory)
    model = stored.model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    attention = student_code.default_attention(torch.nn.CrossEntropyLoss())
    val = open_packed(data, None, "val", starter().stored_size)
    with SummaryWriter(str(LOGS)) as writer, progress("attention maps", len(val)) as advance:
        for step, start in enumerate(range(0, len(val), PICTURES)):
            images = val.rows(slice(start, start + PICTURES)).to(device).float().div_(255)
            normalized = model.normalize(resize(images, stored.size))
            maps = attention.explain(model.network, normalized)
            if maps.shape != (len(images), 1, *normalized.shape[2:]):
                raise LabError(
                    f"explain returned {tuple(maps.shape)} for {len(images)} images of {stored.size} pixels; expected "
                    f"{(len(images), 1, stored.size, stored.size)}"
                )
            picture = student_code.default_visfunction(normalized, n_rows=COLUMNS, vis_output=maps)
            writer.add_image("Image/Image_Atten", picture, step)
            advance(len(images))
    print(f"Attention maps: tensorboard --logdir={LOGS}, tab Images; the slider moves through the batches.")


def evaluate(data: Path, checkpoint: str, factory: Factory, *, gpu: int = -1) -> None:
    """Evaluate a checkpoint on val, mirror-averaged, and print the handout's last line.

    Raises:
        LabError: no checkpoint was given, or it does not fit the network.
    """
    if not checkpoint:
        raise LabError("-e evaluates a trained model; say which with --resume=../models/model_best.pth.tar")
    torch.set_num_threads(available_cores())
    device = pick_device(_device(gpu))
    stored = read_classifier(Path(checkpoint), factory=factory)
    print(f"=> loaded checkpoint '{checkpoint}' (epoch {stored.epoch})")
    val = open_packed(data, None, "val", starter().stored_size)
    if len(stored.categories) != len(val.categories):
        raise LabError(f"{checkpoint} knows {len(stored.categories)} classes, {data} has {len(val.categories)}")
    model = stored.model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    logits = predict_logits(model, val, size=stored.size, mirror=True, device=device)
    print(f"******Acc@1 {top_k(logits, val.labels, 1):.3f} Acc@5 {top_k(logits, val.labels, 5):.3f}")
