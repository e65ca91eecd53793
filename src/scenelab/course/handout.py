"""The modes of the handout's `main.py` (train, evaluate, attention maps, attack), built from scenelab's functions."""

import argparse
import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from scenelab.data.augment import resize
from scenelab.data.cache import MemmapDataset
from scenelab.data.splits import open_dataset
from scenelab.errors import LabError
from scenelab.evaluation.metrics import hits, top_k
from scenelab.evaluation.precision import predict_mirrored
from scenelab.io import write_json
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.models.registry import NETWORKS
from scenelab.models.simplenet import Factory
from scenelab.progress import LogProgress, progress
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import RunConfig, TrainConfig, to_plain
from scenelab.runs.events import has_tensorboard, image_writer
from scenelab.runs.network import read_classifier
from scenelab.runs.run import Run
from scenelab.runtime import available_cores
from scenelab.training.clock import total_steps
from scenelab.training.device import adapt, pick_device
from scenelab.training.metrics_logger import RunLogger, size_until
from scenelab.training.recipes import starter
from scenelab.training.state import TrainState, initialize, make_loader, restore
from scenelab.training.trainer import Trainer

MODELS, LOGS = Path("../models"), Path("../logs")
DEFAULT = "simplenet"  # architecture name in checkpoints of `default_model`, even if a student changed the network
BATCH_SIZE, COLUMNS, PROBED = 100, 10, 4  # images per grid, per row of a grid, and to compare two forms of a network


def config_from_flags(flags: argparse.Namespace, model: str) -> TrainConfig:
    """Return the config of the recipe `starter` with values from `main.py`'s flags and the network name `model`."""
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
    """Return the device `cuda:N` for `--gpu=N`, or `cpu` for -1 or without a GPU; print the choice unless it is -1."""
    if gpu < 0:
        return "cpu"
    if not torch.cuda.is_available():
        print(f"No GPU here: training on the CPU ({available_cores()} cores). --gpu=-1 asks for that.")
        return "cpu"
    print(f"Use GPU: {gpu}")
    return f"cuda:{gpu}"


def lookup(student_code: ModuleType, name: str) -> Any:
    """Return the object `name` of student_code.py; raise LabError if it is missing."""
    if not hasattr(student_code, name):
        raise LabError(f"student_code.py has no {name}, which this needs, as in the handout")
    return getattr(student_code, name)


def attach_attack(factory: Factory, attack: Any) -> Factory:
    """Return a factory of networks that replace their inputs by adversarial examples in train mode.

    A forward pre-hook calls `attack.perturb(network, images)` on normalized images; the hook is off during the attack.
    Parameters and checkpoints are the same as without the hook.
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
    """Train a network; write checkpoints to `../models` and TensorBoard events to `../logs`.

    An earlier run that would be overwritten is first moved to `../models/earlier-N`.

    Args:
        data: the data folder.
        config: config of the run.
        factory: builds the network, called with `num_classes`.
        resume: path of a checkpoint to resume from; empty to start a new run.
        start_epoch: number of completed epochs; 0 takes the number from the checkpoint.
        print_freq: number of steps between two printed lines.
        attached: whether the factory is a result of `attach_attack`.

    Raises:
        LabError: the data or the checkpoint is invalid, or training diverged.
        Interrupted: Ctrl-C was pressed; a checkpoint has been saved.
    """
    torch.set_num_threads(config.threads)
    train_set, val_set = (open_dataset(data, None, split, config.stored_size) for split in ("train", "val"))
    run = Run(MODELS)
    continues = bool(resume) and Path(resume).resolve().parent == MODELS.resolve()
    if continues and run.config.exists() and bool(run.read_config().attached_attack) != attached:
        before, now = ("with", "without") if not attached else ("without", "with")
        raise LabError(
            f"{MODELS} was trained {before} --adversarial; resume {before} it, or leave --resume out to train {now} it"
        )
    config = adapt(config, device := pick_device(config.device))
    loader = make_loader(train_set, config, device)
    state = initialize(config, num_classes=len(train_set.categories), device=device, factory=factory)
    if resume:
        _resume(state, Path(resume), config.model, loader.steps_per_epoch)
    if start_epoch:
        state.step = start_epoch * loader.steps_per_epoch
    if state.step >= total_steps(config, loader.steps_per_epoch):
        raise LabError(
            f"--resume {resume or start_epoch} is at epoch {state.step // loader.steps_per_epoch} "
            f"of {config.epochs:g} already; ask for more with --epochs"
        )
    if not continues:
        _move_aside(run)
    state.metrics_bytes = (state.metrics_bytes or size_until(run.metrics, state.step)) if continues else 0
    attack, digest = "default_attack of student_code.py" if attached else None, train_set.digest
    stored = RunConfig(data=str(data.resolve()), train_digest=digest, attached_attack=attack, train=config)
    write_json(run.config, to_plain(stored)) if run.config.exists() else run.create(stored)
    with closing(RunLogger(run, keep_bytes=state.metrics_bytes, events=LOGS)) as logger:
        display = LogProgress(every_steps=print_freq)
        Trainer(run=run, config=config, state=state, loader=loader, val=val_set, logger=logger, display=display).fit()
    curves = f" Curves: tensorboard --logdir={LOGS}" if has_tensorboard() else ""
    print(f"Best top-1 on val: {state.best_acc1:.3f}. Model: {run.best}.{curves}")


def _resume(state: TrainState, path: Path, arch: str, steps_per_epoch: int) -> None:
    print(f"=> loading checkpoint '{path}'")
    values = load_checkpoint(path)
    for missing in restore(state, values, path, arch=arch, steps_per_epoch=steps_per_epoch):
        print(f"The checkpoint does not hold {missing}: starting that anew. checkpoint.pth.tar holds everything.")
    print(f"=> loaded checkpoint '{path}' (epoch {values.get('epoch', 0)})")


def _move_aside(run: Run) -> None:
    """Move an earlier run and its logs to new subfolders `earlier-N` of `../models` and `../logs`."""
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
    """Return the network name stored in a checkpoint file; `DEFAULT` if the path is empty or the name is unknown."""
    name = load_checkpoint(Path(checkpoint)).get("model_arch", DEFAULT) if checkpoint else DEFAULT
    if name == DEFAULT or name not in NETWORKS:
        return DEFAULT
    print(f"The checkpoint holds a {name}: evaluating that.")
    return name


def network(name: str, student_code: ModuleType) -> Factory:
    """Return the factory of a network: from student_code.py if it defines one, else from scenelab's `NETWORKS`."""
    own = {DEFAULT: "default_model", "vit": "default_vit_model"}.get(name, "")
    return getattr(student_code, own, NETWORKS[name].build)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Model to evaluate, height and width of its input images in pixels (`size`), val images, and device."""

    model: Classifier
    size: int
    val: MemmapDataset
    device: torch.device

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of at most 100 val images, resized and normalized, with their class indices."""
        for start in range(0, len(self.val), BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            images = self.val.gather(rows).to(self.device).float().div_(255)
            with torch.no_grad():
                yield self.model.normalize(resize(images, self.size)), self.val.labels[rows]


def open_evaluation(data: Path, checkpoint: str, factory: Factory, gpu: int) -> Evaluation:
    """Load a checkpoint and open the val images; raise LabError if checkpoint, network or data do not match."""
    if not checkpoint:
        raise LabError("-e and -a need a trained model; say which with --resume=../models/model_best.pth.tar")
    torch.set_num_threads(available_cores())
    device = pick_device(device_of(gpu))
    stored = read_classifier(Path(checkpoint), factory=factory)
    print(f"=> loaded checkpoint '{checkpoint}' (epoch {stored.epoch})")
    val = open_dataset(data, None, "val", starter().stored_size)
    if len(stored.categories) != len(val.categories):
        raise LabError(f"{checkpoint} knows {len(stored.categories)} classes, {data} has {len(val.categories)}")
    images = resize(val.gather(slice(0, PROBED)).float().div(255), stored.size)
    return Evaluation(prepare_for_inference(stored.model, images).to(device), stored.size, val, device)


def evaluate(data: Path, checkpoint: str, factory: Factory, *, gpu: int = -1) -> None:
    """Print top-1 and top-5 accuracy on val in percent, averaging the logits of each image and its mirror image."""
    judged = open_evaluation(data, checkpoint, factory, gpu)
    outputs = predict_mirrored(judged.model, judged.val, size=judged.size)
    top1, top5 = (top_k(outputs.mirrored, judged.val.labels, k) for k in (1, 5))
    print(f"=> precision: {outputs.precision}\n******Acc@1 {top1:.3f} Acc@5 {top5:.3f}")


def log_attention(data: Path, checkpoint: str, factory: Factory, student_code: ModuleType, *, gpu: int = -1) -> None:
    """Write the attention maps of all val images to TensorBoard in `../logs`, one grid of 100 images per step.

    The student's `default_attention` and `default_visfunction` get normalized images, as in the handout.
    """
    attention, show = (lookup(student_code, name) for name in ("default_attention", "default_visfunction"))
    judged, attention = open_evaluation(data, checkpoint, factory, gpu), attention(torch.nn.CrossEntropyLoss())
    with image_writer(LOGS) as writer, progress("attention maps", len(judged.val)) as advance:
        for step, (images, _) in enumerate(judged.batches()):
            maps = attention.explain(judged.model.network, images)
            _require_shape("explain", maps, (len(images), 1, *images.shape[2:]), images)
            writer.add_image("Image/Image_Atten", show(images, n_rows=COLUMNS, vis_output=maps), step)
            advance(len(images))
    _print_hint("Attention maps")


def attack(
    data: Path, checkpoint: str, factory: Factory, student_code: ModuleType, *, gpu: int = -1, vis: bool = False
) -> None:
    """Attack all val images with the student's `default_attack`; print the accuracy in percent before and after.

    The attack gets normalized images, as in the handout; logits are not averaged with mirror images. With `vis`, also
    write original and adversarial images to TensorBoard in `../logs`, one grid of 100 images per step.
    """
    attacker = lookup(student_code, "default_attack")(torch.nn.CrossEntropyLoss())
    show = lookup(student_code, "default_visfunction") if vis else None
    judged = open_evaluation(data, checkpoint, factory, gpu)
    counts, largest = {"clean": torch.zeros(2), "attacked": torch.zeros(2)}, 0.0
    with image_writer(LOGS) if vis else nullcontext() as writer, progress("attack", len(judged.val)) as advance:
        for step, (images, labels) in enumerate(judged.batches()):
            adversarial = attacker.perturb(judged.model.network, images)
            _require_shape("perturb", adversarial, tuple(images.shape), images)
            largest = max(largest, (adversarial - images).abs().max().item())
            for batch, count, name in zip((images, adversarial), counts.values(), ("Org", "Adv"), strict=True):
                with torch.no_grad():
                    scores = judged.model.network(batch).cpu()
                count += torch.tensor([hits(scores, labels, k).sum() for k in (1, 5)])
                if writer is not None and show is not None:
                    writer.add_image(f"Image/{name}_Image", show(batch, n_rows=COLUMNS), step)
            advance(len(images))
    if vis:
        _print_hint("Original and adversarial images")
    print(f"Largest change of a normalized value: {largest:.4f}")
    for name, count in counts.items():
        top1, top5 = (100 * count / len(judged.val)).tolist()
        print(f"=> {name}:\n******Acc@1 {top1:.3f} Acc@5 {top5:.3f}")


def _print_hint(what: str) -> None:
    options = f"--logdir={LOGS} --samples_per_plugin images=1000"  # TensorBoard keeps ten images per tag by default
    print(f"{what}: tensorboard {options}, tab Images; the slider moves through the batches.")


def _require_shape(function: str, result: Any, expected: tuple[int, ...], images: Tensor) -> None:
    if not isinstance(result, Tensor) or tuple(result.shape) != expected:
        got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise LabError(f"{function} returned {got} for images {tuple(images.shape)}; expected a tensor {expected}")
