"""scenelab robustness: measure the accuracy of a run under attack or on corrupted images."""

from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from scenelab.cli.arguments import DataFolder, Flag, Json, RunFolder, Seed, Split
from scenelab.cli.images import report_skipped
from scenelab.cli.output import print_json, print_table
from scenelab.terminal import say

if TYPE_CHECKING:
    from scenelab.evaluation.corruption_results import CorruptionResult
    from scenelab.evaluation.robustness_results import RobustnessResult

EPSILONS = ("0", "1/255", "2/255", "4/255", "8/255")


def robustness(
    run: RunFolder,
    *,
    epsilons: Annotated[tuple[str, ...], arg(metavar="EPSILON ...")] = EPSILONS,
    images: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: 200; with --corruptions 1000)")
    ] = None,
    thorough: Flag = False,
    corruptions: Flag = False,
    split: Split = None,
    data: DataFolder = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure accuracy under attacks or on corrupted images.

    FGSM, PGD (in floats and in multiples of 1/255) and Auto-PGD attack every image that is classified correctly.
    Targeted Auto-PGD and Square attack those that survive. Robust accuracy counts images that survive all attacks, so
    it is an upper bound. Warns of signs of gradient masking. Writes RUN/results/robustness.json and figures; finished
    attacks are not repeated.

    With --corruptions nothing is attacked: blur, noise, JPEG, brightness, darkness, rotation and crop change the images
    at five strengths each. Writes RUN/results/corruptions.json and figures.

    Example: scenelab robustness runs/laptop --epsilons 0 1/255 2/255 4/255 8/255

    Args:
        epsilons: largest changes of a pixel value (L∞ norm), as fractions of its range.
        images: number of images, evenly spaced over the split.
        thorough: use all steps and queries of AutoAttack instead of a fifth of the steps and a tenth of the queries.
        corruptions: corrupt the images instead of attacking them.
        seed: random seed of the attacks and corruptions.
    """
    from scenelab.data.judging import describe_images
    from scenelab.errors import LabError
    from scenelab.evaluation.corruption_results import CorruptionResult
    from scenelab.evaluation.robustness import THOROUGH, measure_robustness
    from scenelab.evaluation.robustness_results import Effort
    from scenelab.runs.loading import open_run

    sizes, name = [read_epsilon(text) for text in epsilons], "corruptions" if corruptions else "robustness"
    if corruptions and (thorough or epsilons != EPSILONS):
        raise LabError("--epsilons and --thorough are for attacks, and --corruptions attacks nothing; leave them out")
    if images is None:
        images = 1000 if corruptions else 200
    if images < 1:
        raise LabError(f"--images is {images}; expected 1 or more")
    opened = open_run(run, data=data, split=split)
    subject = opened.run, opened.stored, opened.dataset
    if corruptions:
        from scenelab.evaluation.corruptions import measure_corruptions  # imports torchvision

        result = measure_corruptions(*subject, count=images, seed=seed)
    else:
        effort = THOROUGH if thorough else Effort()
        result = measure_robustness(*subject, epsilons=sizes, effort=effort, count=images, seed=seed)
    if json:
        print_json(result.to_json())
    else:
        judged = f"{describe_images(len(opened.dataset), result.split)} of {opened.source}"
        _show_corruptions(result, judged) if isinstance(result, CorruptionResult) else _show(result, judged)
        say(f"figures: {opened.run.results / name}")
    report_skipped(opened.run, opened.dataset)


def read_epsilon(text: str) -> float:
    """Parse a fraction such as `4/255` or a decimal number; raise LabError unless it is in [0, 1]."""
    from scenelab.errors import LabError

    numerator, _, denominator = text.partition("/")
    try:
        value = float(numerator) / (float(denominator) if denominator else 1.0)
    except (ValueError, ZeroDivisionError):
        value = -1.0
    if not 0 <= value <= 1:
        raise LabError(f"epsilon is {text!r}; expected numbers from 0 to 1 in pixel units, such as 4/255")
    return value


def _show_corruptions(result: "CorruptionResult", judged: str) -> None:
    title = (
        f"{result.model}, {result.images} of {judged}, {result.clean.accuracy:.1f} % as they are; accuracy in % with "
        "95 % intervals on corrupted images"
    )
    rows = [
        [name, *("{:.0f} ({:.0f}–{:.0f})".format(share.accuracy, *share.interval) for share in curve.accuracy)]
        for name, curve in result.curves.items()
    ]
    print_table(title, ["corruption", *"12345"], rows)
    for name, curve in result.curves.items():
        say(f"strengths of {name}: {', '.join(f'{value:g}' for value in curve.values)} ({curve.unit})")


def _show(result: "RobustnessResult", judged: str) -> None:
    from scenelab.evaluation.robustness_results import LEFTOVER

    rows = []
    for entry in result.epsilons:
        cells = [f"{part.left.accuracy:.1f}" for name, part in entry.attacks.items() if name not in LEFTOVER]
        cells += [f"{len(part.fooled)} of {part.given}" for name, part in entry.attacks.items() if name in LEFTOVER]
        rows.append([entry.name, *(cells or [""] * len(result.methods)), entry.worst.text])
    title = (
        f"{result.model}, {result.images} of {judged}, {result.clean.accuracy:.1f} % clean accuracy; "
        "robust accuracy in %, images fooled of those attacked, worst case with 95 % interval"
    )
    print_table(title, ["ε (L∞)", *result.methods, "worst case"], rows)
    for name, what in (("pgd", "PGD in floats"), ("pgd-8bit", "PGD on 8-bit levels")):
        parts = [entry.attacks[name] for entry in result.epsilons if entry.attacks]
        if parts:
            from_png, fooled = sum(part.png for part in parts), sum(len(part.fooled) for part in parts)
            say(f"{what}: {from_png} of {fooled} adversarial images still fool once saved as PNG")
    for sign in result.warnings:
        say(f"warning, {sign.sign}: {sign.text}")
    if result.undefined:
        say(f"undefined: {result.undefined} of {result.images} images have NaN or infinite scores; they count as wrong")
    if not result.checked:
        say("gradient masking is not checked: no image is classified correctly")
    elif not result.warnings:
        say(f"no sign of gradient masking on {result.checked} correctly classified images")
