"""scenelab train, resume, recipes."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from scenelab.cli.output import print_json, print_table

if TYPE_CHECKING:
    from scenelab.runs.config import AdversarialConfig, TrainConfig


def train(
    recipe: Positional[str],
    *,
    data: Path,
    out: Path,
    cache: Path | None = None,
    model: str | None = None,
    conv: Literal["native", "custom"] | None = None,
    minutes: float | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    warmup_epochs: float | None = None,
    clip_norm: float | None = None,
    seed: int | None = None,
    holdout: float | None = None,
    damaged: Literal["refuse", "skip"] | None = None,
    adversarial: Literal["pgd", "fast", "free", "handout"] | None = None,
    epsilon: str = "4/255",
    attack_steps: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    accumulate: int | None = None,
    checkpoint_seconds: float | None = None,
) -> None:
    """Train a network by a recipe; 'scenelab recipes' lists them.

    Several processes or machines train one network with torchrun --nproc-per-node=2 -m scenelab train …

    Example: scenelab train starter --data data --out runs/starter --epochs 10

    Args:
        recipe: name of a recipe; the flags below change single values of it.
        data: a MiniPlaces folder, or one with a sub-folder a class.
        out: the run folder to make.
        cache: where packed images live; DATA/packed by default.
        model: a network that 'scenelab models' lists.
        conv: its convolution, torch's or the one by hand (custom).
        minutes: time from the first step to the end of the last evaluation; the schedule follows the clock.
        epochs: passes over the training images.
        batch_size: images a step.
        lr: peak learning rate.
        warmup_epochs: epochs of linear rise to it.
        clip_norm: largest norm of the gradient, 0 for none.
        seed: of initialisation, order and augmentation.
        holdout: share of the training images to evaluate on in place of val, for choices.
        damaged: whether missing and unreadable images end the run before it begins, or are left out and named.
        adversarial: train on adversarial images: PGD, one step (fast), replayed batches (free) or the handout's attack.
        epsilon: their largest change of a value of a pixel; the handout's attack has 0.1 of a normalised value.
        attack_steps: of the attack (pgd 7, handout 10), or replays (free 4).
        threads: CPU threads; all cores by default.
        device: auto, cpu or cuda.
        accumulate: parts that a batch is learned from one after the other, for less memory.
        checkpoint_seconds: longest time between two checkpoints.
    """
    from scenelab.training.distributed import init_distributed
    from scenelab.training.recipes import get
    from scenelab.training.session import start_run

    values = {"model": model, "conv": conv, "minutes": minutes, "epochs": epochs, "batch_size": batch_size}
    values |= {"clip_norm": clip_norm, "seed": seed, "holdout": holdout}
    values |= {"damaged": damaged}
    values |= {"accumulate": accumulate, "threads": threads, "device": device, "checkpoint_seconds": checkpoint_seconds}
    if adversarial:
        values["adversarial"] = _adversarial(adversarial, epsilon, attack_steps)
    config = change(get(recipe), values, lr=lr, warmup_epochs=warmup_epochs)
    with init_distributed() as world:
        if world.is_primary:
            _announce_resume(out)
        accounting = start_run(out, data, config, cache=cache, world=world)
        if world.is_primary:
            _report(out, accounting)


def _adversarial(
    method: Literal["pgd", "fast", "free", "handout"], epsilon: str, steps: int | None
) -> "AdversarialConfig":
    """The handout's own ε and step are those of its PGDAttack."""
    from scenelab.cli.robustness import read_epsilon
    from scenelab.runs.config import AdversarialConfig

    own = {"pgd": 7, "fast": 1, "free": 4, "handout": 10}[method]
    size = 0.1 if method == "handout" else read_epsilon(epsilon)
    return AdversarialConfig(method=method, epsilon=size, steps=own if steps is None else steps)


def change(
    config: "TrainConfig", values: dict[str, Any], *, lr: float | None = None, warmup_epochs: float | None = None
) -> "TrainConfig":
    """Replace the values that are given (not None)."""
    given = {name: value for name, value in values.items() if value is not None}
    if lr is not None:
        given["optimizer"] = dataclasses.replace(config.optimizer, lr=lr)
    if warmup_epochs is not None:
        given["schedule"] = dataclasses.replace(config.schedule, warmup_epochs=warmup_epochs)
    return dataclasses.replace(config, **given)


def resume(run: Positional[Path]) -> None:
    """Continue a run that was stopped, killed or cut off; it ends as if nothing had happened.

    Example: scenelab resume runs/starter

    Args:
        run: a run folder.
    """
    from scenelab.training.session import resume_run

    _announce_resume(run)
    _report(run, resume_run(run))


def _announce_resume(run: Path) -> None:
    print(f"Ctrl-C stops with a checkpoint; continue with: scenelab resume {run}")


def _report(run: Path, accounting: dict[str, Any]) -> None:
    print(
        f"{accounting['images_seen']} images in {accounting['seconds_in_steps'] / 60:.1f} min "
        f"({accounting['images_per_second']:.0f} images/s on {accounting['threads']} threads), "
        f"peak memory {accounting['peak_memory_bytes'] / 2**20:.0f} MiB, "
        f"model {accounting['checkpoint_bytes'] / 1e6:.2f} MB\n"
        f"next: scenelab evaluate {run}   |   tensorboard --logdir={run}"
    )
    for split, entries in accounting.get("skipped", {}).items():
        print(f"{split}: {len(entries)} listed images could not be read and were left out (results/training.json)")
    if "stopped" in accounting:
        print(f"stopped: {accounting['stopped']}")


def recipes(*, json: bool = False) -> None:
    """List the recipes.

    Example: scenelab recipes

    Args:
        json: print the full configs as JSON.
    """
    from scenelab.runs.config import to_plain
    from scenelab.training.recipes import RECIPES

    if json:
        print_json({name: to_plain(make()) for name, make in RECIPES.items()})
        return
    rows = [[name, (make.__doc__ or "").partition("\n")[0], make().model] for name, make in RECIPES.items()]
    print_table("recipes", ["name", "what", "model"], rows)
