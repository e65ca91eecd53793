"""check.py of the kit gives the grader's verdicts, names the mistakes, and holds no answer."""

import ast
import json
import os
import re
import subprocess
import sys
from itertools import combinations, product
from pathlib import Path

import pytest
import torch

from mutants import (
    ATTACK_END,
    ATTENTION_END,
    CLIP,
    MUTANTS,
    PREDICTED,
    RETURN,
    inner_names,
    mutant,
    mutate,
    part,
    solution,
    write,
)
from scenelab.cli import main
from scenelab.course.grading.batch import Batch
from scenelab.course.grading.checks import CHECKS
from scenelab.course.grading.rubric import read_rubric
from scenelab.course.grading.sandbox import best
from scenelab.course.kit import files, make_kit
from scenelab.course.kit.make import check_files
from scenelab.course.kit.strip_solutions import YEARS
from styles import GPU, HONEST

PROGRAM = Path(__file__).parents[1] / "programs" / "check_submissions.py"
STARTER = (PROGRAM.parent / "original_starter.txt").read_bytes()
CODE = "code/student_code.py"
PART = {"conv": "convolution", "attack": "attack", "attention": "attention", "model": "network"}
ALL = ",".join(PART.values())
SLOPE = "                (gradient,) = torch.autograd.grad(loss, output)\n"
GRADIENT_MARK = "            output.requires_grad_(True)\n"
KERNEL = "        kernel = weight.shape[-1]\n"
RETURN_SIZE = "unflatten(2, (height, width)).clone()"
NOW = "            output.requires_grad_(True)\n            target = model(output.detach()).argmin(dim=1)\n"
SUMMED = "                total = gradient = gradient + total if _ else gradient\n"
KNOWN = {  # by the name of the mistake, beside the wrong answers of mutants.py; none of them need lose a point
    "the label is picked anew": mutant("", (GRADIENT_MARK, NOW)),
    "clipped only at the end": mutant("", (ATTACK_END, CLIP.replace("            ", "        ") + "        return output\n")),
    "Gradients accumulate: each step": mutant("", (SLOPE, SLOPE + SUMMED)),
    "gradients accumulate. backward() adds": mutant("", (SLOPE, "                loss.backward()\n                gradient = output.grad\n")),
    ".cuda() without a question": mutant("", (KERNEL, "        weight = weight.cuda()\n" + KERNEL)),
    "clipped to [0, 1] in the normalized space": mutant("", (CLIP, "            output = output.clamp(0, 1)\n")),
    "an image that is not square": mutant("", (RETURN_SIZE, "unflatten(2, (int(windows.shape[2] ** 0.5),) * 2).clone()")),
    "a maximum or minimum over the batch": mutant("", (ATTENTION_END, ATTENTION_END.replace("dim=1, keepdim=True", "dim=0"))),
    "a maximum or minimum over the batch. ": mutant("", (PREDICTED, PREDICTED.replace("dim=1", ""))),
    "no longer require gradients": mutant("", (ATTACK_END, CLIP + "        model.requires_grad_(False)\n        return output\n")),
}  # fmt: skip
NAMED = {  # by the name of a wrong answer of mutants.py
    "no bias forward": "bias=None",
    "no bias backward": "bias=None",
    "bias's gradient unassigned where it is not needed": "bias=None",
    "view returned": "a view in front of an in-place ReLU",
    "view returned without a bias": "a view in front of an in-place ReLU",
    "height and width exchanged": "an image that is not square",
    "weight's gradient a mean": "the weight's gradient is not summed over the batch",
    "weight's gradient of one image": "the weight's gradient is not summed over the batch",
    "always float32": "float64 out of float32 in",
    "wrong sign": "the step has the wrong sign",
    "the batch's label": "a maximum or minimum over the batch",
    "maximum of the scores over the batch": "a maximum or minimum over the batch",
    "cross-entropy whatever is given": "a loss of one's own",
    "left in train mode": "the model is left in another state",
    "graph kept": "the graph grows from step to step",
}
NOT_NAMED = {  # where it looks alike
    "three dimensions": "a maximum or minimum over the batch",
    "weight's gradient not reshaped": "the weight's gradient is not summed over the batch",
    "most confident label": "the step has the wrong sign",
    "map with a graph": "the graph grows",
    "images come back as they were": "a loss of one's own",
}


def run_program(folder, submissions, parts):
    """Results of the checks on submissions (files by path) by name; `parts` holds those to check."""
    write(folder, {name: text.encode() for name, text in check_files().items()})
    for name, handed in submissions.items():
        write(folder / name, handed)
    arguments = [f"{name}={parts.get(name, ALL)}" for name in submissions]
    done = subprocess.run([sys.executable, str(PROGRAM), str(folder), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lost(result):
    return {name for name, (status, _, _) in result["verdicts"].items() if status != "passed"}


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    names = {change.name: f"m{number}" for number, change in enumerate(MUTANTS)}
    parts = {names[change.name]: PART.get(part(change), ALL) for change in MUTANTS}
    submissions = {names[change.name]: mutate(change) for change in MUTANTS}
    results = run_program(tmp_path_factory.mktemp("checked"), submissions, parts)
    return {change.name: results[names[change.name]] for change in MUTANTS}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("change", MUTANTS, ids=lambda change: change.name)
def test_a_wrong_answer_gets_the_graders_verdicts_and_its_name(checked, change):
    result = checked[change.name]
    assert lost(result) == set(change.loses)
    shares = {name: share for name, (_, share, _) in result["verdicts"].items() if name in change.loses and share}
    assert shares == dict(change.earned)
    assert change.says in result["printed"]
    for name in ("bias=None", "an image that is not square"):  # not where every convolution is wrong
        assert (f"Known mistake: {name}" in result["printed"]) is (NAMED.get(change.name) == name)
    assert f"Known mistake: {NOT_NAMED.get(change.name, '-')}" not in result["printed"]
    assert not inner_names().search(result["printed"])
    assert f"Known mistake: {NAMED.get(change.name, '')}" in result["printed"] or change.name not in NAMED


CONDITIONS = (
    ("bias is None", "bias is not None"),
    ("stride == 1", "stride == 2"),
    ("height == width", "height != width"),
    ("weight.dtype == torch.float32", "weight.dtype == torch.float64"),
)
VIEW = """        output = output.unflatten(2, (height, width))
        return output if {} and {} else output.clone()
"""


@pytest.mark.slow
def test_a_view_that_is_returned_only_under_two_conditions_fails(tmp_path):
    pairs = [each for two in combinations(CONDITIONS, 2) for each in product(*two)]
    submissions = {f"v{number}": mutate(mutant("", (RETURN, VIEW.format(*pair)))) for number, pair in enumerate(pairs)}
    results = run_program(tmp_path, submissions, dict.fromkeys(submissions, "convolution"))
    passed = [
        pair for pair, result in zip(pairs, results.values(), strict=True) if "conv_inplace_relu" not in lost(result)
    ]
    assert passed == []


@pytest.fixture(scope="module")
def styles(tmp_path_factory):
    submissions = {
        f"s{number}": handed
        for number, handed in enumerate([*HONEST.values(), *GPU.values()])
        if handed.get(CODE, STARTER) != STARTER  # check.py looks at no other file
    }
    return run_program(tmp_path_factory.mktemp("styles"), submissions, {})


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_honest_styles_pass(styles):
    assert len(styles) > 20
    assert {name: lost(result) for name, result in styles.items() if lost(result)} == {}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    submissions = {f"k{number}": mutate(change) for number, change in enumerate(KNOWN.values())}
    results = run_program(tmp_path_factory.mktemp("known"), submissions, {})
    return dict(zip(KNOWN, results.values(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_a_common_mistake_is_named(known, name):
    assert name in known[name]["printed"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    submissions = {f"solution-{year}": solution(year) for year in YEARS} | {"original": {CODE: STARTER}}
    for year in YEARS:
        submissions[f"kit-{year}"] = {CODE: files(year)[CODE].encode()}
    return run_program(tmp_path_factory.mktemp("whole"), submissions, {"original": "convolution,attack,attention"})


@pytest.mark.parametrize("year", YEARS)
def test_the_solution_passes_and_no_mistake_is_named(whole, year):
    assert lost(whole[f"solution-{year}"]) == set()
    assert set(whole[f"solution-{year}"]["verdicts"]) == set(read_rubric(year=year).checks)
    printed = whole[f"solution-{year}"]["printed"]
    assert ("Known mistake" in printed, printed.count("note")) == (False, 1)  # the number of parameters


@pytest.mark.parametrize("name", [*(f"kit-{year}" for year in YEARS), "original"])
def test_each_part_that_is_not_filled_in_is_told_once(whole, name):
    printed = whole[name]["printed"]
    count = {"original": 3, "kit-2019": 4, "kit-2022": 5}[name]
    assert printed.count("Not filled in yet:") == printed.count(" Next: ") == count
    assert not re.search("Error|FAIL|  ok ", printed), printed


UNFILLED = {
    "kit": 'raise NotImplementedError("backward is yours to write")',
    "starter": "return grad_input, grad_weight",
    "nones": "grad_input = grad_weight = None; return grad_input, grad_weight, None, None, None",
    "pass": "pass",
}


def test_a_convolution_without_backward_says_so_once(tmp_path):
    text = solution()[CODE].decode()
    begin, end = text.index("        windows, weight = ctx.saved"), text.index("\n\ncustom_conv2d = ")
    handed = {name: {CODE: f"{text[:begin]}        {body}\n{text[end:]}".encode()} for name, body in UNFILLED.items()}
    for result in run_program(tmp_path, handed, dict.fromkeys(handed, "convolution")).values():
        assert result["printed"].count("Not filled in yet: CustomConv2DFunction.backward") == 1
        assert "FAIL" not in result["printed"]
        assert result["verdicts"]["conv_forward"][0] == "passed"


def test_the_grader_says_that_the_original_starter_is_not_filled_in(tmp_path):
    write(tmp_path / "in" / "ann", {CODE: STARTER})
    (grade,) = Batch(tmp_path / "out", read_rubric(), best(tmp_path / "out" / ".work")).run([tmp_path / "in"])
    reasons = {each.name: each.reason for each in grade.result.outcomes if not each.name.startswith("model")}
    assert all(reason.endswith("is not filled in yet") for reason in reasons.values()), reasons
    assert grade.earned == 0


# --- check.py on the command line


TORCH_AND_NUMPY = """torch torchgen functorch numpy numpy.libs typing_extensions.py filelock fsspec jinja2 markupsafe
    mpmath networkx sympy nvidia triton""".split()  # what `pip install torch numpy` installs


def run_check(folder, *arguments):
    """Run check.py of a folder where only torch and numpy are installed: neither scenelab nor torchvision."""
    packages = folder.parent / "packages"
    packages.mkdir(exist_ok=True)
    for name in TORCH_AND_NUMPY:
        path = Path(torch.__file__).parents[1] / name
        if path.exists() and not (packages / name).exists():
            (packages / name).symlink_to(path)
    command = [sys.executable, "-S", "check.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run(command, cwd=folder / "code", capture_output=True, text=True, env=environment)
    assert done.stderr == "" or "usage" in done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("year", YEARS)
def test_check_passes_a_whole_submission_with_torch_and_numpy_alone(tmp_path, year):
    make_kit(tmp_path / "hw", year=year, solution=True)
    write(tmp_path / "hw", {"writeup/report.pdf": b"%PDF-1.7\n", "results/curves.png": b"x"})
    status, printed = run_check(tmp_path / "hw")
    assert (status, "FAIL" in printed, "\033[" in printed) == (0, False, False)
    assert not list((tmp_path / "hw").rglob("__pycache__"))


def test_hints_come_one_at_a_time(tmp_path):
    make_kit(tmp_path / "hw", year=2019)
    printed = [run_check(tmp_path / "hw", "attack", "--hint", *number)[1] for number in ([], ["2"], ["3"], ["4"])]
    assert all(text.count("  Hint ") == 1 for text in printed)
    assert [re.search(r"Hint (\d)", text)[1] for text in printed] == ["1", "2", "3", "3"]
    assert "add: attack --hint 2" in printed[0]
    assert "another hint" not in printed[2]


def test_scenelab_check_prints_what_check_py_prints(tmp_path, capfd):
    make_kit(tmp_path / "hw", year=2022)
    with pytest.raises(SystemExit, match="1"):
        main.run(["check", "convolution", "--folder", str(tmp_path / "hw")])
    assert capfd.readouterr().out == run_check(tmp_path / "hw", "convolution")[1]
    assert main.run(["check", "--folder", str(tmp_path)]) == 1
    assert "has no code/student_code.py" in capfd.readouterr().err


def test_check_works_in_a_notebook_and_leaves_its_folder(tmp_path):
    make_kit(tmp_path / "hw", year=2019)
    code = (
        f"import os, sys; sys.path.insert(0, {str(tmp_path / 'hw' / 'code')!r}); from check import check\n"
        "before = os.getcwd(), sys.path[:]\n"
        "assert check('attention') is check('attention') is False\n"
        "assert before == (os.getcwd(), sys.path) and 'student_code' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Not filled in yet: GradAttention.explain") == 2


def test_a_notebook_shows_pictures(tmp_path):
    make_kit(tmp_path / "hw", year=2019, solution=True)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'hw' / 'code')!r}); sys.modules['ipykernel'] = sys\n"
        "import matplotlib; matplotlib.use('Agg'); import matplotlib.pyplot as plt; from check import check\n"
        "plt.show = lambda: print([axis.get_title() for axis in plt.gcf().axes if axis.get_title()])\n"
        "for part in ('convolution', 'attack', 'attention'): check(part)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for titles in ("'got', 'difference'", "it should fall", "'your map', 'finite differences'"):
        assert titles in done.stdout


def test_a_file_of_2024_has_no_attention_part(tmp_path):
    text = solution(2022)[CODE].decode()
    handed = {CODE: text[: text.index("class GradAttention")].encode()}
    write(tmp_path / "hw", {name: text.encode() for name, text in files(2022).items()} | handed)
    _, printed = run_check(tmp_path / "hw")
    assert ("Attack" in printed, "attention_" in printed, "vit_trains" in printed) == (True, False, True)


@pytest.fixture(scope="module")
def mistakes():
    module = {"__name__": "mistakes"}
    exec(compile(check_files()["checks/mistakes.py"], "mistakes.py", "exec"), module)
    return module


def test_every_check_has_three_hints(mistakes):
    assert set(mistakes["HINTS"]) == set(read_rubric(year=2022).checks)
    assert {len(hints) for hints in mistakes["HINTS"].values()} == {3}


def test_every_experiment_runs_on_the_solution(mistakes, tmp_path):
    for mistake in mistakes["MISTAKES"]:
        assert '"' not in mistake.see  # it is printed inside quotes
        assert mistake.where == "remark" or any(re.fullmatch(mistake.where, name) for name in CHECKS), mistake.name
    code = "\n".join(["import torch; from student_code import *", *(each.see for each in mistakes["MISTAKES"])])
    folder = write(tmp_path, solution()) / "code"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Anonymous(ast.NodeTransformer):
    def visit_Name(self, node):
        return ast.Name("_", node.ctx)

    def visit_Attribute(self, node):
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "ctx"):
            return ast.Name("_", node.ctx)
        return self.generic_visit(node)


def statements(text):
    """Simple statements of a program as text, without the names of variables; short ones say nothing."""
    tree = Anonymous().visit(ast.parse(text))
    simple = (node for node in ast.walk(tree) if isinstance(node, (ast.Assign, ast.AugAssign, ast.Return, ast.Expr)))
    return {ast.dump(node) for node in simple if sum(1 for _ in ast.walk(node)) >= 12}


@pytest.mark.parametrize("year", YEARS)
def test_neither_the_kit_nor_check_py_holds_an_answer(year):
    kit, handed = files(year), solution(year)[CODE].decode()
    answers = statements(handed) - statements(kit[CODE])
    assert len(answers) > 15
    renamed = handed.replace("gradient", "slope").replace("output", "result").replace("windows", "columns")
    assert len(answers & statements(renamed)) > 0.8 * len(answers)  # other names do not hide an answer
    sources = {name: text for name, text in kit.items() if name.endswith(".py")}
    for name, text in kit.items():
        if name.endswith(".ipynb"):
            cells = (cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
            sources[name] = "\n".join("".join(cell["source"]) for cell in cells)
    assert {"code/check.py", "checks/attack.py", "checks/attention.py", "notebooks/3_attack.ipynb"} <= set(sources)
    assert {name: answers & statements(text) for name, text in sources.items() if answers & statements(text)} == {}


def test_the_checks_run_on_python_3_9():
    for name, text in {**check_files(), "check.py": files(2019)["code/check.py"]}.items():
        tree = ast.parse(text, feature_version=(3, 9))
        keywords = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
        assert not keywords & {"strict", "slots", "kw_only"}, name
        assert "from __future__ import annotations" in text or not re.search(r"\w \| \w", text), name
