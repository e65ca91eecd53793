"""scenelab report: the page and the PDF of runs of all kinds; what is missing is named, nothing is loaded."""

import dataclasses
import io
import json
import re
import shutil

import pytest
import yaml
from PIL import Image
from pypdf import PdfReader
from tinyhtml5.parser import HTMLParser

from quick_studies import Quiet, tiny
from scenelab.cli import main
from scenelab.data.augment_config import Augment
from scenelab.errors import LabError
from scenelab.evaluation.accuracy_results import EvaluationResult
from scenelab.evaluation.intervals import paired_difference
from scenelab.evaluation.results import CrossValidation
from scenelab.io import read_json, write_json
from scenelab.report.card import make_card
from scenelab.report.collect import Collected, collect, read_run
from scenelab.report.compare import compare
from scenelab.report.practitioner import abilities
from scenelab.report.readers import SECTIONS, Reader, keys
from scenelab.report.sections import to_html
from scenelab.report.team import read_team
from scenelab.report.write import render, to_pdf
from scenelab.runs.config import OptimizerConfig
from scenelab.runs.run import Run
from scenelab.training.session import start_run

KEYS = keys("writeup")
ASSIGNMENT = (
    r"handout|assignment|writeup|hand-in|submission|student|course|convolution|challenge|MiniPlaces|scene recog"
)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def runs(scenes, tmp_path_factory) -> list[Run]:
    """Two evaluated runs, the first explained and attacked as well."""
    folder = tmp_path_factory.mktemp("report")
    optimizer = OptimizerConfig(name="muon", lr=0.02)
    config = tiny(model="residual-small", epochs=3, augment=Augment(), optimizer=optimizer)
    runs = [Run(folder / f"seed-{seed}") for seed in range(2)]
    for seed, run in enumerate(runs):
        start_run(run.folder, scenes, dataclasses.replace(config, seed=seed), display=Quiet())
        assert main.run(["evaluate", str(run.folder), "--json"]) == 0
    first = str(runs[0].folder)
    assert main.run(["explain", first, "--limit", "3", "--methods", "gradient", "cam", "--sanity", "--json"]) == 0
    assert main.run(["robustness", first, "--epsilons", "0", "8/255", "--images", "8", "--json"]) == 0
    assert main.run(["robustness", first, "--corruptions", "--images", "8", "--json"]) == 0
    return runs


@pytest.fixture
def copy(runs, tmp_path) -> Run:
    """A copy of the first run, to be changed."""
    return Run(shutil.copytree(runs[0].folder, tmp_path / "copy"))


def check_page(html: str) -> None:
    """Require valid HTML, alt texts, unique ids, links that lead somewhere, and that nothing is loaded."""
    parser = HTMLParser()
    parser.parse(html)
    assert parser.errors == []
    assert not re.search(r'<img(?![^>]* alt="[^"])', html)
    targets, ids = re.findall(r'\b(?:src|href)="([^"]*)', html), re.findall(r'\bid="([^"]*)', html)
    assert [target[:60] for target in targets if not target.startswith(("data:", "#"))] == []
    assert len(set(ids)) == len(ids)
    assert {target[1:] for target in targets if target.startswith("#")} <= set(ids)
    assert not re.search(r"url\((?!['\"]?(data:|#))|@import", html)


def page(*runs: Run, side_by_side: bool = False, reader: Reader = "writeup") -> str:
    collected = dataclasses.replace(collect([run.folder for run in runs]), side_by_side=side_by_side)
    assert [make(collected).key for make in SECTIONS[reader]] == list(keys(reader))
    html = render(collected, reader)
    check_page(html)
    return html


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
    check_page(html)
    assert "<script>" not in html
    top1 = f"{read_json(runs[0].results / 'val.json')['mirror']['top1']:.2f} ("
    phrases = ["Scenes &lt;b&gt;&amp; more", "We <em>tried</em>.", top1, "seed-1 − seed-0", "scenelab study conv"]
    assert [phrase for phrase in (*phrases, *(f'id="{key}"' for key in KEYS)) if phrase not in html] == []
    pdf = PdfReader(tmp_path / "out" / "report.pdf")
    text = "\n".join(page.extract_text() for page in pdf.pages)
    assert [phrase for phrase in ("Contributions", "Ada", f"1 / {len(pdf.pages)}") if phrase not in text] == []
    assert [entry.title for entry in pdf.outline if not isinstance(entry, list)]
    assert pdf.pages[0].mediabox.width == pytest.approx(210 / 25.4 * 72, abs=1)
    assert (tmp_path / "out" / "card.md").read_text().startswith("---\nlibrary_name: pytorch\n")
    for path in (tmp_path / "out").iterdir():
        assert path.stat().st_size < 5_000_000


def test_a_practitioner_reads_what_the_classifier_can_do_and_no_word_of_the_assignment(runs):
    html = re.sub(r'"data:[^"]*"', "", page(runs[0], reader="practitioner"))
    assert re.findall(ASSIGNMENT, html, re.IGNORECASE) == []
    assert re.findall(ASSIGNMENT, page(runs[0]), re.IGNORECASE) != []
    assert html.index("What it can and cannot do</h2>") < html.index("<h2>", html.index("<h2>") + 1)
    top1, images = read_json(runs[0].results / "val.json")["mirror"]["top1"], 36
    assert f"<strong>{top1:.1f} %</strong> of {images} val images that it was not trained on" in html
    pictures = [
        "Images of the most confused",
        "Confusion matrix",
        "Accuracy against confidence",
        "One image under each kind",
    ]
    assert [alt for alt in (*pictures, "Accuracy against ε") if f'alt="{alt}' not in html] == []
    assert "Missing" not in html


def test_what_is_not_measured_is_one_line_with_its_command(runs, copy):
    html = page(*runs, reader="practitioner")
    for what, command in (("accuracy on corrupted images", "robustness --corruptions"), ("under attack", "robustness")):
        assert re.findall(
            rf"Missing: [a-z ]*{what} of seed-1. Run <code>scenelab {command} {runs[1].folder}</code>", html
        )
    assert "of seed-0. Run" not in html
    shutil.rmtree(copy.results)
    html = page(copy, reader="practitioner")
    assert html.count(f"Run <code>scenelab evaluate {copy.folder}</code>") == 4


def test_the_abilities_by_hand(runs):
    """Of 100 images the classifier knows 80; a class that it never finds is among the worst."""
    run = read_run(runs[0].folder)
    assert run.evaluation is not None
    scores = {
        name: {"precision": 80.0, "recall": f1, "f1": f1, "support": 20 if name == "g" else 10}
        for name, f1 in zip("abcdefg", (0.0, 10.0, 20.0, 50.0, 80.0, 90.0, 100.0), strict=True)
    }
    values = {**run.evaluation.to_json(), "images": 80, "scores": scores, "per_class": dict.fromkeys("abcdefg", 50.0)}
    values["rejection"] = None
    values["mirror"] |= {"top1": 80.0, "top1_interval": [70.0, 87.4]}
    values["coverage"] = [{**values["coverage"][0], "confidence": 0.9, "images": 64, "accuracy": 95.0}] * 3
    evaluation = EvaluationResult.model_validate_json(json.dumps(values))
    best = dataclasses.replace(run.config, keep="best")

    def text(**changes) -> str:
        blocks = abilities(Collected([dataclasses.replace(run, evaluation=evaluation, **changes)])).blocks
        return " ".join(re.sub("<[^>]*>", "", content["html"]) for _, content in blocks)

    for phrase in (
        "It tells 7 classes apart: a, b, c, d, e, f, g. It is right on 80.0 % of 80 val images",
        "on 70 to 87 % (95 % confidence). Naming the same class for each would be right on 25.0 %.",
        "Best at: g (100 %), f (90 %), e (80 %). Worst at: a (0 %), b (10 %), c (20 %)",
        "only probabilities of 90 % or more count as answers, 64 of 80 images get one, and 95.0 % of those are right",
    ):
        assert phrase in text()
    assert "gets one of these classes too" in text()
    share = {"images": 76, "of": 80, "accuracy": 95.0, "interval": [87.8, 98.0]}
    refused = "95.0 (87.8–98.0) % of the images of its classes are not refused"
    for unknown, said in (
        (None, "is not measured; run scenelab evaluate"),
        (share, "ized 95.0 (87.8–98.0) % of 80 other"),
    ):
        values["rejection"] = {"threshold": 1.0, "known": share, "unknown": unknown, "auroc": None}
        evaluation = EvaluationResult.model_validate_json(json.dumps(values))
        assert refused in text()
        assert said in text()
    assert "selected the epoch" in text(config=best)
    stamp = {"date": "2026-01-01", "command": "c", "folds": 5, "images": 50, "correct": 40, "epochs": (3,)}
    folds = CrossValidation(**stamp, top1=80.0, top1_interval=(67.0, 88.8))
    assert "right on 80.0 % of 50 training images that each was not trained on (67 to 89 %)" in text(
        cross_validation=folds
    )
    assert "selected the epoch" not in text() + text(config=dataclasses.replace(best, holdout=0.1))
    values["mirror"]["top1"] = 16.0
    evaluation = EvaluationResult.model_validate_json(json.dumps(values))
    assert "chance level" in text()
    assert "Best at" not in text()


def test_an_instructor_gets_a_page_with_runs_and_what_is_missing(runs, copy, tmp_path):
    folders = [str(run.folder) for run in (*runs, copy)]
    shutil.copy(runs[1].best, copy.best)
    assert main.run(["report", *folders, "--for", "instructor", "--out", str(tmp_path / "out")]) == 0
    assert len(PdfReader(tmp_path / "out" / "report.pdf").pages) <= 2
    html = (tmp_path / "out" / "report.html").read_text()
    check_page(html)
    rows = re.findall(r'<tr><th scope="row">(.*?)</tr>', html)
    top1 = f"{read_json(runs[1].results / 'val.json')['mirror']['top1']:.2f} ("
    (row,) = [row for row in rows if row.startswith("seed-1") and "custom" in row]
    assert all(cell in row for cell in ("residual-small", ">1<", top1, "36 val", "cpu", "2 threads"))
    for line in ("comparison of memory, speed and convergence: <code>scenelab study conv", "members of the team"):
        assert line in html
    assert f"evaluation of the current weights of copy: <code>scenelab evaluate {copy.folder}</code>" in html
    assert "current weights of seed" not in html


@pytest.mark.parametrize("reader", ["practitioner", "instructor"])
def test_a_study_has_no_other_reader_and_a_team_file_no_other_section(runs, reader, tmp_path, capsys):
    with pytest.raises(LabError, match=f"--for {reader} needs a run folder"):
        render(Collected([]), reader)
    (tmp_path / "team.toml").write_text('[text]\nconvolution = "x"')
    command = ["report", str(runs[0].folder), "--for", reader, "--team", str(tmp_path / "team.toml"), "--html-only"]
    assert main.run([*command, "--out", str(tmp_path)]) == 1
    assert "[text] has 'convolution'; the sections are" in capsys.readouterr().err


def test_letter_paper():
    pdf = PdfReader(io.BytesIO(to_pdf("<p>text</p>", "Letter")))
    assert (pdf.pages[0].mediabox.width, pdf.pages[0].mediabox.height) == (612, 792)


def test_a_run_without_results_names_the_commands_that_make_them(copy):
    shutil.rmtree(copy.results)
    html = page(copy)
    for command in ("scenelab evaluate", "scenelab explain", "scenelab robustness", "scenelab report RUN --team"):
        assert f"<code>{command}" in html
    assert "the run is not finished" in html
    copy.metrics.write_bytes(b"")
    assert "Missing: training curves" in page(copy)


def test_one_run_cannot_be_compared_and_ten_of_one_name_can(runs, tmp_path):
    folders = [Run(tmp_path / str(number) / "run") for number in range(10)]
    for number, run in enumerate(folders):
        shutil.copytree(runs[number % 2].folder, run.folder)
    assert "scenelab report RUN RUN --compare" in page(folders[0], side_by_side=True)
    html = page(*folders, side_by_side=True)
    assert "9/run − 8/run" in html
    assert "All other settings are those of 0/run." in html


def test_a_paired_difference_by_hand(runs):
    """Of eight images the first alone has three right, the second alone one."""
    paths = [f"{number}.jpg" for number in range(8)]
    guesses = [[(guess, 2) for guess in (0, 0, 0, 0, 0, 1, 1, 1)], [(guess, 0) for guess in (0, 0, 1, 1, 1, 0, 1, 1)]]
    first, second = (
        dataclasses.replace(
            read_run(run.folder), labels=dict.fromkeys(paths, 0), guesses=dict(zip(paths, guess, strict=True))
        )
        for run, guess in zip(runs, guesses, strict=True)
    )
    result = compare(first, second)
    assert (result.images, result.only_first, result.only_second, result.points) == (8, 3, 1, -25)
    assert result.interval == paired_difference(3, 1, 8)[1]
    top5 = compare(first, second, k=5)
    assert (top5.only_first, top5.only_second) == (0, 3)
    with pytest.raises(LabError, match="share no evaluated images"):
        compare(first, dataclasses.replace(second, guesses={"other.jpg": (0,)}))
    with pytest.raises(LabError, match="has no predictions; run: scenelab evaluate"):
        compare(dataclasses.replace(first, guesses={}), second)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "cannot be read"),
        ("color = 1", "color is an unknown key; the file looks like:\ntitle ="),
        ('[[member]]\nname = "Ada"', "member[0].did is missing"),
        ('[member]\nname = "Ada"', "member: got a dict; expected a list"),
        ('[text]\nintro = "x"', "[text] has 'intro'; the sections are"),
        ("[text]\nresults = 3", "text.results: got 3; expected a string"),
        ("title = 3", "title: got 3; expected a string"),
        ("title = 2020-01-01", "cannot be read"),
    ],
)
def test_a_bad_team_file_is_refused(text, message, tmp_path):
    path = tmp_path / "team.toml"
    path.write_text(text)
    with pytest.raises(LabError) as caught:
        read_team(path, KEYS)
    assert message in str(caught.value)


def test_nothing_to_report(tmp_path, capsys):
    assert main.run(["report", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "holds neither a run (config.json) nor a study" in capsys.readouterr().err


def test_results_of_other_weights_are_marked(runs, copy):
    assert "have changed since" not in page(copy)
    shutil.copy(runs[1].best, copy.best)
    html = page(copy)
    for command in ("evaluate", "explain", "robustness"):
        assert re.search(rf"have changed since this was measured; repeat <code>scenelab {command} ", html), command


def test_runs_that_cannot_be_compared_are_named(runs, copy):
    path = copy.results / "val_predictions.csv"
    head, first, *rest = path.read_text().splitlines()
    name, label, tail = first.split(",", 2)
    path.write_text("\n".join([head, f"{name},{(int(label) + 1) % 12},{tail}", *rest]))
    html = page(runs[1], copy, side_by_side=True)
    assert "cannot be compared:" in html
    assert "have different labels" in html


def test_markdown_of_the_team_loads_nothing_and_stays_below_our_headings():
    html = to_html("# Big\n\n## Smaller\n\n![x](http://example.org/x.png) and <img src=x>")
    assert "<h3>Big</h3>" in html
    assert "<h4>Smaller</h4>" in html
    assert "<img" not in html


def test_every_number_has_a_source(runs):
    html = page(*runs)
    for run in runs:
        command = read_json(run.environment)["command"].split()[0]
        assert f"{read_json(run.results / 'val.json')['date'][:10]}: {command}" in html
    assert "trained from scratch on <code>scenes</code> with seed 1" in html
    assert "K. Jordan et al. Muon" in html
    assert "CutMix" not in html


def test_a_mixed_run_is_not_said_to_overfit(copy):
    config = read_json(copy.config)
    config["train"]["augment"]["mixup"] = 0.2
    write_json(copy.config, config)
    assert "mixtures of two images" in page(copy)


def test_the_card_is_yaml_and_markdown(runs):
    _, front, text = make_card(collect([runs[0].folder])).split("---\n", 2)
    about = yaml.safe_load(front)
    (entry,) = about["model-index"]
    top1 = read_json(runs[0].results / "val.json")["mirror"]["top1"]
    metrics = {metric["name"]: metric["value"] for metric in entry["results"][0]["metrics"]}
    assert metrics["Top-1 accuracy"] == pytest.approx(top1 / 100, abs=5e-5)
    assert about["pipeline_tag"] == "image-classification"
    headings = ["Intended use", "Metrics", "Robustness", "Limits", "Provenance"]
    assert re.findall("^## (.*)$", text, re.MULTILINE) == headings


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (Debian: apt install chromium)")
@pytest.mark.parametrize("width", [390, 1200])
def test_in_a_browser_nothing_is_requested_and_the_page_fits(runs, tmp_path, width):
    path = tmp_path / "report.html"
    path.write_text(page(*runs, side_by_side=True))
    with pytest.importorskip("playwright.sync_api").sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 800})
        requests, messages = [], []
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("console", lambda message: messages.append(message.text))
        tab.goto(path.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.images].filter(image => !image.naturalWidth).length") == 0
        browser.close()
    assert [url for url in requests if not url.startswith(("data:", path.as_uri()))] == []
    assert messages == []


def test_nothing_is_fetched(tmp_path):
    """Neither from the network nor from the disk, though the file exists."""
    Image.new("RGB", (2, 2), "red").save(tmp_path / "red.png")
    for source in ((tmp_path / "red.png").as_uri(), "http://127.0.0.1:9/x.png"):
        with pytest.raises(BaseException, match="Error fetching"):
            to_pdf(f'<p>text</p><img src="{source}">', "A4")
