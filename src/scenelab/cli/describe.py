"""scenelab data describe: what is in a data folder, before anything is trained on it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from scenelab.cli.arguments import Json
from scenelab.cli.output import print_json, print_table
from scenelab.errors import cut
from scenelab.terminal import say

if TYPE_CHECKING:
    from scenelab.data.describe import Description, Duplicate
    from scenelab.evaluation.suspicious_labels import SuspiciousLabel

MAX_PAIRS, BAR = 5, 20  # lines per list, characters
WITHIN = "duplicates within a split; in train, they make the accuracy of cross-validation and of a holdout too high"


def describe(
    data: Annotated[Positional[Path], arg(metavar="DATA")],
    *,
    run: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="")] = None,
    sheet: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: in the cache folder)")] = None,
    json: Json = False,
) -> None:
    """Count classes, sizes and duplicates, and draw a contact sheet.

    Two images are near-duplicates if their thumbnails are almost the same. A near-duplicate across splits makes the
    accuracy on val or test too high, because the network was trained on it.

    Example: scenelab data describe my-images

    Args:
        data: data folder, or a CSV file of path and label.
        run: run folder of a network with the same classes, to list the labels of train and val that it disagrees with.
        sheet: JPEG file of the contact sheet.
    """
    from scenelab.data.cache_folder import default_cache
    from scenelab.data.describe import describe as read
    from scenelab.data.image_files import describe_unused

    sheet = sheet or default_cache(data) / "contact-sheet.jpg"
    labels, is_unseen = [], True
    if run:
        from scenelab.evaluation.suspicious_labels import find_suspicious_labels
        from scenelab.runs.pretrained import find_run

        labels, is_unseen = find_suspicious_labels(find_run(run), data)
    rows = {entry.path: f"labeled {entry.label}, looks like {entry.other}" for entry in labels}
    result = read(data, sheet, rows)
    if json:
        judged = {"suspicious_labels": [asdict(entry) for entry in labels], "judged_unseen": is_unseen} if run else {}
        print_json(asdict(result) | judged | {"sheet": str(sheet)})
        return
    _print_classes(data, result)
    sizes = [f"{name} {width}×{height}" for name, (width, height) in result.sizes.items()]
    say(f"sizes: {', '.join(sizes)}; {', '.join(f'{count} {name}' for name, count in sorted(result.shapes.items()))}")
    for error in list(result.unreadable.values())[:1]:
        say(f"unreadable: {len(result.unreadable)}, first: {error}")
    if result.unused:
        say(describe_unused(result.unused))
    _print_duplicates(result.duplicates)
    if run:
        _print_suspicious_labels(labels, is_unseen)
    say(f"contact sheet: {sheet}")


def _print_classes(data: Path, result: "Description") -> None:
    names = dict.fromkeys(name for counts in result.counts.values() for name in counts)
    totals = {name: sum(counts.get(name, 0) for counts in result.counts.values()) for name in names}
    largest, smallest = max(totals.values()), min(totals.values())
    rows = []
    for name, total in totals.items():
        counts = [str(part.get(name, 0)) for part in result.counts.values()]
        rows.append([name, *counts, "=" * max(1, round(BAR * total / largest))])
    title = f"{data}: {sum(totals.values())} images of {len(names)} classes"
    print_table(title, ["class", *result.counts, "all"], rows)
    if largest >= 3 * smallest:
        say(f"unbalanced: the largest class has {largest} images, the smallest {smallest}")
    for split, counts in result.counts.items():
        if absent := [name for name in names if not counts.get(name)]:
            say(f"no {split} images: {cut(absent)}")


def _print_duplicates(duplicates: "list[Duplicate]") -> None:
    across = [pair for pair in duplicates if pair.splits[0] != pair.splits[1]]
    groups = {
        "duplicates across splits; remove them, or the accuracy is too high": across,
        "duplicates of another class; one label is wrong": [
            pair for pair in duplicates if pair.labels[0] != pair.labels[1]
        ],
        WITHIN: [pair for pair in duplicates if pair not in across],
    }
    for title, pairs in groups.items():
        if pairs:
            exact = sum(pair.is_exact for pair in pairs)
            say(f"{title}: {exact} exact, {len(pairs) - exact} near")
        for pair in sorted(pairs, key=lambda pair: -pair.correlation)[:MAX_PAIRS]:
            ours, theirs = (f"{path} ({split})" for path, split in zip((pair.path, pair.of), pair.splits, strict=True))
            say(f"    {ours} is {'' if pair.is_exact else 'almost '}{theirs}")
        if len(pairs) > MAX_PAIRS:
            say(f"    … and {len(pairs) - MAX_PAIRS} more; --json lists all")
    if not duplicates:
        say("duplicates: none found")


def _print_suspicious_labels(labels: "list[SuspiciousLabel]", is_unseen: bool) -> None:
    note = "" if is_unseen else "; few, as the network was trained on these images and may have learned wrong labels"
    say(f"suspicious labels: {len(labels) or 'none found'}{note}")
    for entry in labels[:MAX_PAIRS]:
        label = f"labeled {entry.label} ({100 * entry.label_probability:.0f} %)"
        say(f"    {entry.path} is {label} and looks like {entry.other} ({100 * entry.other_probability:.0f} %)")
    if len(labels) > MAX_PAIRS:
        say(f"    … and {len(labels) - MAX_PAIRS} more; --json lists all")
