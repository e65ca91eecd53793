"""scenelab attack: adversarial examples of a run."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from scenelab.cli.output import print_json, print_table


def attack(
    run: Positional[Path],
    *,
    images: list[Path] | None = None,
    method: Literal["fgsm", "pgd", "apgd", "apgd-t", "square"] = "pgd",
    epsilon: str = "4/255",
    steps: int = 20,
    target: str | None = None,
    split: Literal["val", "train"] = "val",
    data: Path | None = None,
    limit: int = 16,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Make images that a run misclassifies, and save them as PNG files that it still misclassifies.

    Writes RUN/results/attack: one PNG file per image at the network's input size, attack.png and attack.json.

    Example: scenelab attack runs/laptop --images kitchen.jpg --target bathroom

    Args:
        run: a run folder.
        images: image files to attack instead of a split, of any size; center-cropped.
        method: one step, PGD, Auto-PGD (also toward nine classes in turn) or Square, which uses no gradients.
        epsilon: maximum change of a pixel value.
        steps: of the attack; Square makes 25 queries per step.
        target: a category to move toward (fgsm and pgd), least-likely or random; any wrong category by default.
        split: split to attack.
        data: data folder, if not the one that the run was trained on.
        limit: number of images, spread over the split.
        seed: random seed.
        json: print attack.json.
    """
    import torch

    from scenelab.cli.robustness import read_epsilon
    from scenelab.data.decode import read_images
    from scenelab.errors import LabError
    from scenelab.evaluation.adversarial import AttackSettings, write_adversarial
    from scenelab.evaluation.predict import load_images, spread_rows
    from scenelab.runs.loading import open_images, open_network

    size = read_epsilon(epsilon)
    for flag, value in (("--steps", steps), ("--limit", limit)):
        if value < 1:
            raise LabError(f"{flag} is {value}; expected 1 or more")
    if images and data:
        raise LabError("--images and --data exclude each other; leave one out")
    folder, stored = open_network(run)
    if images:
        inputs = read_images(images, stored.size)
        names, labels = [path.name for path in images], None
    else:
        dataset, _ = open_images(folder, stored, data=data, split=split)
        rows = spread_rows(len(dataset), limit)
        inputs = load_images(dataset, rows, stored.size)
        names, labels = [Path(dataset.paths[row]).name for row in rows], dataset.labels[torch.tensor(rows)].tolist()
        kinds = [stored.categories[label].replace("/", "-") for label in labels]
        names = [f"{kind}-{name}" for kind, name in zip(kinds, names, strict=True)]
    settings = AttackSettings(method=method, epsilon=size, steps=steps, target=target, seed=seed)
    result = write_adversarial(folder, stored, inputs, names, labels, settings)
    if json:
        print_json(result.to_json())
        return
    rows = []
    for entry in result.images:
        before, after = f"{entry.before} {100 * entry.confidence:.0f} %", f"{entry.after} {100 * entry.certainty:.0f} %"
        rows.append([entry.image, before, after, f"{255 * entry.largest:.0f}", "yes" if entry.fooled else "no"])
    fooled = sum(entry.fooled for entry in result.images)
    title = f"{method}, ε = {epsilon}: {fooled} of {len(rows)} images fool {result.model}"
    print_table(title, ["image", "before", "after", "largest change, levels", "fooled"], rows)
    print(f"images: {folder.results / 'attack'}")
