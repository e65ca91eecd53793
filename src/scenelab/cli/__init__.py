"""The `scenelab` command: thin subcommands, one-line error messages, and exit status 0 only on success."""

import sys
import threading

from scenelab.runtime import prepare


def entry_point() -> None:
    """Run the `scenelab` command with the arguments in `sys.argv` and exit with its status."""
    prepare()
    threading.excepthook = _report_thread
    from scenelab.cli.main import run

    sys.exit(run(sys.argv[1:]))


def _report_thread(args: threading.ExceptHookArgs) -> None:
    """Print the traceback of a thread's exception, except in TensorBoard's writer, which raises it again later."""
    if not (args.thread and type(args.thread).__module__.startswith("tensorboard")):
        threading.__excepthook__(args)
