"""The command line: thin subcommands, one-line errors, exit status 0 only on success."""

import sys

from scenelab.process import prepare


def main() -> None:
    """Run `scenelab` with the arguments of the process."""
    prepare()
    from scenelab.cli.app import run

    sys.exit(run(sys.argv[1:]))
