"""Commands that train a network, resume a run, and list the recipes."""

import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, Suppress, arg

from scenelab.cli.arguments import CACHE_DEFAULT, Flag, Json, RunFolder, TrainingData, Yes
from scenelab.cli.output import print_json, print_table
from scenelab.errors import Interrupted
from scenelab.runtime import NEUTRAL, python_command
from scenelab.terminal import say

if TYPE_CHECKING:
    from scenelab.runs.config import AdversarialConfig, TrainConfig
    from scenelab.runs.provenance import TrainingResult

Method = Literal["pgd", "fast", "free", "handout"]


def train() -> None:
    """Train a network by a recipe; 'scenelab recipes' lists them."""  # for the list of commands, without torch


def train_command(arguments: list[str]) -> Callable[..., None]:
    """Return the command `train`, with a flag per config value. Defaults are from the recipe named in `arguments`."""
    from scenelab.data.augment_config import Augment
    from scenelab.runs.config import LearningRate, Minutes, OptimizerConfig, ScheduleConfig, TrainConfig, to_plain
    from scenelab.schema import config_class, parse
    from scenelab.training.recipes import RECIPES, get

    @config_class("optim")
    class OptimizerFlags(OptimizerConfig):
        lr: Annotated[LearningRate, arg(aliases=["--lr"])] = 0.1

    @config_class("schedule")
    class ScheduleFlags(ScheduleConfig):
        warmup_epochs: Annotated[Minutes, arg(aliases=["--warmup-epochs"])] = 0.0

    OptimizerFlags.__doc__, ScheduleFlags.__doc__ = OptimizerConfig.__doc__, ScheduleConfig.__doc__

    @config_class()
    class TrainFlags(TrainConfig):
        recipe: Suppress[str] = ""
        adversarial: Suppress[None] = None
        finetune: Suppress[None] = None
        speeds: Suppress[tuple[tuple[int, float], ...]] = ()  # tyro cannot read tuple[()] in Python 3.10
        optimizer: Annotated[OptimizerFlags, arg(name="optim")] = field(default_factory=OptimizerFlags)
        schedule: ScheduleFlags = field(default_factory=ScheduleFlags)
        augment: Augment = field(default_factory=Augment)

    TrainFlags.__doc__ = TrainConfig.__doc__
    recipe_name = next((argument for argument in arguments if argument in RECIPES), "starter")

    def train(
        name: Annotated[Positional[str], arg(metavar="RECIPE")],
        *,
        data: TrainingData,
        out: Annotated[Path, arg(metavar="OUT")],
        cache: Annotated[Path | None, arg(metavar="CACHE", help_behavior_hint=CACHE_DEFAULT)] = None,
        adversarial: Annotated[Method | None, arg(help_behavior_hint="(default: train on clean images)")] = None,
        epsilon: Annotated[str, arg(metavar="EPSILON")] = "4/255",
        attack_steps: Annotated[
            int | None, arg(metavar="N", help_behavior_hint="(default: 7 for pgd, 10 for handout, 4 for free)")
        ] = None,
        watch: Flag = False,
        yes: Yes = False,
        flags: Annotated[TrainFlags, arg(name="")] = parse(TrainFlags, to_plain(get(recipe_name))),  # noqa: B008
    ) -> None:
        """Train a network by a recipe; 'scenelab recipes' lists them.

        Before a training on images of your own it says how long it takes and what accuracy to expect.
        'scenelab train RECIPE --help' shows the values of that recipe. Several processes or machines train one network
        with torchrun --nproc-per-node=2 -m scenelab train …

        Example: scenelab train laptop --minutes 20 --data data --out runs/laptop

        Args:
            name: name of a recipe; the flags below change its values.
            out: the run folder to create.
            cache: folder of the decoded images.
            adversarial: train on adversarial examples: PGD, one step (fast), replayed batches (free) or the handout's
                attack.
            epsilon: largest change of a pixel value in [0, 1]; handout always has 0.1, for normalized values.
            attack_steps: steps of the attack, or for free the replays of each batch.
            watch: show the run in a browser while it trains; prints the address.
            flags: the config.
        """
        from scenelab.data.miniplaces import is_miniplaces
        from scenelab.training.advice import advise

        values = to_plain(flags) | {"recipe": get(name).recipe}
        if adversarial:
            values["adversarial"] = vars(_adversarial(adversarial, epsilon, attack_steps))
        config = parse(TrainConfig, values)
        require_unplanned(config, get(name))
        if "WORLD_SIZE" not in os.environ and not is_miniplaces(data) and not (out / "config.json").exists():
            confirm(advise(data, config), yes=yes)
        _train(out, data, config, cache, watch=watch)

    return train


def require_unplanned(config: "TrainConfig", recipe: "TrainConfig") -> None:
    """Raise a LabError if a value differs from the recipe's although the run's plan will choose it."""
    from scenelab.errors import LabError

    pairs = {name: (getattr(config, name), getattr(recipe, name)) for name in ("eval_size", "stored_size", "autocast")}
    pairs |= {
        "schedule.sizes": (config.schedule.sizes, recipe.schedule.sizes),
        "epochs": (config.epochs, recipe.epochs),
    }
    pairs |= {"ema": (config.ema or recipe.ema, recipe.ema)}  # 0 is for no average
    for name, (value, usual) in pairs.items() if config.plan else ():
        if value != usual:
            fix = "--no-plan --minutes 0" if name == "epochs" else "--no-plan"
            raise LabError(f"{name} is {value}, but the plan of this recipe chooses it; add {fix}, or leave it out")


def confirm(advice: str, *, yes: bool) -> None:
    """Print advice and, on a terminal and without `yes`, ask whether to go on; raise `Interrupted` if not."""
    say(advice)
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        print("go on? [Y/n] ", end="", flush=True)
        answer = sys.stdin.readline()  # empty at the end of the input
        if not answer or answer.strip().lower() not in ("", "y", "yes"):
            raise Interrupted("nothing was trained")


def _train(out: Path, data: Path, config: "TrainConfig", cache: Path | None, *, watch: bool) -> None:
    from scenelab.training.distributed import init_distributed
    from scenelab.training.session import start_run

    with init_distributed() as world, _watched(out, watch and world.is_primary):
        result = start_run(out, data, config, cache=cache, world=world)
        if world.is_primary:
            report_result(out, result)


@contextmanager
def _watched(out: Path, watch: bool) -> Iterator[None]:
    """With `watch`, run the explorer of a run folder in a process of its own during the block."""
    if not watch:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    command = python_command(["-m", "scenelab", "app", str(out.absolute()), "--port", "0"])
    process = subprocess.Popen(command, cwd=NEUTRAL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _adversarial(method: Method, epsilon: str, steps: int | None) -> "AdversarialConfig":
    """Return the config of adversarial training; `handout` ignores `epsilon` and has ε = 0.1."""
    from scenelab.cli.robustness import read_epsilon
    from scenelab.runs.config import AdversarialConfig

    default = {"pgd": 7, "fast": 1, "free": 4, "handout": 10}[method]
    size = 0.1 if method == "handout" else read_epsilon(epsilon)
    return AdversarialConfig(method=method, epsilon=size, steps=default if steps is None else steps)


def change(config: "TrainConfig", values: dict[str, Any], *, lr: float | None = None) -> "TrainConfig":
    """Return a copy of a config with all `values` that are not None, and with the learning rate if it is not None."""
    changes = {name: value for name, value in values.items() if value is not None}
    if lr is not None:
        changes["optimizer"] = dataclasses.replace(config.optimizer, lr=lr)
    return dataclasses.replace(config, **changes)


def resume(run: RunFolder) -> None:
    """Resume a run that was stopped or killed.

    The result is the same as without the interruption.

    Example: scenelab resume runs/starter
    """
    from scenelab.training.session import resume_run

    report_result(run, resume_run(run))


def report_result(run: Path, result: "TrainingResult") -> None:
    """Print the totals of a finished training run, and the next command."""
    from scenelab.progress import format_duration
    from scenelab.runs.events import has_tensorboard

    folder = shlex.quote(str(run))
    say(
        f"{result.images_seen} images in {format_duration(result.seconds_in_steps)} "
        f"({result.images_per_second:.0f} images/s on {result.threads} threads), "
        f"peak memory {result.peak_memory_bytes / 2**20:.0f} MiB, model {result.checkpoint_bytes / 1e6:.2f} MB",
        f"next: scenelab evaluate {folder}" + (f"   |   tensorboard --logdir={folder}" if has_tensorboard() else ""),
    )
    for split, entries in result.skipped.items():
        say(f"{split}: {len(entries)} listed images could not be read and were skipped (results/training.json)")
    if result.stopped:
        say(f"stopped: {result.stopped}")


def recipes(*, json: Json = False) -> None:
    """List the training recipes with their networks.

    Example: scenelab recipes
    """
    from scenelab.runs.config import to_plain
    from scenelab.training.recipes import RECIPES

    if json:
        print_json({name: to_plain(make()) for name, make in RECIPES.items()})
        return
    rows = [[name, (make.__doc__ or "").partition("\n")[0], make().model] for name, make in RECIPES.items()]
    print_table("recipes", ["name", "what", "model"], rows)
