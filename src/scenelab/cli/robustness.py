"""scenelab robustness: what attacks leave of a run's accuracy."""

from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from scenelab.cli.output import print_json, print_table


def robustness(
    run: Positional[Path],
    *,
    epsilons: tuple[str, ...] = ("0", "1/255", "2/255", "4/255", "8/255"),
    images: int = 200,
    thorough: bool = False,
    split: Literal["val", "train"] = "val",
    data: Path | None = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Attack a run's images with growing strength and report what still stands.

    FGSM, PGD (in floats and on levels of 8 bits) and Auto-PGD have all images, targeted Auto-PGD and Square what these
    leave; an image counts as robust if it stands them all, which is an upper bound of its robustness. Warns where the
    model only hides its gradients. Writes RUN/results/robustness.json and pictures;
    what is done is not done again.

    Example: scenelab robustness runs/laptop --epsilons 0 1/255 2/255 4/255 8/255

    Args:
        run: a run folder.
        epsilons: largest change of a value of a pixel, such as 4/255.
        images: how many, spread over the split.
        thorough: as many steps and queries as AutoAttack, in place of a fifth and a tenth of them.
        split: whose images are attacked.
        data: another data folder than the one that the run was trained on.
        seed: of the attacks' random starts.
        json: print robustness.json.
    """
    from scenelab.errors import LabError
    from scenelab.evaluation.robustness import THOROUGH, Effort, measure_robustness
    from scenelab.runs.loading import open_run

    sizes = [read_epsilon(text) for text in epsilons]
    if images < 1:
        raise LabError(f"--images is {images}; expected 1 or more")
    opened = open_run(run, data=data, split=split)
    effort = THOROUGH if thorough else Effort()
    result = measure_robustness(
        opened.run, opened.stored, opened.dataset, epsilons=sizes, effort=effort, count=images, seed=seed
    )
    if json:
        print_json(result)
        return
    _show(result)
    print(f"pictures: {opened.run.results / 'robustness'}")


def read_epsilon(text: str) -> float:
    """`4/255` or a number, in [0, 1].

    Raises:
        LabError: it is neither.
    """
    from scenelab.errors import LabError

    above, _, below = text.partition("/")
    try:
        value = float(above) / (float(below) if below else 1.0)
    except (ValueError, ZeroDivisionError):
        value = -1.0
    if not 0 <= value <= 1:
        raise LabError(f"epsilon is {text!r}; expected numbers from 0 to 1 in pixel units, such as 4/255")
    return value


def _show(result: dict[str, Any]) -> None:
    from scenelab.evaluation.robustness_figures import LEFTOVER

    names = list(result["methods"])
    rows, whole = [], [name for name in names if name not in LEFTOVER]
    for entry in result["epsilons"]:
        worst = entry["worst"]
        cells = [f"{entry['attacks'][name]['left']['accuracy']:.1f}" if entry["attacks"] else "" for name in whole]
        for name in LEFTOVER:
            found = entry["attacks"].get(name)
            cells.append(f"-{len(found['fooled'])} of {found['given']}" if found else "")
        low, high = worst["interval"]
        rows.append([entry["name"], *cells, f"{worst['accuracy']:.1f} ({low:.1f}–{high:.1f})"])
    clean = result["clean"]
    title = (
        f"{result['model']}, {result['images']} {result['split']} images, {clean['accuracy']:.1f} % right when clean; "
        "accuracy in %, images fooled of those left, worst case with 95 %"
    )
    print_table(title, ["ε (L∞)", *names, "worst case"], rows)
    for name, what in (("pgd", "PGD in floats"), ("pgd-8bit", "PGD on whole levels")):
        parts = [entry["attacks"][name] for entry in result["epsilons"] if entry["attacks"]]
        if parts:
            kept, made = sum(part["png"] for part in parts), sum(len(part["fooled"]) for part in parts)
            print(f"{what}: {kept} of {made} adversarial images still fool once saved as PNG")
    for sign in result["warnings"]:
        print(f"warning, {sign['sign']}: {sign['text']}")
    if not result["warnings"]:
        print(f"no sign of hidden gradients on {result['checked']} images that are right when clean")
