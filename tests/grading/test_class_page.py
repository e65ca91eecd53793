"""The class at a glance, what changed since the last grading, and the command that writes both."""

import csv
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from generated_class import make_class
from mutants import write_as_zip
from scenelab.cli import main
from scenelab.course.grading.gradebook import Gradebook
from scenelab.course.grading.history import Grading
from scenelab.course.grading.outputs.overview import class_page, group_texts
from scenelab.course.grading.tables import Table
from scenelab.course.grading.watch import arrivals
from scenelab.runs.lock import lock_run

CONTEXT = {"rubric": "a", "hidden": "", "seed": "1", "scenelab": "0.1", "torch": "2.9", "sandbox": "bubblewrap"}
VOID = {"meta", "rect", "br"}
OUTPUTS = {"class.html", "feedback.zip", "grades.csv", "grading.json", "seed", "students"}
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


class Outline(HTMLParser):
    """Checks that every element is closed, and keeps the text inside and outside of closed details."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.shown, self.folded, self.links = "", "", []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "details" in self.open and "summary" not in self.open:
            self.folded += data
        elif not {"style", "summary"} & set(self.open):
            self.shown += f" {data} "


def page_of(grades, **options) -> str:
    grading = Grading.of(grades, {**CONTEXT, "rubric": "b"}, Grading.of(grades[5:], CONTEXT, None))
    values = {
        "anonymous": False,
        "gradebook": None,
        "grading": grading,
        "notes": ["similarity, for people: x"],
        **options,
    }
    return class_page(grades, **values)


def test_students_are_named_only_on_a_click():
    grades = make_class()
    outline = Outline(page_of(grades))
    names = [grade.entry.student for grade in grades]
    assert [name for name in names if name in outline.shown] == []
    assert [name for name in names if name not in outline.folded] == [
        name for name in names if name not in page_of(grades)
    ]
    assert all(link.startswith(("students/", "similarity/")) for link in outline.links), "self-contained"


def test_no_student_is_named_on_the_projector():
    grades = make_class()
    grades[0].result.outcomes[0].status = "failed"
    grades[0].result.outcomes[
        0
    ].reason = f"no file /home/secret/{grades[0].entry.student}.npy of {grades[1].entry.student}"
    table = Table(None, ["Student", "ID", "Section"], [["Doe, Jane", "1", ""]], ",", "\n", "")  # type: ignore[arg-type]
    book = Gradebook(table, 2, [0], unmatched=[grades[2].entry.student], missing=["Doe, Jane (1)"], notes=["Doe, Jane"])
    page = page_of(grades, anonymous=True, gradebook=book, notes=[grades[3].entry.student, "similarity, for people: x"])
    assert [grade.entry.student for grade in grades if grade.entry.student in page] == []
    assert not any(word in page for word in ("secret", "Doe", "href", "similarity/"))
    assert "no file /home/…/….npy of …" in page
    assert all(word in page_of(grades, gradebook=book) for word in ("secret", "Doe, Jane (1)", grades[2].entry.student))


def test_names_of_files_and_hidden_checks_do_not_reach_the_projector():
    grades = make_class(8)
    grades[0].entry = replace(grades[0].entry, student="Josè-Doe")
    texts = ["josè doe_LATE_1000_50_hw.zip could not be read", "Jose\u0300 Doe/x.rar is no archive", "Josè_Doe is here"]
    for grade, text in zip(grades, texts, strict=False):
        grade.result = replace(grade.result, problem=text)
    failed = grades[5].result.outcomes[0]
    failed.status, failed.hidden, failed.reason = "failed", True, "the secret case"
    page = page_of(grades, anonymous=True)
    assert all(text in page for text in ("…_hw.zip could not be read", "…/x.rar is no archive", "… is here"))
    assert not any(word in page.casefold() for word in ("josè", "jose\u0300", "1000_", "the secret case"))
    assert "a hidden check" in page
    assert "the secret case" in page_of(grades)


def test_the_numbers_on_the_page_are_those_of_the_class():
    grades = make_class()
    page = page_of(grades)
    text = " ".join(Outline(page).shown.split())
    assert f"100 submissions; {sum(bool(each.result.problem) for each in grades)} could not be run" in text
    late = sum(each.entry.late for each in grades)
    assert f"{late} submitted late {late * 0.75:g} points" in text
    bars = re.findall(r"tenth of the points: ([\d, ]+)", page)
    assert len(bars) == 5
    assert all(sum(map(int, each.split(", "))) == 100 for each in bars)
    assert int(bars[0].split(", ")[-1]) == sum(each.score >= 7.2 for each in grades)
    for name in grades[0].rubric.checks:
        states = [next(each.status for each in grade.result.outcomes if each.name == name) for grade in grades]
        assert f"{name} {states.count('failed')} failed, {states.count('not run')} not run" in text


def test_messages_that_differ_in_numbers_and_places_are_one():
    first, second, third = make_class(3)
    texts = [
        "off by 0.25 (student_code.py, line 3: x = f(2))",
        "off by 1e-3 (a.py, line 12)",
        "skipped, because a did not pass: 1",
    ]
    items = [(text, grade, 0.5) for text, grade in zip(texts, (first, second, third), strict=True)]
    groups = group_texts([*items, (texts[0], first, 0.5)])
    assert [(each.text, len(each.grades), each.points) for each in groups] == [
        ("off by …", 2, 1.5),
        ("skipped, because a did not pass", 1, 0.5),
    ]


def test_a_page_escapes_what_students_write():
    grades = make_class(4)
    grades[0].result.outcomes[0].status, grades[0].result.outcomes[0].reason = "failed", "<script>alert(1)</script>"
    page = page_of(grades)
    assert "&lt;script&gt;" in page
    assert "<script" not in page


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_the_page_fits_a_phone_a_desktop_and_paper(tmp_path):
    from playwright.sync_api import sync_playwright

    (tmp_path / "class.html").write_text(page_of(make_class()))
    with sync_playwright() as play:
        page = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"]).new_page()
        for width in (360, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            page.goto((tmp_path / "class.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.locator("svg[role=img]").count() == 5
            page.locator("details").first.locator("summary").click()
            assert page.locator("a").first.is_visible()
        page.emulate_media(media="print")
        assert page.locator("summary").evaluate_all("all => all.every(each => !each.checkVisibility())"), "no names"


def test_changes_say_what_and_why():
    before, after = make_class(6), make_class(6)
    first = Grading.of(before, CONTEXT, None)
    assert Grading.of(after, CONTEXT, first) is first
    names = [grade.entry.student for grade in after]
    after[0].result.digest = "other"
    after[0].result.outcomes[2].earned = 0.125
    after[1].manual = {"Writeup: attention maps": 0.5}
    object.__setattr__(after[2].entry, "late", not after[2].entry.late)
    second = Grading.of(after[:5], {**CONTEXT, "torch": "2.10"}, first)
    assert second.causes == ["torch 2.9 is now 2.10"]
    changes = {each[0]: each for each in second.changes}
    earned = f"{before[0].result.outcomes[2].earned:g}"
    assert changes[names[0]][3] == "submitted other files; torch 2.9 is now 2.10"
    assert changes[names[0]][4] == f"{after[0].result.outcomes[2].name} {earned} → 0.125"
    assert changes[names[1]][3].startswith("people gave other points")
    assert "late" in changes[names[2]][3]
    assert changes[names[5]][2:4] == ["–", "the submission is no longer there"]
    assert set(changes) == {names[0], names[1], names[2], names[5]}
    assert Grading.model_validate_json(json.dumps(second.to_json())) == second
    assert Grading.of(after, CONTEXT, first).changes[0][3] == "submitted other files"


def submit(folder, name, text="def broken(:\n"):
    write_as_zip(folder / name, {"code/student_code.py": text.encode()}, folder.parent / f"files-{name}")


def test_a_second_grading_of_a_class_tells_the_difference(tmp_path, capsys):
    folder, out, book = tmp_path / "in", tmp_path / "out", tmp_path / "book.csv"
    folder.mkdir()
    for name in ("ann_1_11_hw.zip", "bob_LATE_2_12_hw.zip"):
        submit(folder, name)
    book.write_text('Student,ID,Section,HW (3)\nPoints Possible,,,8\n"A, Ann",1,,\n"B, Bob",2,,\n"C, Cy",3,,\n')
    command = ["grade", str(folder), "--out", str(out), "--gradebook", str(book)]
    assert main.run(command) == 0
    text = capsys.readouterr().out
    assert "1 people handed in nothing: C, Cy (3)" in text
    assert (out / "filled-book.csv").read_text().splitlines()[2:] == ['"A, Ann",1,,0', '"B, Bob",2,,0', '"C, Cy",3,,']
    assert "differ from" not in text
    first = (out / "class.html").read_bytes()
    assert main.run(command) == 0
    assert (out / "class.html").read_bytes() == first, "the same submissions give the same bytes"
    submit(folder, "ann_1_11_hw.zip", "def broken(:\n# again\n")
    submit(folder, "cy_3_13_hw.zip")
    capsys.readouterr()
    assert main.run([*command, "--anonymous"]) == 0
    assert "2 submissions differ from the grading before" in capsys.readouterr().out
    stored = Grading.read(out / "grading.json")
    assert [(each[0], each[3]) for each in stored.changes] == [
        ("ann", "submitted other files"),
        ("cy", "submitted for the first time"),
    ]
    assert "ann" not in re.findall(r"\w+", (out / "class.html").read_text())


def test_points_given_by_people_are_not_overwritten(tmp_path, capsys):
    folder, out, points = tmp_path / "in", tmp_path / "out", tmp_path / "points.csv"
    folder.mkdir()
    submit(folder, "ann_1_11_hw.zip")
    command = ["grade", str(folder), "--out", str(out)]
    assert main.run(command) == 0
    header, row = csv.reader((out / "grades.csv").read_text().splitlines())
    row[header.index("Writeup: attention maps (0.5)")] = "0.5"
    with (out / "grades.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, row])
    before = (out / "grades.csv").read_bytes()
    for flags in ([], ["--manual", str(out / "grades.csv")]):
        assert main.run([*command, *flags]) == 1
        assert "has points given by people and is written anew; move it" in capsys.readouterr().err
        assert (out / "grades.csv").read_bytes() == before
    (out / "grades.csv").rename(points)
    for _ in range(2):
        assert main.run([*command, "--manual", str(points)]) == 0
    header, row = csv.reader((out / "grades.csv").read_text().splitlines())
    column = header.index("Writeup: attention maps (0.5)")
    assert row[column] == "0.5"
    row[column] = "0.25"  # a later mark
    with (out / "grades.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, row])
    assert main.run([*command, "--manual", str(points)]) == 1
    assert (
        "has points given by people that --manual lacks, first Writeup: attention maps (0.5) of "
        in capsys.readouterr().err
    )
    assert ",0.25," in (out / "grades-before.csv").read_text()
    points.write_bytes((out / "grades-before.csv").read_bytes())
    assert main.run([*command, "--manual", str(points)]) == 0
    assert not (out / "grades-before.csv").exists()


def test_two_gradings_do_not_write_to_one_folder(tmp_path, capsys):
    """The second one removed the submissions that the first was running; those got no points."""
    (tmp_path / "in").mkdir()
    submit(tmp_path / "in", "ann_1_11_hw.zip")
    work = tmp_path / "out" / ".work" / "stage-1"
    work.mkdir(parents=True)
    command = ["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    with lock_run(tmp_path / "out"):
        assert main.run(command) == 1
    assert "is being written by process" in capsys.readouterr().err
    assert work.exists()
    assert main.run(command) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == OUTPUTS


FLAGS = ["--watch --json", "--gradebook /no.csv", "--manual /no.csv"]


@pytest.mark.parametrize("flags", FLAGS)
def test_an_error_in_a_table_is_told_before_grading(tmp_path, capsys, flags):
    submit_folder = tmp_path / "in"
    submit_folder.mkdir()
    submit(submit_folder, "ann_1_11_hw.zip")
    assert main.run(["grade", str(submit_folder), "--out", str(tmp_path / "out"), *flags.split()]) == 1
    assert not (tmp_path / "out" / "students").exists()
    assert re.search(r"--watch takes|/no.csv does not exist", capsys.readouterr().err)


def test_watching_waits_until_a_file_is_whole(tmp_path, monkeypatch):
    folder, out, steps = tmp_path / "in", tmp_path / "in" / "grades", []
    out.mkdir(parents=True)
    (out / "grades.csv").write_text("x")
    (folder / ".hidden").write_text("x")

    def sleep(seconds: float) -> None:
        steps.append(len(steps))
        if len(steps) in (2, 3):
            (folder / "ann.zip").write_text("x" * len(steps))
        if len(steps) == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr("scenelab.course.grading.watch.time.sleep", sleep)
    seen = []
    with pytest.raises(KeyboardInterrupt):
        for _ in arrivals(folder, out.resolve()):
            seen.append(len(steps))
    assert seen == [4], "once, when the size has stayed the same"


def test_watching_outlives_a_file_that_is_gone_again(tmp_path, monkeypatch):
    (tmp_path / "ann.zip").write_text("x")
    steps = iter([["part.zip", "ann.zip"], ["ann.zip"], ["ann.zip"]])
    monkeypatch.setattr("scenelab.course.grading.watch.files_below", lambda *_, **__: next(steps))
    monkeypatch.setattr(Path, "exists", lambda path: True)  # when asked, but no longer
    next(arrivals(tmp_path, tmp_path / "out", seconds=0))


def test_watch_grades_what_arrives(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    submit(folder, "ann_1_11_hw.zip")

    def arrive(*places):
        yield
        submit(folder, "bob_2_12_hw.zip")
        yield
        raise KeyboardInterrupt

    monkeypatch.setattr("scenelab.course.grading.watch.arrivals", arrive)
    assert main.run(["grade", "--watch", str(folder), "--out", str(tmp_path / "out")]) == 130
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if " of 8" in line] == ["ann", "bob"]
    assert "1 submissions differ from the grading before" in lines
