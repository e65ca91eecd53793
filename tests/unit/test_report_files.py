"""A report of a stranger's run folder shows images of that folder, and nothing else of this machine."""

import io
import json
import sys

import pytest
from PIL import Image

from scenelab.cli.report import report
from scenelab.errors import LabError
from scenelab.report.collect import collect
from scenelab.report.sections import LARGE, Section
from scenelab.report.write import to_pdf
from scenelab.runs.config import RunConfig, TrainConfig
from scenelab.runs.run import Run
from scenelab.training.metrics_logger import read_metrics


def noise(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((900, 900), 90).convert("RGB").save(stream, kind)
    return stream.getvalue()


def show(path) -> str:
    section = Section("x", "X")
    assert section.image(path, "a", "b")
    return section.blocks[0][1]["data"]


def test_a_missing_system_library_of_the_pdf_is_named_with_its_cure(tmp_path, monkeypatch):
    (tmp_path / "weasyprint.py").write_text("raise OSError(\"cannot load library 'libpango-1.0-0'\\nmore\")")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "weasyprint", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    reason = (
        r"PDF needs Pango \(cannot load library 'libpango-1.0-0'\); install it: apt install libpango-1.0-0 libpango"
    )
    with pytest.raises(LabError, match=reason):
        to_pdf("<p>a</p>", "A4")


def test_images_of_the_run_are_shown(tmp_path):
    (tmp_path / "large.png").write_bytes(noise("PNG"))
    assert len(noise("PNG")) > LARGE
    assert show(tmp_path / "large.png").startswith("data:image/jpeg;base64,")
    Image.new("RGB", (9, 9)).save(tmp_path / "small.png")
    assert show(tmp_path / "small.png").startswith("data:image/png;base64,")
    assert not Section("x", "X").image(tmp_path / "missing.png", "a", "b")


@pytest.mark.parametrize("name", ["a.png", "a.svg"])
@pytest.mark.parametrize("link", [True, False])
def test_another_file_of_the_machine_is_refused(tmp_path, name, link):
    (tmp_path / "secret").write_bytes(b"root:x:0:0\n")
    if link:
        (tmp_path / name).symlink_to(tmp_path / "secret")
    else:
        (tmp_path / name).write_bytes(b"root:x:0:0\n")
    with pytest.raises(LabError, match="is a link; a report takes only" if link else "is not an? (PNG or JPEG|SVG)"):
        show(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["EPS", "PPM", "TIFF"])
def test_other_kinds_of_images_are_not_decoded(tmp_path, kind):
    """For EPS, Pillow would start Ghostscript."""
    (tmp_path / "a.png").write_bytes(noise(kind))
    with pytest.raises(LabError, match="is not a PNG or JPEG image"):
        show(tmp_path / "a.png")


def test_an_image_with_too_many_pixels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("scenelab.report.sections.MAX_PIXELS", 100)
    (tmp_path / "a.png").write_bytes(noise("PNG"))
    with pytest.raises(LabError, match="is 900×900; at most 100 pixels are read"):
        show(tmp_path / "a.png")


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "run")
    run.create(RunConfig(data="d", train_digest="x", train=TrainConfig()))
    run.results.mkdir()
    return run


@pytest.mark.parametrize("name", ["training", "val", "robustness", "corruptions", "cross_validation", "attribution"])
@pytest.mark.parametrize("value", [[], 3, None, {}, {"mirror": 3}, {"plain": {"top1": "x"}}, {"warnings": 3}])
def test_results_of_another_shape_are_one_line_or_not_needed(run, name, value, tmp_path):
    (run.results / f"{name}.json").write_text(json.dumps(value))
    with pytest.raises(LabError, match="the results in|is refused: |--card needs") as caught:
        report([run.folder], out=tmp_path / "out", html_only=True, card=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["[]", "3", "{}", '{"step": 1}', '{"epoch": 1, "top1": "x", "top5": 2}', "[" * 50_000])
def test_rows_of_another_shape_are_one_line(run, line):
    run.metrics.write_text(f'{{"epoch": 1, "split": "val", "top1": 1, "top5": 2}}\n{line}\n{{"cut off": ')
    with pytest.raises(LabError, match="line 2 is not a row of metrics|nested too deep"):
        read_metrics(run)
    with pytest.raises(LabError):
        collect([run.folder])
