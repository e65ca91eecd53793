"""scenelab study: train variants from one seed and compare them."""

from pathlib import Path
from typing import Any

import tyro

from scenelab.cli.output import print_json
from scenelab.cli.train import change
from scenelab.errors import LabError


def conv(
    *,
    data: Path,
    out: Path,
    recipe: str = "demo",
    steps: int = 600,
    epochs: float | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    threads: int | None = None,
    json: bool = False,
) -> None:
    """Train SimpleNet twice from one seed, with native and with our convolution, and compare.

    Writes OUT/study.json, study.md and study.png beside the run folders OUT/native and OUT/custom. The same command
    resumes a stopped study and keeps finished runs.

    Example: scenelab study conv --data data --out runs/study-conv --epochs 4

    Args:
        data: a MiniPlaces folder, or one with a subfolder per class.
        out: folder of the study.
        recipe: name of a recipe; its network is replaced by SimpleNet.
        steps: training steps of each side.
        epochs: passes over the training images, instead of --steps.
        batch_size: images per step.
        lr: peak learning rate.
        seed: of initialization, order and augmentation.
        threads: CPU threads; all cores by default.
        json: print study.json.
    """
    from scenelab.studies.conv import run_study
    from scenelab.training.recipes import get

    values = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "threads": threads}
    config = change(get(recipe), values, lr=lr)
    _print(run_study(out, data, config, steps=steps if epochs is None else None), out / "study", json=json)


def design(
    *,
    data: Path,
    out: Path,
    minutes: float = 5.0,
    seeds: int = 3,
    seed: int = 0,
    threads: int | None = None,
    json: bool = False,
) -> None:
    """Train the handout's steps from a plain network to ours, and our recipe with each choice on and off.

    Every run has the same minutes. Accuracy is measured on a tenth of train that is held out; val is not opened. Writes
    OUT/design.json, design.md and design.png after every run, beside the run folders OUT/VARIANT/SEED. The same command
    resumes a stopped study and keeps finished runs.

    Example: scenelab study design --data data --out runs/study-design --minutes 5

    Args:
        data: a MiniPlaces folder, or one with a subfolder per class.
        out: folder of the study.
        minutes: of each run; there are about 20 variants.
        seeds: runs of our recipe and of each variant with a similar accuracy; the others have one.
        seed: the first seed.
        threads: CPU threads; all cores by default.
        json: print design.json.
    """
    from scenelab.studies.design import run_study
    from scenelab.training.recipes import get

    if seeds < 1:
        raise LabError(f"--seeds is {seeds}; expected 1 or more")
    config = change(get("laptop"), {"minutes": minutes, "seed": seed, "threads": threads})
    _print(run_study(out, data, config, seeds=seeds), out / "design", json=json)


def adversarial(
    *,
    data: Path,
    out: Path,
    minutes: float = 20.0,
    epsilon: str = "4/255",
    epsilons: tuple[str, ...] = ("1/255", "2/255", "4/255", "8/255"),
    images: int = 200,
    seed: int | None = None,
    threads: int | None = None,
    json: bool = False,
) -> None:
    """Train normally, with Fast, Free and PGD for the same minutes, and attack all four.

    Accuracy is measured on a tenth of train that is held out. Writes OUT/adversarial.json, adversarial.md and
    adversarial.png after every run, beside the run folders OUT/VARIANT. The same command resumes a stopped study.

    Example: scenelab study adversarial --data data --out runs/study-adversarial --minutes 20

    Args:
        data: a MiniPlaces folder, or one with a subfolder per class.
        out: folder of the study.
        minutes: of each of the four runs.
        epsilon: of training, in pixel units.
        epsilons: of the attacks.
        images: held-out images to attack.
        seed: of initialization, order and augmentation.
        threads: CPU threads; all cores by default.
        json: print adversarial.json.
    """
    from scenelab.cli.robustness import read_epsilon
    from scenelab.studies.adversarial import run_study
    from scenelab.training.recipes import get

    if images < 1:
        raise LabError(f"--images is {images}; expected 1 or more")
    config = change(get("laptop"), {"minutes": minutes, "seed": seed, "threads": threads})
    levels = [read_epsilon(text) for text in epsilons]
    result = run_study(out, data, config, epsilon=read_epsilon(epsilon), epsilons=levels, images=images)
    _print(result, out / "adversarial", json=json)


def _print(result: tuple[dict[str, Any], str], path: Path, *, json: bool) -> None:
    if json:
        print_json(result[0])
    else:
        print(f"{result[1]}\nwritten: {path}.json, {path}.md, {path}.png")


def app() -> tyro.extras.SubcommandApp:
    """Return the subcommands of `scenelab study`."""
    group = tyro.extras.SubcommandApp()
    for command in (conv, design, adversarial):
        group.command(command)
    return group
