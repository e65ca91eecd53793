"""scenelab data: download, import, make, check and pack images."""

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from scenelab.cli.arguments import CACHE_DEFAULT, Commands, Count, Flag, Json, Pixels, Seed
from scenelab.cli.describe import describe
from scenelab.cli.output import print_json
from scenelab.errors import LabError
from scenelab.terminal import say

if TYPE_CHECKING:
    from scenelab.data.verify import SplitReport

MAX_ENTRIES = 5  # to print per list of a report

Folder = Annotated[Positional[Path], arg(metavar="FOLDER")]


def download(folder: Folder) -> None:
    """Download MiniPlaces: 120,000 images, about 0.6 GB.

    The same command continues an interrupted download.

    Example: scenelab data download data

    Args:
        folder: folder for the images and lists.
    """
    from scenelab.data.fetch.install import download as install

    install(folder)


def import_(
    source: Annotated[Positional[Path], arg(metavar="SOURCE")],
    folder: Folder,
    *,
    missing: Literal["refuse", "skip"] = "refuse",
) -> None:
    """Import a local copy of MiniPlaces.

    Example: scenelab data import ~/Downloads/data.tar.gz data

    Args:
        source: archive (.tar, .tar.gz, .zip) next to its lists, or a folder with either the archive or images/.
        folder: folder for the images and lists.
        missing: what to do if listed images are missing: stop before copying, or leave them out of the lists.
    """
    from scenelab.data.fetch.install import import_data

    import_data(source, folder, skip_missing=missing == "skip")


def synth(folder: Folder, *, seed: Seed = 0, train: Count = 200, val: Count = 50, size: Pixels = 128) -> None:
    """Draw synthetic scenes in MiniPlaces' layout.

    Example: scenelab data synth data/synthetic

    Args:
        folder: folder for the images and lists.
        seed: random seed; the same seed draws the same images.
        train: training images per class.
        val: validation images per class.
        size: side of the images in pixels.
    """
    draw_scenes(folder, seed=seed, train_per_class=train, val_per_class=val, size=size)
    command = ["scenelab", "train", "demo", "--data", str(folder), "--out", "runs/first"]
    say(f"{folder}: synthetic scenes written; next: {shlex.join(command)}")


def draw_scenes(folder: Path, **options: int) -> None:
    """Write synthetic scenes to a folder, atomically and with a progress bar.

    Args:
        folder: missing or empty folder.
        options: keyword arguments of `scenelab_scenes.write_scenes`.

    Raises:
        LabError: An argument is out of range, or `folder` is not empty or cannot be written.
    """
    from scenelab.io import atomic_dir
    from scenelab.progress import progress
    from scenelab_scenes import write_scenes

    try:
        with atomic_dir(folder) as temporary:
            write_scenes(temporary, **options, progress=progress)
    except ValueError as error:
        raise LabError(str(error)) from error


def verify(folder: Folder, *, size: Pixels = 128, json: Json = False) -> None:
    """Read every listed image and compare the lists with the files.

    Exits with status 1 if anything is wrong.

    Example: scenelab data verify data

    Args:
        folder: data folder.
        size: expected side of each image in pixels; 0 accepts any.
    """
    from dataclasses import asdict

    from scenelab.data.verify import verify as check

    reports = check(folder, size=size or None)
    if json:
        print_json([asdict(report) for report in reports])
    else:
        for report in reports:
            _print_report(report)
    faults = sum(report.faults for report in reports)
    if faults:
        counted = "1 fault" if faults == 1 else f"{faults} faults"
        raise LabError(f"{folder} has {counted}; replace these files or remove them from the lists")


def _print_report(report: "SplitReport") -> None:
    counts = report.per_class
    spread = f"{min(counts.values())} to {max(counts.values())} per class" if counts else "none"
    say(f"{report.split}: {report.images} images in {len(counts)} classes, {spread}")
    common = Counter(counts.values()).most_common(1)[0][0] if counts else 0
    odd = {name: count for name, count in counts.items() if count != common}
    if 0 < len(odd) <= MAX_ENTRIES:
        say(f"  classes that differ from {common}: " + ", ".join(f"{name} {count}" for name, count in odd.items()))
    files = [path for path in report.unused if not path.endswith("/")]
    folders = [path for path in report.unused if path.endswith("/")]
    sizes = [f"{path} is {width}×{height}" for path, (height, width) in report.wrong_size.items()]
    for title, entries in (
        ("missing", report.missing),
        ("unreadable", list(report.unreadable.values())),
        ("wrongly sized", sizes),
        ("listed twice", report.listed_twice),
        ("not in the list (no fault)", report.not_listed),
        ("look like images, not used (no fault)", files),
        ("folders passed over (no fault)", folders),
    ):
        if entries:
            more = f" … and {len(entries) - MAX_ENTRIES} more" if len(entries) > MAX_ENTRIES else ""
            first = [f"    {entry}" for entry in entries[:MAX_ENTRIES]]
            first[-1] += more
            say(f"  {title}: {len(entries)}", *first)


def pack(
    folder: Folder,
    *,
    size: Pixels = 128,
    cache: Annotated[Path | None, arg(metavar="CACHE", help_behavior_hint=CACHE_DEFAULT)] = None,
    damaged: Literal["refuse", "skip"] = "refuse",
    verify: Flag = False,
) -> None:
    """Decode the images into the cache that training reads.

    Training does the same at its first start.

    Example: scenelab data pack data --size 72

    Args:
        folder: data folder.
        size: side of the decoded images in pixels.
        cache: folder for the decoded images.
        damaged: stop at a missing or unreadable image, or skip it.
        verify: decode the images again and compare them with the cache.
    """
    from scenelab.data.cache import pack as pack_images
    from scenelab.data.cache_folder import default_cache
    from scenelab.data.splits import open_split

    for split in ("train", "val"):
        target, listing = cache or default_cache(folder), open_split(folder, split)
        dataset = pack_images(listing, target, size=size, on_bad_image=damaged, verify=verify)
        say(f"{split}: {len(dataset)} images, {dataset.images.nbytes / 1e6:.0f} MB in {target}")


def list_(
    folders: Annotated[Positional[list[Path]], arg(metavar="FOLDER ...", help_behavior_hint="(required)")],
    *,
    out: Annotated[Path, arg(metavar="CSV")],
    nested: Flag = False,
) -> None:
    """List the images of several folders in one CSV file, to train on.

    Classes of the same name become one. The columns are path, label and split; edit them as you like. 'scenelab train'
    and all other commands take the file as --data.

    Example: scenelab data list phone camera --out photos.csv

    Args:
        folders: data folders of any layout.
        out: file to write; it ends in .csv.
        nested: every folder that has images is a class, named by its path, such as birds/owl.
    """
    from scenelab.data.collect import collect_rows
    from scenelab.data.table import write_table

    if out.suffix.lower() != ".csv":
        raise LabError(f"--out is {out}; expected a name that ends in .csv")
    if not folders:
        raise LabError("folders is empty; name at least one data folder")
    counts = write_table(out, collect_rows(folders, out.parent, nested=nested))
    splits, classes = ({pair[part] for pair in counts} for part in (0, 1))
    parts = [f"{sum(counts[split, name] for name in classes)} {split}" for split in sorted(splits)]
    say(f"{out}: {sum(counts.values())} images of {len(classes)} classes, {', '.join(parts)}")


COMMANDS = Commands(
    "Download, import, draw, list, check and decode images.",
    {
        "Commands": {
            "download": download,
            "import": import_,
            "synth": synth,
            "list": list_,
            "describe": describe,
            "verify": verify,
            "pack": pack,
        }
    },
)
