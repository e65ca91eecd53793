"""Outputs of a grade, and its rubric."""

import csv
import io
import json

import pytest

from scenelab.course.grading.discovery import Entry
from scenelab.course.grading.outputs import autolab_line, gradescope, write_class, write_student
from scenelab.course.grading.outputs.exports import class_table, leaderboard, leaderboard_page, ranking
from scenelab.course.grading.outputs.gradescope import Results
from scenelab.course.grading.outputs.page import render_page, tell_once
from scenelab.course.grading.results import Grade, Outcome, Result
from scenelab.course.grading.rubric import default_text, parse, read_rubric
from scenelab.course.years import year_of
from scenelab.errors import LabError
from scenelab.schema import parse as parse_values


def outcome(rubric, name, points, is_failed):
    group = "convolution" if name.startswith("conv") else "attack"
    common = {
        "name": name,
        "group": group,
        "text": f"text of {name}",
        "points": points,
        "hidden": name in rubric.hidden,
    }
    if not is_failed:
        return Outcome(**common, status="passed", earned=points)
    return Outcome(**common, status="failed", reason="<b>wrong</b> [link](http://x)", example="1.0 2.0\n<script>")


@pytest.fixture
def rubric():
    return parse(default_text().replace("hidden = []", 'hidden = ["conv_stride"]'), "test")


CAUSES = {"a": "wrong 1", "b": "wrong 2", "c": "other"}


def make(rubric, student="ann", *, failed=("conv_forward", "conv_stride"), late=False, digest="d", **values):
    outcomes = [outcome(rubric, name, points, name in failed) for name, points in rubric.checks.items()]
    result = Result("key", digest, "bubblewrap", outcomes=outcomes, complete=True, **values)
    return Grade(Entry(student, (), "1001", late), result, rubric)


def judged(top5, top1=50.0):
    return {"model": "m", "bytes": 10, "images": 4, "top1_error": top1, "top5_error": top5}


def test_penalties_add_up_and_never_go_below_zero(rubric):
    grade = make(rubric, late=True, violations={"folders": ["a", "b"], "report": ["c"], "sizes": ["d"]}, gpu=["line 3"])
    assert [points for _, points in grade.penalties] == [0.0, 0.75, 0.75, 0.75, 0.75]
    assert (grade.earned, grade.score) == (7.0, 4.0)
    poor = make(rubric, failed=set(rubric.checks) - {"model_own"}, late=True)
    assert (poor.earned, poor.score) == (0.25, 0.0)


def test_gradescope_keeps_to_its_schema(rubric):
    values = gradescope(make(rubric, challenge=judged(20.0), violations={"folders": ["a"]}))
    assert parse_values(Results, values)
    assert values["leaderboard"][0] == {"name": "top-5 error %", "value": 20.0, "order": "asc"}
    assert values["score"] == 7.0
    assert len(values["tests"]) == len(rubric.checks)
    by_name = {test["name"].split(": ")[1]: test for test in values["tests"]}
    assert "wrong" in by_name["conv_forward"]["output"]
    assert by_name["conv_stride"]["visibility"] == "hidden"
    assert "wrong" not in by_name["conv_stride"]["output"]
    json.dumps(values)


def test_autolabs_line_adds_up_to_the_score(rubric):
    grade = make(rubric, late=True)
    scores = json.loads(autolab_line(grade))["scores"]
    assert (scores["convolution"], scores["penalties"]) == (3.0, -0.75)
    assert sum(scores.values()) == pytest.approx(grade.score)
    assert "\n" not in autolab_line(grade)


def test_pages_escape_and_hide(rubric):
    grade = make(rubric, student="<i>ann</i>", notes=["<img src=x>"])
    page, text = render_page("grade.html", grade), render_page("grade.md", grade)
    assert not any(tag in page for tag in ("<script>", "<img", "<i>ann"))
    assert page.count("&lt;b&gt;wrong") == text.count("wrong") == 1, "the hidden check shows no reason"
    assert "[link](" not in text
    assert all(escaped in text for escaped in (r"\[link\]", r"\<img src=x\>"))
    assert all("a hidden check" in each for each in (page, text))
    assert "      1.0 2.0" in text.splitlines()


@pytest.mark.parametrize(("mates", "is_named"), [(["bob", "cyd"], True), (["bob", "cyd", "dan"], False)])
def test_a_page_names_a_team_but_not_everybody_who_submitted_the_bare_kit(rubric, mates, is_named):
    grade = make(rubric)
    grade.mates = mates
    assert all(("bob" in render_page(name, grade)) is is_named for name in ("grade.html", "grade.md"))


def test_a_page_has_the_sum_once_people_have_given_all_points(rubric):
    grade = make(rubric, late=True)
    grade.manual = {part.name: part.points for part in rubric.manual if not part.bonus}
    assert "all together\n13.25 of 15" in render_page("grade.html", grade)
    assert "**All together 13.25 of 15 points.**" in render_page("grade.md", grade)
    grade.manual.popitem()
    assert all("ll together" not in render_page(name, grade) for name in ("grade.html", "grade.md"))


def test_a_cause_is_told_once_with_the_checks_that_it_fails():
    checks = [Outcome(name, "attack", "", 1.0, "failed", 0.0, reason, "1 2") for name, reason in CAUSES.items()]
    hidden = Outcome("d", "attack", "", 1.0, "failed", 0.0, "wrong 1", hidden=True)
    shown = tell_once([*checks, hidden, Outcome("e", "attack", "", 1.0, "passed")])
    assert shown["a"] == ("wrong 1 (the same in b)", "1 2")
    assert [shown[name] for name in "bcde"] == [("see a", ""), ("other", "1 2"), ("a hidden check", ""), ("", "")]


@pytest.mark.parametrize("basic", ["passed", "failed"])
def test_a_common_mistake_is_named(basic):
    """A convolution that is wrong altogether has no mistake with bias=None."""
    bias = Outcome("conv_no_bias", "convolution", "", 0.5, "failed", 0.0, "your code raised AttributeError")
    first = Outcome("conv_forward", "convolution", "", 0.5, basic, 0.0, "" if basic == "passed" else "wrong")
    sign = Outcome("attack_descends", "attack", "", 0.5, "failed", 0.0, "the step has the wrong sign")
    shown = tell_once([first, bias, sign])
    assert shown["attack_descends"][0].startswith("the step has the wrong sign. Known mistake: the step has the wrong")
    assert ("Known mistake: bias=None. " in shown["conv_no_bias"][0]) is (basic == "passed")


def test_rubrics_of_later_handouts_have_their_parts(rubric):
    later, latest = read_rubric(year=2022), read_rubric(year=2024)
    assert (later.points, later.automatic, latest.points, latest.automatic) == (15, 8, 13, 6.5)
    assert not [name for name in latest.checks if name.startswith("attention")]
    assert "vit_trains" in latest.checks
    grades = [make(read_rubric(), "ann"), make(latest, "bob")]
    first, second = csv.DictReader(io.StringIO(class_table(grades)))
    assert (first["attention_map"], second["attention_map"], second["vit_trains"]) == ("0.5", "", "0.0")


@pytest.mark.parametrize(
    ("names", "year"),
    [
        ("default_model PGDAttack GradAttention", 2019),
        ("default_cnn_model PGDAttack default_attention", 2022),
        ("default_cnn_model default_vit_model PGDAttack", 2024),
        ("default_cnn_model CustomConv2d", 2022),
        ("default_model PGDAttack", 2019),
        ("default_model PGDAttack get_train_transforms", 2019),
        ("default_model default_cnn_model default_vit_model PGDAttack GradAttention", 2022),
        ("get_train_transforms PGDAttack", 2024),
    ],
)
def test_the_year_is_told_from_the_names(names, year):
    assert year_of(names.split()) == year


def test_the_class_table_has_no_formulas(rubric):
    grades = [make(rubric, "=cmd()"), make(rubric, "bob", late=True, problem="+x", review=["line 1: eval"])]
    first, second = csv.DictReader(io.StringIO(class_table(grades)))
    assert [row["student"] for row in (first, second)] == ["'=cmd()", "bob"]
    assert (second["late"], float(second["penalties"]), second["problem"]) == ("late", -0.75, "'+x")
    assert second["Writeup: attention maps (0.5)"] == ""
    assert float(first["conv_forward"]) == 0.0


def test_the_leaderboard_ranks_teams_once(rubric):
    models = {"a": (30.0, "1"), "b": (20.0, "2"), "c": (20.0, "2"), "d": (20.0, "3")}
    grades = [make(rubric, name, digest=digest, challenge=judged(error)) for name, (error, digest) in models.items()]
    grades += [make(rubric, "e", digest="4"), make(rubric, "f", digest="5", challenge=judged(20.0, top1=40.0))]
    grades[1].mates = ["c"]
    assert [(rank, grade.entry.student) for rank, grade in ranking(grades)] == [(1, "f"), (2, "b"), (2, "d"), (4, "a")]
    assert "b c" in leaderboard(grades)
    assert "b c" in leaderboard_page(grades)


def test_all_files_are_written(tmp_path, rubric):
    grade = make(rubric)
    write_student(tmp_path, grade)
    write_class(tmp_path, [grade])
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"grade.md", "grade.html", "gradescope.json", "autolab.json", "grades.csv"}


def test_the_default_rubric_is_the_handouts():
    rubric = read_rubric()
    assert (rubric.points, rubric.automatic) == (15, 8)
    assert sum(part.points for part in rubric.manual if part.bonus) == 4


INVALID = """
points = 15.0 | points = 16.0 | add up to 15 points, but points is 16
conv_forward = 0.75 | conv_fwd = 0.75 | there is no check 'conv_fwd'
conv_forward = 0.75 | conv_forward = -1 | checks.conv_forward: got -1; expected at least 0
hidden = [] | hidden = ["x"] | visibility.hidden lists 'x'
late_percent = 5.0 | late_percent = 500 | penalties.late_percent: got 500; expected at most 100
late_percent | lateness | penalties.lateness is an unknown key
seconds = 20.0 | seconds = -1 | limits.seconds is -1
[penalties] | [penalty] | penalty is an unknown key
[checks] | [checks | is not TOML
"Bonus: adversarial training" | "Writeup: Attention Maps" | two manual parts are called 'writeup: attention maps'
"""


@pytest.mark.parametrize("line", INVALID.strip().splitlines())
def test_an_invalid_rubric_is_an_error(tmp_path, line):
    old, new, message = line.split(" | ")
    path = tmp_path / "rubric.toml"
    path.write_text(default_text().replace(old, new, 1))
    with pytest.raises(LabError) as error:
        read_rubric(path)
    assert message in str(error.value)


def test_a_rubric_may_have_a_byte_order_mark(tmp_path):
    path = tmp_path / "rubric.toml"
    path.write_text(default_text(), "utf-8-sig")
    assert read_rubric(path).points == 15
