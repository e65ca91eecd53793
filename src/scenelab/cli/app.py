"""Which subcommands there are, and what happens to their errors."""

import os
import sys

import tyro

from scenelab.cli import (
    attack,
    bench,
    challenge,
    data,
    demo,
    evaluate,
    explain,
    explorer,
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


def build() -> tyro.extras.SubcommandApp:
    """All subcommands."""
    app = tyro.extras.SubcommandApp()
    app.command(demo.demo)
    app.command(data.app(), name="data", help="Download, import, make, check and pack images.")
    app.command(train.train)
    app.command(train.resume)
    app.command(evaluate.evaluate)
    app.command(evaluate.predict)
    app.command(explain.explain)
    app.command(attack.attack)
    app.command(robustness.robustness)
    app.command(report.report)
    app.command(export.export)
    app.command(explorer.app)
    app.command(kit.kit)
    app.command(submit.submit)
    app.command(grade.grade)
    app.command(challenge.challenge)
    app.command(challenge.score)
    app.command(evaluate.models)
    app.command(train.recipes)
    app.command(bench.app(), name="bench", help="Measure speed, side by side in one run.")
    app.command(study.app(), name="study", help="Train variants from one seed and compare them.")
    return app


def run(arguments: list[str]) -> int:
    """Run one command; returns the exit status: 0 success, 1 an error, 2 a wrong call, 130 stopped by Ctrl-C."""
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        build().cli(prog="scenelab", description=DESCRIPTION, args=arguments)
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
