"""Generation of folders for the assignment: the student's kit, and the solution."""

import json
import re
from importlib import resources
from pathlib import Path

from scenelab.course.kit.strip_solutions import cut
from scenelab.errors import LabError
from scenelab.io import atomic_write

CODE = ("student_code.py", "main.py", "test_conv.py", "miniplaces.py")
ROOT = ("README.md", "download_dataset.sh", "notebooks/show_steps.py")
NOTEBOOKS = ("1_convolution", "2_attention", "3_attack")


def files(year: int, *, solution: bool = False) -> dict[str, str]:
    """Return the kit's files of 2019 or 2022 as a dict from relative path to text, with the answers if `solution`."""
    source = resources.files("scenelab.course.kit") / "files"
    texts = {f"code/{name}": cut((source / name).read_text("utf-8"), year, solution=solution) for name in CODE}
    texts |= {name: (source / name).read_text("utf-8") for name in ROOT}
    for name in NOTEBOOKS:
        texts[f"notebooks/{name}.ipynb"] = notebook((source / "notebooks" / f"{name}.py").read_text("utf-8"))
    texts["zip_submission.py"] = (resources.files("scenelab.course") / "submission.py").read_text("utf-8")
    return texts


def notebook(source: str) -> str:
    """Return the JSON text of a Jupyter notebook from Python source with cells that begin with `# %%`.

    In cells that begin with `# %% [markdown]`, each line is a comment.
    """
    cells = []
    for number, part in enumerate(re.split(r"^# %%", source, flags=re.MULTILINE)[1:]):
        head, _, text = part.partition("\n")
        cell = {"cell_type": "code", "execution_count": None, "id": f"cell-{number}", "metadata": {}, "outputs": []}
        if "markdown" in head:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
            cell = {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}}
        cells.append(cell | {"source": text.strip().splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def make_kit(folder: Path, *, year: int, solution: bool = False) -> None:
    """Write the kit of 2019 or 2022 to a new or empty folder, with the answers if `solution`.

    Raises:
        LabError: the folder is not empty or cannot be written, or there is no kit for this year.
    """
    _write(folder, files(year, solution=solution))
    for name in ("writeup", "results"):
        (folder / name).mkdir(exist_ok=True)


def _write(folder: Path, texts: dict[str, str]) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabError(f"DIR is {folder}, which has content; give a new folder")
    for name, text in texts.items():
        with atomic_write(folder / name, "w") as file:
            file.write(text)
        if text.startswith("#!"):
            (folder / name).chmod(0o755)
