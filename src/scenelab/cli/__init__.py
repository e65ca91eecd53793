"""The command line: thin subcommands, one-line errors, exit status 0 only on success."""

import sys
import threading

from scenelab.runtime import prepare


def entry_point() -> None:
    """Run `scenelab` with the arguments of the process."""
    prepare()
    threading.excepthook = _report_thread
    from scenelab.cli.main import run

    sys.exit(run(sys.argv[1:]))


def _report_thread(args: threading.ExceptHookArgs) -> None:
    """TensorBoard's writing thread hands its error to the thread that writes next, which tells it in one line."""
    if not (args.thread and type(args.thread).__module__.startswith("tensorboard")):
        threading.__excepthook__(args)
