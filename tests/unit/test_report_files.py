"""A report of a stranger's run folder shows pictures of that folder, and nothing else of this machine."""

import io
import json

import pytest
from PIL import Image

from scenelab.cli.report import report
from scenelab.errors import LabError
from scenelab.report.blocks import LARGE, Section
from scenelab.report.collect import collect
from scenelab.runs.config import RunConfig, TrainConfig
from scenelab.runs.run import Run
from scenelab.training.metrics_logger import read_metrics

SECRET = b"root:x:0:0\n"


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((900, 900), 90).convert("RGB").save(stream, kind)
    return stream.getvalue()


def show(path) -> Section:
    section = Section("x", "X")
    section.picture(path, "a", "b")
    return section


def test_pictures_of_the_run_are_shown(tmp_path):
    (tmp_path / "large.png").write_bytes(picture("PNG"))
    assert len(picture("PNG")) > LARGE
    assert show(tmp_path / "large.png").blocks[0].content["data"].startswith("data:image/jpeg;base64,")
    Image.new("RGB", (9, 9)).save(tmp_path / "small.png")
    assert show(tmp_path / "small.png").blocks[0].content["data"].startswith("data:image/png;base64,")


@pytest.mark.parametrize("name", ["a.png", "a.svg"])
@pytest.mark.parametrize("link", [True, False])
def test_another_file_of_the_machine_is_not(tmp_path, name, link):
    (tmp_path / "secret").write_bytes(SECRET)
    if link:
        (tmp_path / name).symlink_to(tmp_path / "secret")
    else:
        (tmp_path / name).write_bytes(SECRET)
    with pytest.raises(LabError, match="is a link; a report takes only" if link else "is no (picture|SVG drawing)"):
        show(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["EPS", "PPM", "TIFF"])
def test_other_kinds_of_pictures_are_not_decoded(tmp_path, kind):
    """Of EPS Pillow would start Ghostscript."""
    (tmp_path / "a.png").write_bytes(picture(kind))
    with pytest.raises(LabError, match="is no picture"):
        show(tmp_path / "a.png")


def test_a_picture_that_promises_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr("scenelab.report.blocks.MAX_PIXELS", 100)
    (tmp_path / "a.png").write_bytes(picture("PNG"))
    with pytest.raises(LabError, match="is 900×900; at most 100 pixels are read"):
        show(tmp_path / "a.png")


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "run")
    run.create(RunConfig(data="d", train_digest="x", train=TrainConfig()))
    run.results.mkdir()
    return run


@pytest.mark.parametrize("name", ["training", "val", "robustness", "attribution"])
@pytest.mark.parametrize("value", [[], 3, None, {}, {"mirror": 3}, {"plain": {"top1": "x"}}, {"warnings": 3}])
def test_results_of_another_shape_are_one_line(run, name, value, tmp_path):
    """Or nothing, where they are not needed."""
    (run.results / f"{name}.json").write_text(json.dumps(value))
    said = "the results in "
    try:
        report([run.folder], out=tmp_path / "out", html_only=True, card=True)
    except LabError as error:
        said = str(error)
    assert "\n" not in said
    assert said.startswith(("the results in ", "--card needs"))


@pytest.mark.parametrize("line", ["[]", "3", "{}", '{"step": 1}', '{"epoch": 1, "top1": "x", "top5": 2}', "[" * 50_000])
def test_rows_of_another_shape_are_one_line(run, line):
    run.metrics.write_text(f'{{"epoch": 1, "split": "val", "top1": 1, "top5": 2}}\n{line}\n{{"cut off": ')
    with pytest.raises(LabError, match="line 2 is no row of metrics|nested too deep"):
        read_metrics(run)
    with pytest.raises(LabError):
        collect([run.folder])
