"""scenelab app: the explorer in a browser."""

import signal
import sys
import time
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from scenelab.cli.arguments import DataFolder
from scenelab.terminal import say


def app(
    runs: Annotated[Positional[list[Path]], arg(metavar="RUN ...", help_behavior_hint="(required)")],
    *,
    data: DataFolder = None,
    host: Annotated[str, arg(metavar="HOST")] = "127.0.0.1",
    port: Annotated[int, arg(metavar="PORT")] = 7860,
) -> None:
    """Explore runs in a browser: predictions, attributions, attacks.

    Example: scenelab app runs/laptop runs/hardened

    Args:
        runs: run folders; with several, the page compares two at a time.
        host: address to listen on; a non-loopback address opens the page to everybody who can reach this machine.
        port: port to listen on; 0 selects a free one.
    """
    from scenelab.app.errors_gallery import read_gallery
    from scenelab.app.handlers import Handlers
    from scenelab.app.server import LOOPBACK, serve
    from scenelab.app.session import open_session
    from scenelab.errors import LabError
    from scenelab.extras import APP
    from scenelab.runs.loading import open_images
    from scenelab.runs.run import Run

    APP.require()
    if not runs:
        raise LabError("runs is empty; name at least one run folder")
    sessions = [open_session(folder) for folder in runs]
    if len({session.name for session in sessions}) < len(sessions):
        raise LabError("two of the runs have the same name; rename a folder, or name each once")
    try:
        gallery = read_gallery(Run(runs[0]), open_images(Run(runs[0]), sessions[0].stored, data=data)[0])
    except LabError as error:
        if data is not None:
            raise
        gallery = None
        say(f"no validation images: {error}", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that uploaded images are deleted
    server = serve(Handlers(sessions, gallery), host=host, port=port)
    if host not in LOOPBACK:
        say(f"{host} is not a loopback address: everybody who reaches this machine can use it", file=sys.stderr)
    say(f"explorer: {server.address}   Ctrl-C stops")
    try:
        while True:
            time.sleep(3600)
    finally:
        server.close()
