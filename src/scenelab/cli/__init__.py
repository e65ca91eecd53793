"""The `scenelab` command: thin subcommands, one-line error messages, and exit status 0 only on success."""

import sys


def entry_point() -> None:
    """Run the `scenelab` command with the arguments in `sys.argv` and exit with its status."""
    interrupts: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    try:  # around all imports, because Ctrl-C may come at once
        import signal

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else nohup or the like ignores it
            signal.signal(signal.SIGINT, interrupt)
        status = _run()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python's own exit takes up to a second
    except (Exception, KeyboardInterrupt) as error:
        # extension modules replace a KeyboardInterrupt in their import by another error
        if not (interrupts or isinstance(error, KeyboardInterrupt)):
            raise
        print("scenelab: stopped", file=sys.stderr)
        status = 130
    sys.exit(status)


def _run() -> int:
    import threading

    def report(args: threading.ExceptHookArgs) -> None:
        if not (args.thread and type(args.thread).__module__.startswith("tensorboard")):  # it raises the error later
            threading.__excepthook__(args)

    from scenelab.terminal import discard_unwritten, prepare_streams

    prepare_streams()
    from scenelab.runtime import prepare

    prepare()
    threading.excepthook = report
    from scenelab.cli.main import run

    try:
        return run(sys.argv[1:])
    finally:
        discard_unwritten()
