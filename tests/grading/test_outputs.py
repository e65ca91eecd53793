"""What a grade is written as."""

import csv
import io
import json

import pytest

from scenelab.course.grading.discovery import Entry
from scenelab.course.grading.outputs import autolab_line, gradescope, write_class, write_student
from scenelab.course.grading.outputs.page import html_page, markdown_page
from scenelab.course.grading.outputs.tables import class_table, leaderboard, leaderboard_page, ranking
from scenelab.course.grading.results import Grade, Outcome, Result
from scenelab.course.grading.rubric import default_text, parse, read_rubric
from scenelab.errors import LabError

# Gradescope's documentation, "Autograder Specifications", as a schema: field, its types, its values where they are given
STATUS, VISIBLE, FORMATS = (
    {"passed", "failed"},
    {"hidden", "after_due_date", "after_published", "visible"},
    {"text", "html", "simple_format", "md", "ansi"},
)
TOP = {"score": (int, float), "execution_time": (int, float), "output": str, "output_format": FORMATS, "visibility": VISIBLE,
       "stdout_visibility": VISIBLE, "extra_data": dict, "tests": list, "leaderboard": list}  # fmt: skip
TEST = {"score": (int, float), "max_score": (int, float), "status": STATUS, "name": str, "name_format": FORMATS, "number": str,
        "output": str, "output_format": FORMATS, "tags": list, "visibility": VISIBLE, "extra_data": dict}  # fmt: skip
BOARD = {"name": str, "value": (int, float, str), "order": {"asc", "desc"}}


def require_schema(value, schema):
    for name, found in value.items():
        allowed = schema[name]
        assert found in allowed if isinstance(allowed, set) else isinstance(found, allowed), (name, found)


def outcomes(rubric, *, failed=()):
    return [
        Outcome(name, "convolution" if name.startswith("conv") else "attack", f"text of {name}", points,
                "failed" if name in failed else "passed", 0.0 if name in failed else points,
                "<b>wrong</b> [link](http://x)" if name in failed else "", "1.0 2.0\n<script>" if name in failed else "",
                name in rubric.hidden)
        for name, points in rubric.checks.items()
    ]  # fmt: skip


@pytest.fixture
def rubric():
    return parse(default_text().replace("hidden = []", 'hidden = ["conv_stride"]'), "test")


def make(rubric, student="ann", *, failed=("conv_forward", "conv_stride"), late=False, digest="d", **values):
    result = Result("key", digest, "bubblewrap", outcomes=outcomes(rubric, failed=failed), complete=True, **values)
    return Grade(Entry(student, (), "1001", late), result, rubric)


def test_penalties_add_up_and_never_go_below_zero(rubric):
    grade = make(rubric, late=True, violations={"folders": ["a", "b"], "report": ["c"], "sizes": ["d"]}, gpu=["line 3"])
    assert [points for _, points in grade.penalties] == [0.0, 0.75, 0.75, 0.75, 0.75]
    assert grade.earned == 7.0
    assert grade.score == 4.0
    poor = make(rubric, failed=set(rubric.checks) - {"model_own"}, late=True)
    assert poor.earned == 0.25
    assert poor.score == 0.0


def test_gradescope_keeps_to_its_schema(rubric):
    challenge = {"model": "m", "bytes": 1, "images": 10, "top1_error": 50.0, "top5_error": 20.0}
    values = gradescope(make(rubric, challenge=challenge, violations={"folders": ["a"]}))
    require_schema(values, TOP)
    for test in values["tests"]:
        require_schema(test, TEST)
    for entry in values["leaderboard"]:
        require_schema(entry, BOARD)
    assert values["score"] == 7.0
    assert len(values["tests"]) == len(rubric.checks)
    by_name = {test["name"].split(": ")[1]: test for test in values["tests"]}
    assert "wrong" in by_name["conv_forward"]["output"]
    assert by_name["conv_stride"]["visibility"] == "hidden"
    assert "wrong" not in by_name["conv_stride"]["output"]
    json.dumps(values)


def test_autolabs_line(rubric):
    line = json.loads(autolab_line(make(rubric, late=True)))
    assert line["scores"]["convolution"] == 3.0
    assert line["scores"]["penalties"] == -0.75
    assert sum(line["scores"].values()) == pytest.approx(make(rubric, late=True).score)
    assert "\n" not in autolab_line(make(rubric))


def test_pages_escape_and_hide(rubric):
    grade = make(rubric, student="<i>ann</i>", notes=["<img src=x>"], problem="")
    page, text = html_page(grade), markdown_page(grade)
    assert "<script>" not in page
    assert "<img" not in page
    assert "<i>ann" not in page
    assert "&lt;b&gt;wrong" in page
    assert page.count("&lt;b&gt;wrong") == 1, "the hidden check shows no reason"
    assert text.count("wrong") == 1
    assert "[link](" not in text
    assert r"\[link\]" in text
    assert r"\<img src=x\>" in text
    assert "a hidden check" in page
    assert "a hidden check" in text
    assert "      1.0 2.0" in text.splitlines()


def test_the_class_table_is_no_formula(rubric):
    grades = [make(rubric, "=cmd()"), make(rubric, "bob", late=True, problem="+x", review=["line 1: eval"])]
    rows = list(csv.DictReader(io.StringIO(class_table(grades))))
    assert [row["student"] for row in rows] == ["'=cmd()", "bob"]
    assert rows[1]["late"] == "late"
    assert float(rows[1]["penalties"]) == -0.75
    assert rows[1]["problem"] == "'+x"
    assert rows[1]["Writeup: attention maps (0.5)"] == ""
    assert float(rows[0]["conv_forward"]) == 0.0


def test_the_leaderboard_ranks_teams_once(rubric):
    def judged(name, top5, digest, top1=50.0):
        return make(
            rubric,
            name,
            digest=digest,
            challenge={"model": "m", "bytes": 10, "images": 4, "top1_error": top1, "top5_error": top5},
        )

    grades = [judged("a", 30.0, "1"), judged("b", 20.0, "2"), judged("c", 20.0, "2"), judged("d", 20.0, "3"), make(rubric, "e", digest="4"),
              judged("f", 20.0, "5", top1=40.0)]  # fmt: skip
    grades[1].mates = ["c"]
    assert [(rank, grade.entry.student) for rank, grade in ranking(grades)] == [(1, "f"), (2, "b"), (2, "d"), (4, "a")]
    assert "b c" in leaderboard(grades)
    assert "b c" in leaderboard_page(grades)


def test_everything_is_written(tmp_path, rubric):
    grade = make(rubric)
    write_student(tmp_path, grade)
    write_class(tmp_path, [grade])
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"grade.md", "grade.html", "gradescope.json", "autolab.json", "grades.csv"}


def test_the_default_rubric_is_the_handouts():
    rubric = read_rubric()
    assert rubric.points == 15
    assert rubric.automatic == 8
    assert sum(part.points for part in rubric.manual if part.bonus) == 4


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("points = 15.0", "points = 16.0", "add up to 15 points, but points is 16"), ("conv_forward = 0.75", "conv_fwd = 0.75", "there is no check 'conv_fwd'"),
        ("conv_forward = 0.75", "conv_forward = -1", "checks.conv_forward is -1: input should be greater than or equal to 0"), ("hidden = []", 'hidden = ["x"]', "visibility.hidden lists 'x'"),
        ("late_percent = 5.0", "late_percent = 500", "penalties.late_percent is 500: input should be less"), ("late_percent", "lateness", "unknown key .penalties.lateness"),
        ("seconds = 20.0", "seconds = -1", "limits.seconds is -1"), ("[penalties]", "[penalty]", "unknown key .penalty."), ("[checks]", "[checks", "is not TOML"),
    ],
)  # fmt: skip
def test_a_rubric_that_makes_no_sense_is_refused(tmp_path, old, new, says):
    path = tmp_path / "rubric.toml"
    path.write_text(default_text().replace(old, new, 1))
    with pytest.raises(LabError, match=says):
        read_rubric(path)
