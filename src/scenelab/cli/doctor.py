"""scenelab doctor: what this machine offers, what is missing for which command, and how to install it."""

import platform
import shutil
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from scenelab import __version__
from scenelab.cli.arguments import Json
from scenelab.cli.output import print_json, print_table
from scenelab.errors import LabError
from scenelab.extras import FEATURES, GRADING, PDF, Feature, pip_install
from scenelab.terminal import say

MIN_FREE = 5 << 30  # bytes: MiniPlaces, its cache and a run
MIN_MEMORY = 4 << 30


@dataclass(frozen=True)
class Finding:
    """Row of the report: what was checked, the result, the commands that need it, and how to install it.

    `fix` is empty if nothing is missing.
    """

    name: str
    found: str
    needed_for: str
    fix: str = ""


def doctor(*, json: Json = False) -> None:
    """Show what this machine offers, and how to install what is missing.

    Installs and changes nothing.

    Example: scenelab doctor
    """
    findings = [*_base(), *_torch(), *_features(), *_browser(), *_sandbox()]
    if json:
        print_json([asdict(finding) for finding in findings])
        return
    rows = [["fix" if finding.fix else "ok", finding.name, finding.found, finding.needed_for] for finding in findings]
    print_table(f"scenelab {__version__} on {platform.platform()}", ["", "part", "found", "needed for"], rows)
    missing = [finding for finding in findings if finding.fix]
    for finding in missing:
        say(f"{finding.name} ({finding.needed_for}): {finding.fix}")
    if not missing:
        say("nothing is missing")


def _base() -> Iterator[Finding]:
    import psutil

    from scenelab.runtime import available_cores

    yield Finding(
        "Python", f"{platform.python_implementation()} {platform.python_version()} in {sys.prefix}", "everything"
    )
    memory, free = psutil.virtual_memory().total, shutil.disk_usage(Path.cwd()).free
    advice = "close other programs, and train with a smaller --batch-size" if memory < MIN_MEMORY else ""
    yield Finding("memory", f"{memory / 2**30:.1f} GiB", "training", advice)
    advice = f"free {MIN_FREE >> 30} GiB, or work in a folder on another disk" if free < MIN_FREE else ""
    yield Finding("disk", f"{free / 2**30:.0f} GiB free here", "images and runs", advice)
    yield Finding("cores", str(available_cores()), "training")


def _torch() -> Iterator[Finding]:
    try:
        import torch
        import torchvision
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: a torchvision for another torch
        reason = str(error).splitlines()[0]
        yield Finding("torch", f"cannot be imported: {reason}", "everything", pip_install("torch", "torchvision"))
        return
    from scenelab.training.device import pick_device

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    yield Finding("torch", f"{torch.__version__} ({build}), torchvision {torchvision.__version__}", "everything")
    yield Finding("device", str(pick_device("auto")), "training")


def _features() -> Iterator[Finding]:
    for feature in FEATURES:
        found, fix = "missing", feature.command
        if not feature.problem:
            try:
                found, fix = _try(feature), ""
            except LabError as error:
                found, fix = "cannot be used", str(error)
            except Exception as error:  # a broken package may raise anything when it is imported
                found = f"cannot be imported: {str(error).partition(chr(10))[0]}"
        yield Finding(", ".join(feature.packages), found, feature.name, fix)


def _try(feature: Feature) -> str:
    """Return the versions of a feature's packages, after their import."""
    if feature is PDF:
        from scenelab.report.write import to_pdf

        to_pdf("<p>a</p>", "A4")  # WeasyPrint needs Pango
    return ", ".join(import_module(name).__version__ for name in feature.packages)


def _browser() -> Iterator[Finding]:
    try:
        yield Finding("browser", getattr(webbrowser.get(), "name", "") or "found", "explorer and reports")
    except webbrowser.Error:
        advice = "install one, or reach the explorer from your own machine: ssh -L 7860:localhost:7860 THIS-MACHINE"
        yield Finding("browser", "not found", "explorer and reports", advice)


def _sandbox() -> Iterator[Finding]:
    from scenelab.course.grading.sandbox import best

    with tempfile.TemporaryDirectory() as folder:
        try:
            yield Finding("sandbox", str(best(Path(folder))), GRADING.name)
        except LabError as error:
            yield Finding("sandbox", "not available", GRADING.name, str(error))
