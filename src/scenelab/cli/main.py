"""Which subcommands there are, and what happens to their errors."""

import os
import sys

import tyro

from scenelab.cli import (
    app,
    attack,
    bench,
    challenge,
    data,
    demo,
    evaluate,
    explain,
    export,
    grade,
    kit,
    report,
    robustness,
    study,
    submit,
    train,
)  # fmt: skip
from scenelab.errors import Interrupted, LabError

DESCRIPTION = """Scene recognition from convolution by hand to a trained, evaluated network.

Start with: scenelab demo

Any command takes --debug, which shows the traceback behind an error."""


def build(arguments: list[str]) -> tyro.extras.SubcommandApp:
    """Return all subcommands; the flags of `train` depend on the recipe among the arguments."""
    commands = tyro.extras.SubcommandApp()
    commands.command(demo.demo)
    commands.command(data.app(), name="data", help="Download, import, make, check and pack images.")
    is_train = arguments[:1] == ["train"]
    commands.command(train.train_command(arguments) if is_train else train.train, name="train")
    commands.command(train.resume)
    commands.command(evaluate.evaluate)
    commands.command(evaluate.predict)
    commands.command(explain.explain)
    commands.command(attack.attack)
    commands.command(robustness.robustness)
    commands.command(report.report)
    commands.command(export.export)
    commands.command(app.app)
    commands.command(kit.kit)
    commands.command(submit.submit)
    commands.command(grade.grade)
    commands.command(challenge.challenge)
    commands.command(challenge.score)
    commands.command(evaluate.models)
    commands.command(train.recipes)
    commands.command(bench.app(), name="bench", help="Measure speed, side by side in one run.")
    commands.command(study.app(), name="study", help="Train variants from one seed and compare them.")
    return commands


def run(arguments: list[str]) -> int:
    """Run one command; returns the exit status: 0 success, 1 an error, 2 a wrong call, 130 stopped by Ctrl-C."""
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        build(arguments).cli(prog="scenelab", description=DESCRIPTION, args=arguments)
    except LabError as error:
        if debug:
            raise
        print(f"scenelab: error: {error}", file=sys.stderr)
        return 1
    except Interrupted as stop:
        print(f"scenelab: {stop}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("scenelab: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # where nobody knew better what to say
        if debug:
            raise
        places = [os.fsdecode(name) for name in (error.filename, error.filename2) if name]  # of a copy there are two
        what = f"cannot read or write {' or '.join(places) or 'a file'}"
        cause = error.strerror or str(error)
        print(f"scenelab: error: {what}: {cause}; check the path, its permissions and the free space", file=sys.stderr)
        return 1
    return 0
