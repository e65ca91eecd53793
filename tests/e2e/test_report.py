"""scenelab report: the page and the PDF of runs of all kinds; what is missing is said, nothing is loaded."""

import io
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import yaml
from PIL import Image
from pypdf import PdfReader
from tinyhtml5.parser import HTMLParser as HTMLParser5

from scenelab.cli import main
from scenelab.data.augment import Augment
from scenelab.errors import LabError
from scenelab.progress import LogProgress
from scenelab.report.blocks import to_html
from scenelab.report.card import make_card
from scenelab.report.collect import collect, read_run
from scenelab.report.compare import compare
from scenelab.report.team import Team, read_team
from scenelab.report.write import KEYS, render, to_pdf
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig
from scenelab.runs.run import Run
from scenelab.training.session import start_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Checker(HTMLParser):
    """Tags that match, attributes that load, images without alt, identifiers used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.faults, self.ids, self.links = [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img" and not values.get("alt"):
            self.faults.append("an image without alt")
        for name in ("src", "href"):
            if name in values and not values[name].startswith(("data:", "#")):
                self.faults.append(f"loads {values[name][:60]}")
        if tag == "a":
            self.links.append(values["href"].removeprefix("#"))
        if "id" in values:
            self.ids.append(values["id"])

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")


def parse_errors(html: str) -> list:
    """What the WHATWG parsing rules call an error."""
    parser = HTMLParser5()
    parser.parse(html)
    return parser.errors


def check(html: str) -> None:
    checker = Checker()
    checker.feed(html)
    assert checker.faults == []
    assert parse_errors(html) == []
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert set(checker.links) <= set(checker.ids)
    assert not re.search(r"url\((?!['\"]?(data:|#))", html)
    assert "@import" not in html


@pytest.fixture(scope="module")
def runs(scenes, tmp_path_factory) -> list[Run]:
    """Two evaluated runs, the first explained and attacked as well."""
    folder = tmp_path_factory.mktemp("report")
    config = TrainConfig(
        model="residual-small", epochs=3, batch_size=24, stored_size=32, eval_size=32, threads=2, augment=Augment(),
        schedule=ScheduleConfig(sizes=((0.0, 32),)), optimizer=OptimizerConfig(name="muon", lr=0.02), log_every=1,
    )  # fmt: skip
    made = []
    for seed in range(2):
        from dataclasses import replace

        start_run(folder / f"seed-{seed}", scenes, replace(config, seed=seed), display=LogProgress(every_steps=10**9))
        assert main.run(["evaluate", str(folder / f"seed-{seed}"), "--json"]) == 0
        made.append(Run(folder / f"seed-{seed}"))
    first = str(made[0].folder)
    assert main.run(["explain", first, "--limit", "3", "--methods", "gradient", "cam", "--sanity", "--json"]) == 0
    assert main.run(["robustness", first, "--epsilons", "0", "8/255", "--images", "8", "--json"]) == 0
    return made


def test_a_report_and_a_card(runs, tmp_path, capsys):
    team = tmp_path / "team.toml"
    team.write_text(
        'title = "Scenes <b>& more"\n[[member]]\nname = "Ada"\ndid = "convolution"\n'
        '[text]\nabstract = "We *tried*. <script>alert(1)</script>"\nresults = "Better than guessing."\n'
    )
    command = ["report", *(str(run.folder) for run in runs), "--out", str(tmp_path / "out"), "--team", str(team)]
    assert main.run([*command, "--compare", "--card"]) == 0
    assert "report.pdf" in capsys.readouterr().out
    html = (tmp_path / "out" / "report.html").read_text()
    check(html)
    assert "<script>" not in html
    assert "Scenes &lt;b&gt;&amp; more" in html
    assert "We <em>tried</em>." in html
    for key in KEYS:
        assert f'id="{key}"' in html
    evaluation = json.loads((runs[0].results / "val.json").read_text())
    assert f"{evaluation['mirror']['top1']:.2f} (" in html
    assert "seed-1 − seed-0" in html
    assert "scenelab study conv" in html  # what is missing says how it is made
    pdf = PdfReader(tmp_path / "out" / "report.pdf")
    text = "\n".join(page.extract_text() for page in pdf.pages)
    assert "Who did what" in text
    assert "Ada" in text
    assert f"1 / {len(pdf.pages)}" in text
    titles = [entry.title for entry in pdf.outline if not isinstance(entry, list)]
    assert titles
    assert pdf.pages[0].mediabox.width == pytest.approx(210 / 25.4 * 72, abs=1)
    card = (tmp_path / "out" / "card.md").read_text()
    assert card.startswith("---\nlibrary_name: pytorch\n")
    for heading in ("Intended use", "Metrics", "Robustness", "Limits", "Provenance"):
        assert f"## {heading}" in card
    for path in (tmp_path / "out").iterdir():
        assert path.stat().st_size < 5_000_000


def test_a_pdf_leaves_the_reading_of_images_as_it_was():
    """In a process of its own: WeasyPrint changes Pillow for all when it is loaded."""
    code = (
        "from PIL import ImageFile; from scenelab.report.write import to_pdf; "
        "to_pdf('<p>text</p>', 'A4'); assert ImageFile.LOAD_TRUNCATED_IMAGES is False"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_run_cannot_stand_side_by_side(runs):
    assert "scenelab report RUN RUN --compare" in render(collect([runs[0].folder]), Team(), side_by_side=True)


def test_letter_paper(runs):
    html = render(collect([runs[1].folder]), Team())
    pdf = PdfReader(io.BytesIO(to_pdf(html, "Letter")))
    assert (pdf.pages[0].mediabox.width, pdf.pages[0].mediabox.height) == (612, 792)


def test_a_run_without_results_says_what_makes_them(runs, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(runs[0].folder, bare)
    shutil.rmtree(bare / "results")
    html = render(collect([bare]), Team())
    check(html)
    for command in ("scenelab evaluate", "scenelab explain", "scenelab robustness", "scenelab report RUN --team"):
        assert f"<code>{command}" in html
    assert "the run is not finished" in html
    (bare / "metrics.jsonl").write_bytes(b"")
    check(render(collect([bare]), Team()))


def test_ten_runs_of_one_name(runs, tmp_path):
    folders = []
    for number in range(10):
        folders.append(tmp_path / str(number) / "run")
        shutil.copytree(runs[number % 2].folder, folders[-1])
    html = render(collect(folders), Team(), side_by_side=True)
    check(html)
    assert "9/run − 8/run" in html
    assert "Otherwise as 0/run." in html


def test_a_paired_difference_by_hand(runs):
    """Of eight images the first alone has three right, the second alone one: -25 points, s = √(4 - 4/8) / 8."""
    first, second = read_run(runs[0].folder), read_run(runs[1].folder)
    paths = [f"{number}.jpg" for number in range(8)]
    labels = dict.fromkeys(paths, 0)
    one = dict(zip(paths, [(g, 2) for g in (0, 0, 0, 0, 0, 1, 1, 1)], strict=True))
    two = dict(zip(paths, [(g, 0) for g in (0, 0, 1, 1, 1, 0, 1, 1)], strict=True))
    from dataclasses import replace

    found = compare(replace(first, labels=labels, guesses=one), replace(second, labels=labels, guesses=two))
    assert (found.images, found.only_first, found.only_second, found.points) == (8, 3, 1, -25)
    away = 100 * 1.959964 * math.sqrt(3.5) / 8
    assert found.interval == (pytest.approx(-25 - away), pytest.approx(-25 + away))
    top5 = compare(replace(first, labels=labels, guesses=one), replace(second, labels=labels, guesses=two), k=5)
    assert (top5.only_first, top5.only_second) == (0, 3)
    with pytest.raises(LabError, match="share no evaluated images"):
        compare(replace(first, labels=labels, guesses=one), replace(second, guesses={"other.jpg": (0,)}))
    with pytest.raises(LabError, match="has no predictions; run: scenelab evaluate"):
        compare(replace(first, guesses={}), second)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "cannot be read"),
        ("colour = 1", "has 'colour'; expected title, [[member]] and [text]"),
        ('[[member]]\nname = "Ada"', "each [[member]] needs a name and what they did"),
        ('[text]\nintro = "x"', "[text] has 'intro'; the sections are"),
        ("[text]\nresults = 3", "[text] must hold strings"),
        ("title = 3", "title must be a string"),
    ],
)
def test_a_bad_team_file_is_one_line(text, message, tmp_path):
    path = tmp_path / "team.toml"
    path.write_text(text)
    with pytest.raises(LabError) as caught:
        read_team(path, KEYS)
    assert message in str(caught.value)


def test_nothing_to_report(tmp_path, capsys):
    assert main.run(["report", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "holds neither a run (config.json) nor a study" in capsys.readouterr().err


def test_results_of_other_weights_are_called_so(runs, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(runs[0].folder, copy)
    assert "other weights" not in render(collect([copy]), Team())
    shutil.copy(runs[1].best, Run(copy).best)
    html = render(collect([copy]), Team())
    for command in ("evaluate", "explain", "robustness"):
        assert re.search(rf"other weights now[^;]*; repeat <code>scenelab {command} ", html), command


def test_runs_that_cannot_be_compared_are_called_so(runs, tmp_path):
    copy = tmp_path / "other"
    shutil.copytree(runs[1].folder, copy)
    path = Run(copy).results / "val_predictions.csv"
    head, first, *rest = path.read_text().splitlines()
    name, label, tail = first.split(",", 2)
    path.write_text("\n".join([head, f"{name},{(int(label) + 1) % 12},{tail}", *rest]))
    html = render(collect([runs[0].folder, copy]), Team(), side_by_side=True)
    check(html)
    assert "cannot be compared:" in html
    assert "have different labels" in html


def test_markdown_of_the_team_loads_nothing_and_stays_below_our_headings():
    html = to_html("# Big\n\n## Smaller\n\n![x](http://example.org/x.png) and <img src=x>")
    assert "<h3>Big</h3>" in html
    assert "<h4>Smaller</h4>" in html
    assert "<img" not in html


def test_every_number_says_where_it_comes_from(runs):
    html = render(collect([run.folder for run in runs]), Team())
    for run in runs:
        command = json.loads(run.environment.read_text())["command"].split()[0]
        assert f"{json.loads((run.results / 'val.json').read_text())['date'][:10]}: {command}" in html
    assert "trained from scratch on <code>scenes</code> with seed 1" in html
    assert "K. Jordan et al. Muon" in html
    assert "CutMix" not in html


def test_a_mixed_run_is_not_said_to_overfit(runs, tmp_path):
    copy = tmp_path / "mixed"
    shutil.copytree(runs[0].folder, copy)
    config = json.loads(Run(copy).config.read_text())
    config["train"]["augment"]["mixup"] = 0.2
    Run(copy).config.write_text(json.dumps(config))
    assert "mixtures of two images" in render(collect([copy]), Team())


def test_the_card_is_yaml_and_markdown(runs):
    _, front, text = make_card(collect([runs[0].folder])).split("---\n", 2)
    about = yaml.safe_load(front)
    (entry,) = about["model-index"]
    evaluation = json.loads((runs[0].results / "val.json").read_text())
    metrics = {metric["name"]: metric["value"] for metric in entry["results"][0]["metrics"]}
    assert metrics["Top-1 accuracy"] == pytest.approx(evaluation["mirror"]["top1"] / 100, abs=5e-5)
    assert about["pipeline_tag"] == "image-classification"
    assert text.count("## ") == 5


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (Debian: apt install chromium)")
@pytest.mark.parametrize("width", [390, 1200])
def test_in_a_browser_nothing_is_asked_for_and_it_fits_the_screen(runs, tmp_path, width):
    path = tmp_path / "report.html"
    path.write_text(render(collect([run.folder for run in runs]), Team(), side_by_side=True))
    with pytest.importorskip("playwright.sync_api").sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800})
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].filter(image => !image.naturalWidth).length") == 0
        browser.close()
    assert [url for url in asked if not url.startswith(("data:", path.as_uri()))] == []
    assert said == []


def test_nothing_is_fetched(tmp_path):
    """Neither from the network nor from the disk, though the file is there."""
    Image.new("RGB", (2, 2), "red").save(tmp_path / "red.png")
    for source in ((tmp_path / "red.png").as_uri(), "http://127.0.0.1:9/x.png"):
        with pytest.raises(BaseException, match="Error fetching"):
            to_pdf(f'<p>text</p><img src="{source}">', "A4")
