"""scenelab explain on synthetic scenes with annotations of our own: files, page, tests, errors."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from conftest import make_untrained
from scenelab.cli import main
from scenelab.data.annotations import object_file
from scenelab.io import read_json
from scenelab.runs.run import Run


@pytest.fixture(scope="module")
def data(scenes, tmp_path_factory) -> Path:
    """A copy of the scenes with six annotated val images: the left half is object 0, the rest 1; one file is broken."""
    data = tmp_path_factory.mktemp("explain") / "data"
    shutil.copytree(scenes, data, ignore=shutil.ignore_patterns("packed"))
    (data / "object_categories.txt").write_text("left_half 0\nright_half 1\n")
    halves = [((1, 1), (64, 1), (64, 128), (1, 128)), ((65, 1), (128, 1), (128, 128), (65, 128))]
    text = "".join(
        f"<objects><class>{label}</class><polygon>"
        + "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in points)
        + "</polygon></objects>"
        for label, points in enumerate(halves)
    )
    for number, line in enumerate((data / "val.txt").read_text().splitlines()[:6]):
        path = object_file(data, line.split(" ")[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if number else text[:-5])
    return data


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Run:
    return make_untrained(tmp_path_factory.mktemp("explain") / "run", data)


def explain(run: Run, arguments: str, status: int = 0) -> None:
    assert main.run(["explain", str(run.folder), *arguments.split()]) == status


def test_galleries_tests_and_page(run, capsys):
    tests = "--faithfulness --followed 6 --sanity --objects"
    explain(run, f"--limit 3 --per-class --methods gradient cam {tests} --json")
    result = json.loads(capsys.readouterr().out)
    assert result == read_json(run.results / "attribution.json")
    assert len(result["galleries"]["classes"]) == 12
    assert len(result["galleries"]["wrong"]) == 3
    assert set(result["galleries"]["wrong"][0]["limits"]) == {"gradient", "cam"}
    faithfulness = result["faithfulness"]["methods"]
    baselines = {"random", "edges", "blobs", "middle"}
    assert {name for name, values in faithfulness.items() if values["baseline"]} == baselines
    assert len(faithfulness["cam"]["deletion"]["curve"]) == 21
    assert result["sanity"]["methods"]["gradient"]["layers"][0]["layer"] == "network.fc"
    assert result["objects"]["images"] == 5
    assert len(result["objects"]["broken"]) == 1
    items = {item["item"]: item for item in result["objects"]["methods"]["gradient"]["items"]}
    assert items["left half"]["images"] == 5
    assert items["left half"]["density"] + items["right half"]["density"] == pytest.approx(2, abs=0.2)
    assert items["left half"]["interval"] is None  # five images are too few
    assert result["objects"]["methods"]["edges"]["pointing"]["images"] == 5
    assert faithfulness["cam"]["deletion"]["better"].keys() == baselines
    assert result["sanity"]["methods"]["edges"]["verdict"].startswith("fails")
    assert items["left half"]["elsewhere"] > 0
    folder = run.results / "attention"
    names = ("right-1", "wrong-1", "classes-1", "classes-2", "faithfulness", "sanity", "objects")
    expected = {f"{name}.png" for name in names if name != "right-1" or result["galleries"]["right"]}
    assert {path.name for path in folder.glob("*.png")} == expected
    page = (folder / "attention.html").read_text()
    assert page.count("<img") == len(re.findall('alt="[^"]+"', page))
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "http" not in page
    assert list((run.events / "attention").glob("events.out.tfevents.*"))


def test_a_later_call_keeps_earlier_tests(run):
    explain(run, "--limit 2 --methods gradient --faithfulness --followed 3")
    explain(run, "--limit 1 --methods gradient")
    result = read_json(run.results / "attribution.json")
    assert result["faithfulness"]["images"] == 3
    assert len(result["galleries"]["wrong"]) == 1
    assert "Deletion and insertion" in (run.results / "attention" / "attention.html").read_text()


def test_files_of_any_size_are_explained_on_one_scale(run, tmp_path, capsys):
    for name, size in (("wide.png", (90, 40)), ("tall.jpg", (33, 70))):
        Image.new("RGB", size, (200, 30, 30)).save(tmp_path / name)
    methods = "gradient smooth integrated occlusion variance gradient-input"
    explain(run, f"--images {tmp_path}/wide.png {tmp_path}/tall.jpg --methods {methods} --scale method --look heat")
    result = read_json(run.results / "attribution-files.json")
    wide, tall = result["galleries"]["images"]
    assert (wide["image"], tall["image"]) == ("wide.png", "tall.jpg")
    assert wide["limits"] == tall["limits"]
    assert "attention.html" in capsys.readouterr().out
    assert "one scale for all maps of a method" in (run.results / "attention-files" / "attention.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--methods magic", "--methods has 'magic'; the methods are gradient"),
        ("--limit 0", "--limit is 0; expected 1 or more"),
        ("--images a.jpg --sanity", "are of a split; leave --images out"),
        ("--images nowhere.jpg", "nowhere.jpg"),
        ("--split train --objects --limit 1 --methods gradient", "no train image has a file below"),
    ],
)
def test_errors_are_one_line(run, arguments, message, capsys):
    explain(run, arguments, status=1)
    assert message in capsys.readouterr().err
