"""Image files that gradio serves: written atomically, and deleted some time after they were last shown."""

import hashlib
import io
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scenelab.io import atomic_write

SALT = secrets.token_bytes(16)  # so that nobody can derive a file's name from its image


def delete_old_files(folder: Path, blocks: Any, seconds: float) -> None:
    """Delete files last shown more than `seconds` ago, and remove deleted files from `blocks.temp_file_sets`.

    gradio's own deletion task ends for the rest of the process if a visitor arrives while it iterates over a set.
    """
    for path in [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]:
        with suppress(FileNotFoundError):  # gradio may delete it first
            if time.time() - path.stat().st_mtime > seconds:
                path.unlink()
    for paths in blocks.temp_file_sets:
        paths.difference_update([path for path in list(paths) if not os.path.lexists(path)])


def write_atomically(component: Any) -> None:
    """Make a `gradio.Image` write files atomically, because a browser may be reading the same file."""
    postprocess = component.postprocess
    component.postprocess = lambda value: postprocess(
        save_image(value, Path(component.GRADIO_CACHE)) if isinstance(value, np.ndarray) else value
    )


def save_image(pixels: np.ndarray, folder: Path) -> str:
    """Write uint8 pixels (h, w, 3) to FOLDER/HASH/image.png, with a keyed hash of the content; return the path."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    path = folder / hashlib.blake2b(content.getbuffer(), digest_size=20, key=SALT).hexdigest() / "image.png"
    try:
        os.utime(path)  # its age counts from the last time it was shown
    except FileNotFoundError:
        with atomic_write(path) as file:
            file.write(content.getbuffer())
    return str(path)
