"""scenelab app: the explorer in a browser."""

import signal
import sys
import time
from pathlib import Path

from tyro.conf import Positional


def app(runs: Positional[list[Path]], *, data: Path | None = None, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Open networks in a browser: what they say of a picture, where they look, what fools them.

    Example: scenelab app runs/laptop runs/hardened

    Args:
        runs: run folders; of more than one, two stand side by side.
        data: another data folder than the one that the first run was trained on, for validation images.
        host: address to listen on. Anything but loopback lets everybody in who reaches this machine.
        port: 0 takes a free one.
    """
    from scenelab.app.errors_gallery import read_album
    from scenelab.app.handlers import Answers
    from scenelab.app.serve import LOOPBACK, serve
    from scenelab.app.session import open_lens
    from scenelab.errors import LabError
    from scenelab.runs.loading import open_images
    from scenelab.runs.run import Run

    if not runs:
        raise LabError("runs is empty; name at least one run folder")
    lenses = [open_lens(folder) for folder in runs]
    if len({lens.name for lens in lenses}) < len(lenses):
        raise LabError("two of the runs have the same name; rename a folder, or name each once")
    try:
        album = read_album(Run(runs[0]), open_images(Run(runs[0]), lenses[0].stored, data=data)[0])
    except LabError as error:
        if data is not None:
            raise
        album = None
        print(f"without validation images: {error}", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # what was uploaded is removed then as well
    served = serve(Answers(lenses, album), host=host, port=port)
    if host not in LOOPBACK:
        print(f"{host} is no loopback address: whoever reaches this machine can use the page", file=sys.stderr)
    print(f"explorer: {served.address}   Ctrl-C stops", flush=True)
    try:
        while True:
            time.sleep(3600)
    finally:
        served.close()
