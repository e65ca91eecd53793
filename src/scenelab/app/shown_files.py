"""Image files that gradio serves: whole before they have a name, deleted some time after they were last shown."""

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

SALT = secrets.token_bytes(16)  # so that nobody can ask whether an image was shown


def delete_old_files(folder: Path, blocks: Any, seconds: float) -> None:
    """Delete files that were last shown long ago, and the names of missing files in the sets of a `gradio.Blocks`.

    gradio's own deletion ends for ever when a visitor comes while it goes through one of the sets.
    """
    for path in [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]:
        with suppress(FileNotFoundError):  # others delete too
            if time.time() - path.stat().st_mtime > seconds:
                path.unlink()
    for paths in blocks.temp_file_sets:
        paths.difference_update([path for path in list(paths) if not os.path.lexists(path)])


def write_atomically(component: Any) -> None:
    """Let a `gradio.Image` write whole files: it would write into one that a browser may be reading."""
    postprocess = component.postprocess
    component.postprocess = lambda value: postprocess(
        save_image(value, Path(component.GRADIO_CACHE)) if isinstance(value, np.ndarray) else value
    )


def save_image(pixels: np.ndarray, folder: Path) -> str:
    """Write uint8 pixels (h, w, 3) as a PNG file named by its content, and return its path."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    path = folder / hashlib.blake2b(content.getbuffer(), digest_size=20, key=SALT).hexdigest() / "image.png"
    try:
        os.utime(path)  # its age counts from when it was last shown
    except FileNotFoundError:
        with atomic_write(path) as file:
            file.write(content.getbuffer())
    return str(path)
