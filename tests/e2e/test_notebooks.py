"""The notebooks run and show their figures; those of the kit check a student's code, and say what is missing."""

from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest

from scenelab.course.kit import make_kit

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))
FIGURES = {"1_convolution": 4, "2_training": 4, "3_attention": 4, "4_adversarial": 5, "5_own_images": 4}
TRAININGS = {"1_convolution": 0, "2_training": 5, "3_attention": 2, "4_adversarial": 2, "5_own_images": 3}
KIT = {"1_convolution": 9, "2_attention": 2, "3_attack": 4}
WRONG = {  # of the kit's notebook: what is wrong in student_code.py, and what is then said
    "1_convolution": ("grad_weight = (gradients @", "grad_weight = 2 * (gradients @", "✗ gradient of the weight"),
    "2_attention": ("gradient.abs().amax(", "gradient.amax(", "✗ no value is negative"),
    "3_attack": ("- self.step_size *", "+ self.step_size *", "✗ the loss falls"),
}
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    """Jupyter writes its settings and its data below the home folder."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))


def execute(notebook, folder):
    """Return what each code cell printed, and the number of figures; no cell may fail or write to standard error."""
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=600, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    texts = [
        "".join(output.text for output in cell.outputs if output.output_type == "stream")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    return texts, sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.timeout(1200)  # on a busy machine
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_its_figures(path, tmp_path):
    notebook = jupytext.read(path)
    assert "%pip install" in notebook.cells[1].source
    _, figures = execute(notebook, tmp_path)
    assert figures == FIGURES[path.stem]
    outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    bars = [data["text/html"] for data in outputs if "images/s" in data.get("text/html", "")]
    assert len(bars) == TRAININGS[path.stem]
    assert all("left" in bar and "ipywidgets" not in bar for bar in bars)


def run_kit(name, homework):
    return execute(nbformat.read(homework / "notebooks" / f"{name}.ipynb", as_version=4), homework / "notebooks")


@pytest.mark.parametrize("name", KIT)
def test_the_kits_notebook_says_what_is_not_filled_in(name, tmp_path):
    make_kit(tmp_path / "homework", year=2019)
    texts, figures = run_kit(name, tmp_path / "homework")
    assert figures == 0
    assert all(text.startswith("Not filled in yet: ") for text in texts[1:] if text), texts
    assert sum(map(bool, texts)) >= 4


@pytest.mark.parametrize("name", KIT)
def test_the_kits_notebook_passes_the_solution(name, tmp_path):
    make_kit(tmp_path / "homework", year=2022, solution=True)
    texts, figures = run_kit(name, tmp_path / "homework")
    assert figures == KIT[name]
    assert not any(mark in text for text in texts for mark in ("✗", "Not filled in"))
    assert not list((tmp_path / "homework").rglob("__pycache__"))


@pytest.mark.parametrize("name", KIT)
def test_the_kits_notebook_shows_a_mistake(name, tmp_path):
    make_kit(tmp_path / "homework", year=2019, solution=True)
    path, (old, new, expected) = tmp_path / "homework" / "code" / "student_code.py", WRONG[name]
    source = path.read_text("utf-8")
    assert source.count(old) == 1
    path.write_text(source.replace(old, new), "utf-8")
    assert expected in "".join(run_kit(name, tmp_path / "homework")[0])


def test_the_kits_notebook_shows_the_line_of_an_error(tmp_path):
    make_kit(tmp_path / "homework", year=2019, solution=True)
    path = tmp_path / "homework" / "code" / "student_code.py"
    line = "        return gradient.abs().amax(dim=1, keepdim=True)\n"
    path.write_text(path.read_text("utf-8").replace(line, line.replace("gradient", "gradent")), "utf-8")
    text = run_kit("2_attention", tmp_path / "homework")[0][1]
    assert "✗ NameError" in text
    assert f", explain: {line.strip().replace('gradient', 'gradent')}" in text
    path.write_text("def f(:\n")
    assert "✗ student_code.py, line 1:" in run_kit("2_attention", tmp_path / "homework")[0][1]
