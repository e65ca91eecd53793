"""scenelab attack: adversarial examples of a run."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from scenelab.cli.arguments import Count, DataFolder, Images, Json, Network, Seed, Split
from scenelab.cli.images import report_broken, report_skipped, select_readable
from scenelab.cli.output import print_json, print_table
from scenelab.terminal import say


def attack(
    run: Network = None,
    *,
    images: Images = None,
    method: Literal["fgsm", "pgd", "apgd", "apgd-t", "square"] = "pgd",
    epsilon: Annotated[str, arg(metavar="EPSILON")] = "4/255",
    steps: Count = 20,
    target: Annotated[str | None, arg(metavar="CATEGORY", help_behavior_hint="(default: any wrong category)")] = None,
    split: Split = None,
    data: DataFolder = None,
    limit: Count = 16,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Perturb images so that a run misclassifies them.

    Writes RUN/results/attack: attack.png, attack.json, and each adversarial example as a lossless PNG file.

    Example: scenelab attack runs/laptop --images kitchen.jpg --target bathroom

    Args:
        method: FGSM (one step), PGD, Auto-PGD, targeted Auto-PGD (nine categories in turn), or Square (no gradients).
        epsilon: largest change of a pixel value (L∞ norm), as a fraction of its range.
        steps: steps of the attack; Square makes 25 queries per step.
        target: target category (fgsm and pgd only): its name, least-likely or random.
        limit: number of images, evenly spaced over the split.
        seed: random seed of the attack.
    """
    import torch

    from scenelab.cli.robustness import read_epsilon
    from scenelab.data.decode import read_images
    from scenelab.data.judging import describe_images
    from scenelab.errors import LabError
    from scenelab.evaluation.adversarial import AttackSettings, write_adversarial
    from scenelab.evaluation.predict import load_images, spread_rows
    from scenelab.runs.loading import judge, open_network

    size = read_epsilon(epsilon)
    for flag, value in (("--steps", steps), ("--limit", limit)):
        if value < 1:
            raise LabError(f"{flag} is {value}; expected 1 or more")
    if images and data:
        raise LabError("--images and --data exclude each other; leave one out")
    folder, stored = open_network(run)
    good, errors = select_readable(images, stored.size) if images else ([], [])
    if images:
        inputs = read_images(good, stored.size)
        names, labels, judged = [path.name for path in good], None, ""
        report = partial(report_broken, errors, len(images))
    else:
        opened = judge(folder, stored, data=data, split=split)
        folder, dataset, source = opened.run, opened.dataset, opened.source
        report = partial(report_skipped, folder, dataset)
        rows = spread_rows(len(dataset), limit)
        inputs = load_images(dataset, rows, stored.size)
        names, labels = [Path(dataset.paths[row]).name for row in rows], dataset.labels[torch.tensor(rows)].tolist()
        kinds = [stored.categories[label].replace("/", "-") for label in labels]
        judged = f" from {describe_images(len(dataset), dataset.split)} of {source}"
        names = [f"{kind}-{name}" for kind, name in zip(kinds, names, strict=True)]
    settings = AttackSettings(method=method, epsilon=size, steps=steps, target=target, seed=seed)
    result = write_adversarial(folder, stored, inputs, names, labels, settings)
    if json:
        print_json(result.to_json())
        return report()
    rows = []
    for entry in result.images:
        before, after = f"{entry.before} {100 * entry.confidence:.0f} %", f"{entry.after} {100 * entry.certainty:.0f} %"
        outcome = "NaN" if entry.undefined else "before" if entry.fooled_before else "yes" if entry.fooled else "no"
        rows.append([entry.image, before, after, f"{255 * entry.largest:.0f}/255", outcome])
    fooled, undefined = (sum(getattr(entry, name) for entry in result.images) for name in ("fooled", "undefined"))
    earlier = sum(entry.fooled_before and not entry.undefined for entry in result.images)
    title = f"{method}, ε = {epsilon}: {fooled} of {len(rows) - earlier - undefined} images{judged} fool {result.model}"
    print_table(title, ["image", "before", "after", "largest change", "fooled"], rows)
    if earlier:
        reason = "misclassified" if target is None else "predicted as the target, or of this class,"
        say(f"not counted: {earlier} of {len(rows)} images were {reason} before the attack")
    if undefined:
        say(f"not counted: {undefined} of {len(rows)} images, for which the model's scores are NaN")
    say(f"images: {folder.results / 'attack'}")
    return report()
