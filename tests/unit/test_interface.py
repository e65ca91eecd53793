"""The public interface and the help of the command line, which load no torch."""

import importlib
import json
import subprocess
import sys

import pytest

import scenelab
from scenelab.cli import main
from scenelab.cli.arguments import Commands
from scenelab.progress import format_duration

PACKAGES = "app attacks attribution conv course data evaluation models report runs studies training".split()
LIGHT = """
import sys, scenelab
from scenelab.cli.main import run
sys.exit(run(sys.argv[1:]) or "torch" in sys.modules)
"""
HELP = """
import json, sys
from contextlib import suppress
from scenelab.cli.main import run
for names in json.loads(sys.argv[1]):
    with suppress(SystemExit):
        run([*names, "--help"])
sys.exit("torch" in sys.modules)
"""
EXPLORER = """
import sys
from pathlib import Path
from scenelab.app import Catalog, serve
server = serve(Catalog([Path(sys.argv[1])]), port=0)
server.application.summaries.of(server.application.catalog.runs())
sys.exit(not server.application.catalog.runs() or "torch" in sys.modules)
"""


@pytest.mark.parametrize("name", ["scenelab", *(f"scenelab.{package}" for package in PACKAGES)])
def test_every_public_name_resolves(name):
    package = importlib.import_module(name)
    assert package.__doc__
    assert all(getattr(package, public) is not None for public in package.__all__)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


@pytest.mark.parametrize("command", ["--help", "--version", "train laptop --help", "recipes", "models", "kit kit"])
def test_help_lists_and_the_kit_load_no_torch(command, tmp_path):
    command = [sys.executable, "-c", LIGHT, *command.split()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=tmp_path)


@pytest.mark.parametrize("command", ["--help", "--version"])
def test_the_list_of_commands_starts_fast(command):
    code = LIGHT.replace(
        '"torch" in sys.modules', 'bool({"numpy", "pydantic", "rich.console", "psutil"} & {*sys.modules})'
    )
    subprocess.run([sys.executable, "-c", code, command], check=True, stdout=subprocess.DEVNULL)


def test_the_help_of_every_command_loads_no_torch():
    command = [sys.executable, "-c", HELP, json.dumps(command_names())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def test_a_submission_and_a_report_load_no_torch(untrained, tmp_path):
    for name in ("code/student_code.py", "writeup/writeup.pdf", "results/curve.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x = 1")
    report = ["report", str(untrained.folder), "--card", "--html-only"]
    readers = [[*report, "--for", reader] for reader in ("practitioner", "instructor", "writeup")]
    for arguments in (["submit", ".", "--anyway", "--no-test"], *readers):
        command = [sys.executable, "-W", "ignore", "-c", LIGHT, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=tmp_path)
    assert (tmp_path / "submission.zip").exists()
    assert (tmp_path / "report" / "card.md").exists()


@pytest.mark.parametrize(
    "module", ["app.session", "attribution", "evaluation.predict", "report.write", "training.session"]
)
def test_torchvision_is_not_loaded(module):
    """It takes as long as torch, and creates a folder for compiled code in the temporary one."""
    code = f"import sys, scenelab.{module}; sys.exit('torchvision' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_explorer_shows_runs_before_torch_is_loaded(untrained):
    subprocess.run([sys.executable, "-W", "ignore", "-c", EXPLORER, untrained.folder], check=True)


def test_help_has_one_short_line_per_command_in_five_groups(capsys):
    assert main.run(["--help"]) == 0
    text = capsys.readouterr().out
    for group, commands in main.COMMANDS.sections.items():
        assert f"\n{group}:\n" in text
        assert all(f"\n  {name:<12}" in text for name in commands)
    assert len(main.COMMANDS.sections) == 5
    assert all(len(line) <= 80 for line in text.splitlines())


def command_names(commands: Commands = main.COMMANDS, *before: str) -> list[list[str]]:
    return [
        names
        for name, entry in commands
        for names in (command_names(entry, *before, name) if isinstance(entry, Commands) else [[*before, name]])
    ]


@pytest.mark.parametrize("names", command_names(), ids=" ".join)
def test_every_command_explains_its_arguments_and_gives_an_example(names, capsys):
    with pytest.raises(SystemExit) as stop:
        main.run([*names, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"Example: scenelab {' '.join(names)}" in text
    if names[0] != "train":
        assert not any(unclear in text for unclear in ("PATH", "STR", "{None}", "default: None", "--no-json"))


def test_the_version_is_printed_and_no_command_shows_the_help(capsys):
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"scenelab {scenelab.__version__}\n"
    assert main.run([]) == 2
    assert "Understand:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "scenelab has no command 'trian' (did you mean 'train'?); see scenelab --help"),
        (["data", "verfy"], "scenelab data has no command 'verfy' (did you mean 'verify'?); see scenelab data --help"),
        (["xyz"], "scenelab has no command 'xyz'; see scenelab --help"),
    ],
)
def test_an_unknown_command_gets_a_suggestion(arguments, message, capsys):
    assert main.run(arguments) == 2
    assert capsys.readouterr().err == f"scenelab: error: {message}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attack", "run", "--epslon", "3"], "Perhaps you meant"),
        (["study", "conv", "--data", "x", "--out", "y", "--epochs", "ten"], "could not convert string to float: 'ten'"),
        (["evaluate"], "Missing from scenelab evaluate"),
    ],
)
def test_a_wrong_call_is_explained(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main.run(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error
    assert "NoneType" not in error


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(42, "42 s"), (200, "3.3 min"), (3596, "59.9 min"), (3600, "1 h 00 min"), (57_700, "16 h 02 min")],
)
def test_durations_have_the_unit_that_fits(seconds, text):
    assert format_duration(seconds) == text
