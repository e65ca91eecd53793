"""Default cache folder of a data folder."""

import hashlib
import os
import re
from pathlib import Path

from platformdirs import user_cache_path

from scenelab.data.miniplaces import is_miniplaces

CACHE = "packed"


def default_cache(data: Path) -> Path:
    """Return the default folder for the decoded images of a data folder.

    It is `packed` in a folder with MiniPlaces' lists; else it is in the user's cache folder, so that nothing is written
    among a user's own images.
    """
    if is_miniplaces(data):
        return data / CACHE
    path = os.fsencode(data.resolve())
    name = re.sub(r"[^\w.-]+", "-", data.resolve().name)[:60]
    return user_cache_path("scenelab", appauthor=False) / f"{name}-{hashlib.sha256(path).hexdigest()[:12]}"
