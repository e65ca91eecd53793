"""scenelab predict: classify image files, folders of them, and patterns of names."""

import glob
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from scenelab.cli.arguments import Json
from scenelab.cli.images import report_broken
from scenelab.errors import LabError
from scenelab.terminal import say

if TYPE_CHECKING:
    from scenelab.evaluation.predict import Guesses

Writer = Callable[[Path, "Guesses", str], object]
"""Function that gets each image, its ranked classes with probabilities, and "" or an error message."""


def predict(
    paths: Annotated[Positional[list[Path]], arg(metavar="[RUN] IMAGE ...", help_behavior_hint="(required)")],
    *,
    top: Annotated[int, arg(metavar="K")] = 5,
    csv: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    copy_into: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None,
    json: Json = False,
) -> None:
    """Classify image files, or folders of them, with a trained network.

    After 'scenelab evaluate RUN', an image that is unlike those of the classes is "none of these". Exits with status 1
    if a file cannot be read; the others are predicted.

    Example: scenelab predict runs/starter holiday --csv holiday.csv

    Args:
        paths: image files, folders or patterns such as 'holiday/*.jpg'; before them, a run folder, a checkpoint file or
            the name of a network that ships (default: miniplaces, if it is installed).
        top: classes per image.
        csv: file for a row per image: the most likely classes with probabilities, or the error.
        copy_into: new folder for a copy of each image, in a sub-folder of its class.
    """
    from scenelab.evaluation.predict import Guesses, load
    from scenelab.progress import progress

    if top < 1:
        raise LabError(f"--top is {top}; expected 1 or more")
    names_network = bool(paths) and not _is_images(paths[0])
    inputs = paths[1:] if names_network else paths
    if not inputs:
        raise LabError("images is empty; give at least one file")
    network = load(paths[0] if names_network else None)
    images, errors, refused = _expand(inputs), [], 0
    quiet = csv is not None or copy_into is not None
    with ExitStack() as stack:
        writers: list[Writer] = []
        if csv:
            writers.append(_csv_writer(csv, min(top, len(network.categories)), stack))
        if copy_into:
            writers.append(_copier(copy_into))
        if json:
            writers.append(_json_writer(stack))
        elif not quiet:
            writers.append(_print_guesses)
        advance = stack.enter_context(progress("predicting", len(images) if quiet else 0))
        for image in images:
            guesses, error = Guesses(), ""
            try:
                guesses = network(image, top=top)
            except LabError as problem:
                error = str(problem)
                errors.append(error)
            refused += bool(guesses.none_of_these)
            for write in writers:
                write(image, guesses, error)
            advance(1)
    if quiet or len(images) > len(inputs):
        note = f", {refused} of them as none of these" if refused else ""
        say(f"{len(images) - len(errors)} of {len(images)} images are predicted{note}", file=sys.stderr)
    report_broken(errors, len(images))


def _is_images(path: Path) -> bool:
    """Return whether the first argument is not a network but a file with an image's suffix, a folder or a pattern."""
    from scenelab.data.image_files import OTHER_SUFFIXES, SUFFIXES

    if path.is_dir():
        return not any((path / name).exists() for name in ("config.json", "model_best.pth.tar"))
    return path.suffix.lower() in SUFFIXES | OTHER_SUFFIXES or (not path.exists() and glob.has_magic(str(path)))


def _expand(paths: list[Path]) -> list[Path]:
    """Return the image files of files, folders and patterns; raise a LabError if a folder or pattern has none."""
    from scenelab.data.image_files import ImageFiles, describe_unused, is_image

    images = []
    for path in paths:
        if path.is_dir():
            files = ImageFiles(path)
            matches = [path / name for name in files.below(path)]
            if files.unused:
                say(f"{path}: {describe_unused(files.unused)}", file=sys.stderr)
        elif not path.exists() and glob.has_magic(str(path)):
            names = sorted(glob.glob(str(path), recursive=True))
            matches = [match for name in names if is_image(match := Path(name)) is not None]
        else:
            matches = [path]
        if not matches:
            raise LabError(f"{path} has no images; name image files, a folder of them, or a pattern")
        images += matches
    return images


def _print_guesses(image: Path, guesses: "Guesses", error: str) -> None:
    if guesses:
        say(f"{image}: none of these; the nearest classes are" if guesses.none_of_these else image)
        for category, share in guesses:
            say(f"  {100 * share:5.1f} %  {category}")


def _json_writer(stack: ExitStack) -> Writer:
    """Return a function that prints each image as an item of one JSON list, which the stack ends."""
    from scenelab.io import to_json

    separator = "["

    def write(image: Path, guesses: "Guesses", error: str) -> None:
        nonlocal separator
        if guesses:
            print(separator, to_json(guesses.to_json(image)), flush=True)
            separator = ","

    stack.callback(lambda: print("]" if separator == "," else "[]"))
    return write


def _csv_writer(path: Path, count: int, stack: ExitStack) -> Writer:
    from scenelab.evaluation.evaluate import csv_path
    from scenelab.io import atomic_write, write_csv_row

    file = stack.enter_context(atomic_write(path, "w"))
    numbers = ["", *map(str, range(2, count + 1))]
    classes = [f"{name}{each}" for each in numbers for name in ("class", "probability")]
    write_csv_row(file, ["image", "none of these", *classes, "error"])

    def write(image: Path, guesses: "Guesses", error: str) -> None:
        cells = [cell for category, share in guesses for cell in (csv_path(category), f"{share:.4f}")]
        answer = {None: "", False: "no", True: "yes"}[guesses.none_of_these]
        write_csv_row(file, [csv_path(str(image)), answer, *(cells or [""] * 2 * count), error])

    return write


def _copier(folder: Path) -> Writer:
    from scenelab.io import explain_write_errors

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabError(f"--copy-into is {folder}, which is there already; name a new or empty folder")

    def copy(image: Path, guesses: "Guesses", error: str) -> None:
        if not guesses:
            return
        category = "none of these" if guesses.none_of_these else guesses[0][0]
        name = re.sub(r'[/\\:*?"<>|\0]', "_", category).strip(". ") or "_"
        target, number = folder / name / image.name, 1
        while target.exists():  # of another folder
            number += 1
            target = target.with_name(f"{image.stem}-{number}{image.suffix}")
        with explain_write_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(image, target)

    return copy
