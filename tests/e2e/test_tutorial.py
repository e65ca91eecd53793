"""The Python of the tutorial runs as printed, here with a network that has learned nothing."""

import re
from pathlib import Path

from conftest import make_untrained
from scenelab_scenes import write_scenes

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial.md"


def test_python_of_the_tutorial_runs_and_draws_its_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    write_scenes(Path("scenes"), train_per_class=1, val_per_class=35, test=1)  # it opens validation image 409
    make_untrained(Path("runs/first"), Path("scenes"), model="simplenet")
    exec("\n".join(re.findall(r"```python\n(.*?)```", TUTORIAL.read_text("utf-8"), re.DOTALL)), {})
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == ["attack", "filters", "occlusion"]
