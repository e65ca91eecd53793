"""The table of commands, and the exit statuses and messages of their errors."""

import os
import re
import sys

import tyro

from scenelab import __version__
from scenelab.cli import (
    app,
    attack,
    bench,
    challenge,
    check,
    data,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    finetune,
    grade,
    kit,
    predict,
    report,
    robustness,
    study,
    submit,
    train,
)
from scenelab.cli.arguments import OPTIONAL, Commands
from scenelab.errors import Interrupted, LabError, suggest
from scenelab.terminal import say

COMMANDS = Commands(
    "Train, test, explain and attack small image classifiers on an ordinary laptop.",
    {
        "Try": {"demo": demo.demo, "predict": predict.predict, "app": app.app, "doctor": doctor.doctor},
        "Train": {
            "data": data.COMMANDS,
            "recipes": train.recipes,
            "models": evaluate.models,
            "train": train.train,
            "finetune": finetune.finetune,
            "resume": train.resume,
            "export": export.export,
        },
        "Understand": {
            "evaluate": evaluate.evaluate,
            "explain": explain.explain,
            "attack": attack.attack,
            "report": report.report,
        },
        "Teach": {"kit": kit.kit, "check": check.check, "submit": submit.submit, "grade": grade.grade},
        "Measure": {
            "robustness": robustness.robustness,
            "challenge": challenge.challenge,
            "score": challenge.score,
            "bench": bench.COMMANDS,
            "study": study.COMMANDS,
        },
    },
)
NOTES = """--version prints the version, --debug with a command the traceback of its error,
--tyro-print-completion bash (or zsh) the tab completions for a shell."""


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status: 0 success, 1 error, 2 invalid usage, 130 interrupted."""
    debug = "--debug" in arguments
    try:
        try:
            return _dispatch([argument for argument in arguments if argument != "--debug"])
        finally:
            sys.stdout.flush()  # here, where an error of the stream is reported as one line
    except LabError as error:
        if debug:
            raise
        return _fail(str(error))
    except (Interrupted, KeyboardInterrupt) as stop:
        say(f"scenelab: {stop if isinstance(stop, Interrupted) else 'stopped'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output has ended
        return 1
    except UnicodeEncodeError as error:
        if debug:
            raise
        return _fail(f"{error.object!r} cannot be a file name in the encoding {error.encoding}; set PYTHONUTF8=1")
    except OSError as error:
        if debug:
            raise
        paths = [os.fsdecode(name) for name in (error.filename, error.filename2) if name]  # a failed copy has two
        return _fail(
            f"cannot read or write {' or '.join(paths) or 'a file or the output'}: {error.strerror or error}; "
            "check the path, its permissions and the free space"
        )


def _fail(message: str, status: int = 1) -> int:
    say(f"scenelab: error: {message}", file=sys.stderr)
    return status


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0].startswith("--tyro-"):
        _complete(COMMANDS).cli(prog="scenelab", args=arguments)
    if arguments == ["--version"]:
        print(f"scenelab {__version__}")
        return 0
    name, entry = "scenelab", COMMANDS
    while isinstance(entry, Commands):
        commands = dict(entry)
        word = arguments[0] if arguments else ""
        if word in commands:
            name, entry, arguments = f"{name} {word}", commands[word], arguments[1:]
        elif word in ("-h", "--help", ""):
            notes = f"\n{NOTES}" if entry is COMMANDS else ""
            print(entry.help(name) + notes, file=sys.stdout if word else sys.stderr)
            return 0 if word else 2
        else:
            return _fail(f"{name} has no command {word!r}{suggest(word, commands)}; see {name} --help", 2)
    for number, argument in enumerate(arguments):
        if not argument or re.fullmatch("--[a-z.-]+=", argument):
            before = argument or (arguments[number - 1] if number else name)
            return _fail(f"the argument after {before} is empty; give a value, or leave the option out", 2)
    if entry is train.train:
        entry = train.train_command(arguments)  # its flags and defaults depend on the recipe
    tyro.cli(entry, prog=name, args=arguments, registry=OPTIONAL)
    return 0


def _complete(commands: Commands) -> tyro.extras.SubcommandApp:
    """Return one parser of all commands, which can print shell completions."""
    app = tyro.extras.SubcommandApp()
    for name, entry in commands:
        if isinstance(entry, Commands):
            app.command(_complete(entry), name=name, help=entry.summary)
        else:
            app.command(name=name)(entry)
    return app
