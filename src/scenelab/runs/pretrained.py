"""Networks that ship with scenelab, as run folders inside the package."""

from importlib.resources import files
from pathlib import Path

from scenelab.errors import LabError
from scenelab.runs.run import Run

FOLDER = Path(str(files("scenelab"))) / "pretrained"
DEFAULT = "miniplaces"
OUTPUT = Path("scenelab-results")  # in the current folder, since that of the package may not be writable


def list_pretrained() -> list[str]:
    """Return the names of the networks that ship with scenelab."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def find_run(run: Path | None) -> Run:
    """Return a run folder as a `Run`, or the network that ships under this name; None is the default network.

    Raises:
        LabError: there is no such network.
    """
    if run is None:
        return open_pretrained(DEFAULT)
    is_run = Run(run).config.exists() or Run(run).best.exists()  # another folder may have the name of a network
    return Run(run) if is_run or str(run) not in list_pretrained() else open_pretrained(str(run))


def open_pretrained(name: str) -> Run:
    """Return the network that ships under a name; its results are written to `scenelab-results/NAME`.

    Raises:
        LabError: there is no such network.
    """
    if name not in list_pretrained():
        raise LabError(f"the network {name} is missing from this installation of scenelab; name a run folder")
    shipped = Run(FOLDER / name)
    shipped.best = shipped.folder / "model.safetensors"
    shipped.results = OUTPUT / name
    shipped.events = shipped.results / "tensorboard"
    return shipped


def example_images() -> list[Path]:
    """Return the paths of the example images that ship with scenelab."""
    return sorted((FOLDER / "examples").glob("*.jpg"))


def find_example(name: str) -> Path:
    """Return the path of an example image by its name without suffix; raise a LabError if there is none."""
    for path in example_images():
        if path.stem == name:
            return path
    raise LabError(f"there is no example image {name!r}; choose one of the {len(example_images())} in the list")


def is_pretrained(run: Run) -> bool:
    """Return whether a run is a network that ships with scenelab."""
    return run.folder.parent == FOLDER
