"""Where the decoded images of a data folder are, by default."""

import hashlib
import os
import re
from pathlib import Path

from platformdirs import user_cache_path

from scenelab.data.miniplaces import is_miniplaces

CACHE = "packed"


def default_cache(data: Path) -> Path:
    """Return the folder for the decoded images of a data folder: among a user's own images, nothing is written.

    It is `packed` beside the lists and images of MiniPlaces, else in the user's cache folder.
    """
    if is_miniplaces(data):
        return data / CACHE
    path = os.fsencode(data.resolve())
    name = re.sub(r"[^\w.-]+", "-", data.resolve().name)[:60]
    return user_cache_path("scenelab", appauthor=False) / f"{name}-{hashlib.sha256(path).hexdigest()[:12]}"
