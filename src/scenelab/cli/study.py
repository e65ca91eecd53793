"""scenelab study: train variants from one seed and compare them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from scenelab.cli.arguments import (
    Commands,
    Count,
    Json,
    Minutes,
    OptionalSeed,
    Seed,
    StudyFolder,
    Threads,
    TrainingData,
)
from scenelab.cli.output import print_json
from scenelab.cli.train import change
from scenelab.errors import LabError
from scenelab.terminal import say

if TYPE_CHECKING:
    from scenelab.schema import Model


def conv(
    *,
    data: TrainingData,
    out: StudyFolder,
    recipe: Annotated[str, arg(metavar="RECIPE")] = "demo",
    steps: Count = 600,
    epochs: Annotated[float | None, arg(metavar="EPOCHS", help_behavior_hint="(default: as --steps says)")] = None,
    batch_size: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the recipe's)")] = None,
    lr: Annotated[float | None, arg(metavar="RATE", help_behavior_hint="(default: the recipe's)")] = None,
    seed: OptionalSeed = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Train SimpleNet with PyTorch's and with our convolution.

    Writes OUT/study.json, study.md and study.png, and the run folders OUT/native and OUT/custom. The same command
    continues where it stopped.

    Example: scenelab study conv --data data --out runs/study-conv --epochs 4

    Args:
        recipe: name of the training recipe; SimpleNet replaces its network.
        steps: training steps of each run.
        epochs: passes over the training images, instead of --steps.
        batch_size: images per step.
        lr: peak learning rate.
    """
    from scenelab.studies.conv import run_study
    from scenelab.training.recipes import get

    values = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "threads": threads}
    config = change(get(recipe), values, lr=lr)
    _print(*run_study(out, data, config, steps=steps if epochs is None else None), out / "study", json=json)


def design(
    *,
    data: TrainingData,
    out: StudyFolder,
    minutes: Minutes = 5.0,
    seeds: Count = 3,
    seed: Seed = 0,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Train and compare about 20 variants that differ in one choice.

    The variants are the handout's steps from a plain network to ours, and our recipe with one choice changed. All train
    for the same time and are compared on a held-out tenth of the training images. Writes OUT/design.json, design.md and
    design.png after every run, and the run folders OUT/VARIANT/SEED. The same command continues where it stopped.

    Example: scenelab study design --data data --out runs/study-design --minutes 5

    Args:
        minutes: training time of each run.
        seeds: runs of our recipe and of each variant whose result is close to it; the other variants have one run.
        seed: first random seed.
    """
    from scenelab.studies.design import run_study
    from scenelab.training.recipes import get

    if seeds < 1:
        raise LabError(f"--seeds is {seeds}; expected 1 or more")
    config = change(get("laptop"), {"minutes": minutes, "seed": seed, "threads": threads})
    _print(*run_study(out, data, config, seeds=seeds), out / "design", json=json)


def adversarial(
    *,
    data: TrainingData,
    out: StudyFolder,
    minutes: Minutes = 20.0,
    epsilon: Annotated[str, arg(metavar="EPSILON")] = "4/255",
    epsilons: Annotated[tuple[str, ...], arg(metavar="EPSILON ...")] = ("1/255", "2/255", "4/255", "8/255"),
    images: Count = 200,
    seed: OptionalSeed = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Compare normal, Fast, Free and PGD training under attack.

    Fast (Wong et al. 2020), Free (Shafahi et al. 2019), PGD (Madry et al. 2018) and normal training take the same time,
    and the networks are attacked on a held-out tenth of the training images. Writes OUT/adversarial.json,
    adversarial.md and adversarial.png after every run, and the run folders OUT/VARIANT. The same command continues
    where it stopped.

    Example: scenelab study adversarial --data data --out runs/study-adversarial --minutes 20

    Args:
        minutes: training time of each of the four runs.
        epsilon: largest change of a pixel value in training, as a fraction of its range.
        epsilons: largest changes of a pixel value in the attacks, as fractions of its range.
        images: held-out images to attack.
    """
    from scenelab.cli.robustness import read_epsilon
    from scenelab.studies.adversarial import run_study
    from scenelab.training.recipes import get

    if images < 1:
        raise LabError(f"--images is {images}; expected 1 or more")
    config = change(get("laptop"), {"minutes": minutes, "seed": seed, "threads": threads})
    levels = [read_epsilon(text) for text in epsilons]
    result = run_study(out, data, config, epsilon=read_epsilon(epsilon), epsilons=levels, images=images)
    _print(*result, out / "adversarial", json=json)


def baseline(
    *,
    data: TrainingData,
    out: StudyFolder,
    runs: Annotated[tuple[Literal["warmup", "no-warmup", "deep"], ...], arg(metavar="RUN ...")] = (
        "warmup",
        "no-warmup",
        "deep",
    ),
    steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 1,400; 800 for no-warmup)")] = None,
    seed: Seed = 0,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Compare the handout's first training steps with published curves.

    Shows how long the loss stays at that of guessing, and why: signal and gradient by layer. Writes OUT/baseline.json,
    baseline.md and baseline.png, and the run folders OUT/RUN. The same command continues where it stopped.

    Example: scenelab study baseline --data data --out runs/study-baseline

    Args:
        runs: the handout's network of fall 2019 with and without warm-up, and the deeper one of spring 2019.
        steps: training steps of each run, of 256 images.
    """
    from scenelab.studies.baseline import run_study

    if steps is not None and steps < 1:
        raise LabError(f"--steps is {steps}; expected 1 or more")
    if not runs:
        raise LabError("--runs is empty; expected one or more of warmup, no-warmup, deep")
    result = run_study(out, data, seed=seed, threads=threads or 0, steps=steps, names=list(dict.fromkeys(runs)))
    _print(*result, out / "baseline", json=json)


def _print(study: "Model", text: str, path: Path, *, json: bool) -> None:
    if json:
        print_json(study.to_json())
    else:
        say(*text.split("\n"), f"written: {path}.json, {path}.md, {path}.png")


COMMANDS = Commands(
    "Train variants from one seed and compare them.",
    {"Commands": {"conv": conv, "design": design, "adversarial": adversarial, "baseline": baseline}},
)
