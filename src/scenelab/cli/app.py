"""scenelab app: the explorer in a browser."""

import signal
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from scenelab.cli.arguments import DataFolder
from scenelab.terminal import say


def app(
    runs: Annotated[
        Positional[list[Path]], arg(metavar="[RUN ...]", help_behavior_hint="(default: the networks that ship, if any)")
    ],
    *,
    data: DataFolder = None,
    host: Annotated[str, arg(metavar="HOST")] = "127.0.0.1",
    port: Annotated[int, arg(metavar="PORT")] = 7860,
) -> None:
    """Watch runs train and take networks apart, in a browser.

    Example: scenelab app runs

    Args:
        runs: run folders, or folders with runs below them.
        host: address to listen on; a non-loopback address opens the page to everybody who can reach this machine.
        port: port to listen on; 0 selects a free one.
    """
    from scenelab.errors import LabError
    from scenelab.extras import APP

    APP.require()
    from scenelab.app.catalog import Catalog
    from scenelab.app.server import LOOPBACK, serve
    from scenelab.runs.pretrained import list_pretrained

    if not runs and not list_pretrained():
        raise LabError("runs is empty, and no network is installed; name a run folder, or a folder of runs")
    if not 0 <= port < 1 << 16:
        raise LabError(f"--port is {port}; choose another --port from 1 to 65535")
    catalog = Catalog(runs, data=data)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the decoding process ends, too
    server = serve(catalog, host=host, port=port)
    if host not in LOOPBACK:
        say(f"{host} is not a loopback address: everybody who reaches this machine can use it", file=sys.stderr)
    if not catalog.runs():
        say("there is no run yet; it appears in the table when its training begins", file=sys.stderr)
    say(f"explorer: {server.address}{'' if runs else '/#view=predict'}   Ctrl-C stops")
    server.run()
