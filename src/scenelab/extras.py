"""Features that need optional packages, and the extra of scenelab that installs them."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from scenelab.errors import LabError


@dataclass(frozen=True)
class Feature:
    """Feature that needs optional packages.

    Attributes:
        name: the feature, for messages.
        extra: the extra of scenelab that installs the packages.
        packages: names of the modules; those of their packages may have hyphens.
    """

    name: str
    extra: str
    packages: tuple[str, ...]

    @property
    def problem(self) -> str:
        """Line that names the first missing package and the command that installs it; "" if none is missing."""
        missing = next((package for package in self.packages if not _is_installed(package)), "")
        return missing and f"{self.name} needs {missing}; install it with: {self.command}"

    @property
    def command(self) -> str:
        """Command that installs the packages."""
        return pip_install(f"scenelab[{self.extra}]")

    def require(self) -> None:
        """Raise a LabError if a package is missing."""
        if problem := self.problem:
            raise LabError(problem)


APP = Feature("the explorer", "app", ("starlette", "uvicorn"))
ONNX = Feature("export to ONNX", "export", ("onnx", "onnxruntime", "onnxscript"))
PDF = Feature("the report as PDF", "report", ("weasyprint",))
TENSORBOARD = Feature("a log for TensorBoard", "tensorboard", ("tensorboard",))
HEIC = Feature("reading HEIC images", "heic", ("pillow_heif",))
GRADING = Feature("grading", "grading", ("tensorboard", "scipy"))  # students' files import them
FEATURES = (TENSORBOARD, PDF, APP, ONNX, HEIC, GRADING)


def pip_install(*requirements: str) -> str:
    """Return the command that installs packages into this Python's environment, quoted for any system's shell."""
    quoted = [f'"{each}"' if "[" in each else each for each in requirements]
    if PathFinder.find_spec("pip") is None:  # an environment made by uv; find_spec() would break setuptools' distutils
        return " ".join(["uv pip install", *quoted])
    python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else "python"
    return " ".join([python, "-m pip install", *quoted])


def _is_installed(module: str) -> bool:
    with suppress(ImportError, ValueError):  # ValueError: a stand-in in sys.modules
        return find_spec(module) is not None
    return False
