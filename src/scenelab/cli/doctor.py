"""scenelab doctor: what this machine offers, what is missing for which command, and how to install it."""

import importlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from scenelab import __version__
from scenelab.cli.arguments import Json
from scenelab.cli.output import print_json, print_table
from scenelab.terminal import say

MIN_FREE = 5 << 30  # bytes: MiniPlaces, its cache and a run
MIN_MEMORY = 4 << 30
OPTIONAL = {  # module by the commands that need it, and the extra of scenelab that installs it
    "tensorboard": ("training curves in a browser", ""),
    "starlette": ("app", "app"),
    "onnx": ("export to ONNX", "export"),
    "onnxruntime": ("export to ONNX", "export"),
    "safetensors": ("export to safetensors", "export"),
}


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
    """Show what this machine offers and what is missing for what.

    Nothing is installed or changed.

    Example: scenelab doctor
    """
    findings = [*_base(), *_torch(), *_packages(), *_pdf(), *_sandbox()]
    if json:
        print_json([asdict(finding) for finding in findings])
        return
    rows = [["" if finding.fix else "ok", finding.name, finding.found, finding.needed_for] for finding in findings]
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
        yield Finding("torch", f"cannot be imported: {reason}", "everything", _pip("torch", "torchvision"))
        return
    from scenelab.training.device import pick_device

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    yield Finding("torch", f"{torch.__version__} ({build}), torchvision {torchvision.__version__}", "everything")
    yield Finding("device", str(pick_device("auto")), "training")


def _packages() -> Iterator[Finding]:
    for name, (purpose, extra) in OPTIONAL.items():
        found = _import(lambda name=name: importlib.import_module(name).__version__)
        fix = "" if found else _pip(f"'scenelab[{extra}]'" if extra else name)
        yield Finding(name, found or "missing", purpose, fix)


def _pdf() -> Iterator[Finding]:
    from scenelab.report.write import to_pdf

    found = _import(lambda: f"{len(to_pdf('<p>a</p>', 'A4')):,} bytes written")
    system = {"linux": "apt install libpango-1.0-0 libpangoft2-1.0-0", "darwin": "brew install pango"}
    pango = system.get(sys.platform, "install Pango (see WeasyPrint's documentation)")
    fix = "" if found else f"{_pip('weasyprint')}; {pango}; or use report --html-only"
    yield Finding("PDF", found or "WeasyPrint or Pango is missing", "report as PDF", fix)


def _sandbox() -> Iterator[Finding]:
    from scenelab.course.grading.sandbox import best
    from scenelab.errors import LabError

    with tempfile.TemporaryDirectory() as folder:
        try:
            yield Finding("sandbox", str(best(Path(folder))), "grade")
        except LabError as error:
            yield Finding("sandbox", "not available", "grade", str(error))


def _import(describe: Callable[[], str]) -> str:
    try:
        return describe()
    except Exception:  # a broken package may raise anything when it is imported
        return ""


def _pip(*packages: str) -> str:
    python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else "python"
    return f"{python} -m pip install {' '.join(packages)}"
