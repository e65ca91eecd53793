"""scenelab data: download, import, make, check and pack images."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from tyro.conf import Positional

from scenelab.cli.output import print_json
from scenelab.errors import LabError

if TYPE_CHECKING:
    from scenelab.data.verify import SplitReport

SHOWN = 5


def download(folder: Positional[Path]) -> None:
    """Download MiniPlaces (120,000 images, about 0.6 GB); run it again after a break, it continues where it stopped.

    Example: scenelab data download data

    Args:
        folder: where the images and lists go.
    """
    from scenelab.data.fetch.install import download as install

    install(folder)


def import_(source: Positional[Path], folder: Positional[Path]) -> None:
    """Put a local copy of MiniPlaces in place: an archive with its lists beside it, or an extracted folder.

    Example: scenelab data import ~/Downloads/data.tar.gz data

    Args:
        source: archive (.tar, .tar.gz, .zip), or a folder with one or with images/ and the lists.
        folder: where the images and lists go.
    """
    from scenelab.data.fetch.install import import_data

    import_data(source, folder)


def synth(folder: Positional[Path], *, seed: int = 0, train: int = 200, val: int = 50, size: int = 128) -> None:
    """Draw synthetic scenes in MiniPlaces' layout; the same seed draws the same images.

    Example: scenelab data synth data/synthetic

    Args:
        folder: where the images and lists go.
        seed: which images.
        train: training images per kind.
        val: validation images per kind.
        size: side of the images in pixels.
    """
    draw_scenes(folder, seed=seed, train_per_class=train, val_per_class=val, size=size)
    print(f"{folder}: synthetic scenes written; next: scenelab train demo --data {folder} --out runs/first")


def draw_scenes(folder: Path, **options: int) -> None:
    """Write synthetic scenes with a progress bar; the folder appears whole or not at all.

    Args:
        folder: a missing or an empty folder.
        options: as for `scenelab_scenes.write_scenes`.

    Raises:
        LabError: an argument is out of range, or `folder` has content or cannot be written.
    """
    from scenelab.io import atomic_dir
    from scenelab.progress import progress
    from scenelab_scenes import write_scenes

    try:
        with atomic_dir(folder) as temporary:
            write_scenes(temporary, **options, progress=progress)
    except ValueError as error:
        raise LabError(str(error)) from error


def verify(folder: Positional[Path], *, size: int = 128, json: bool = False) -> None:
    """Read every listed image and compare the lists with the files; exit status 1 where anything is wrong.

    Example: scenelab data verify data

    Args:
        folder: a data folder.
        size: side in pixels that each image must have; 0 accepts any.
        json: print the report as JSON.
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
        raise LabError(f"{folder} has {faults} faults; get these files again or take them out of the lists")


def _print_report(report: "SplitReport") -> None:
    counts = report.per_class
    spread = f"{min(counts.values())} to {max(counts.values())} per class" if counts else "none"
    print(f"{report.split}: {report.images} images in {len(counts)} classes, {spread}")
    common = Counter(counts.values()).most_common(1)[0][0] if counts else 0
    odd = {name: count for name, count in counts.items() if count != common}
    if 0 < len(odd) <= SHOWN:
        print(f"  classes that differ from {common}: " + ", ".join(f"{name} {count}" for name, count in odd.items()))
    sizes = [f"{path} is {width}×{height}" for path, (height, width) in report.wrong_size.items()]
    for title, entries in (
        ("missing", report.missing),
        ("unreadable", list(report.unreadable.values())),
        ("wrongly sized", sizes),
        ("listed twice", report.listed_twice),
        ("not in the list (no fault)", report.not_listed),
    ):
        if entries:
            more = f" … and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
            print(f"  {title}: {len(entries)}\n    " + "\n    ".join(entries[:SHOWN]) + more)


def pack(
    folder: Positional[Path], *, size: int = 128, cache: Path | None = None,
    damaged: Literal["refuse", "skip"] = "refuse",
) -> None:  # fmt: skip
    """Decode both splits into the packed cache now; training does it by itself where it is missing.

    Example: scenelab data pack data --size 72

    Args:
        folder: a data folder.
        size: side of the packed images in pixels.
        cache: where the packed splits go; FOLDER/packed by default.
        damaged: whether a missing or unreadable image ends it, or is left out.
    """
    from scenelab.data.splits import open_dataset

    for split in ("train", "val"):
        dataset = open_dataset(folder, cache, split, size, damaged)
        print(f"{split}: {len(dataset)} images, {dataset.images.nbytes / 1e6:.0f} MB in {cache or folder / 'packed'}")


def app() -> tyro.extras.SubcommandApp:
    """The subcommands of `scenelab data`."""
    group = tyro.extras.SubcommandApp()
    group.command(download)
    group.command(name="import")(import_)
    group.command(synth)
    group.command(verify)
    group.command(pack)
    return group
