"""Images that the explorer serves are whole while they are read, and deleted when they are old."""

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from scenelab.app.shown_files import delete_old_files

pytest.importorskip("gradio")


def test_old_files_are_deleted_and_missing_ones_forgotten(tmp_path):
    new, old = tmp_path / "a" / "new.png", tmp_path / "b" / "old.png"
    for path in (new, old):
        path.parent.mkdir()
        path.touch()
    os.utime(old, (0, time.time() - 100))
    uploads, others = {str(new), str(old)}, {str(old), "/nowhere"}
    delete_old_files(tmp_path, SimpleNamespace(temp_file_sets=[uploads, others]), seconds=50)
    assert new.exists()
    assert not old.exists()
    assert (uploads, others) == ({str(new)}, set())


def test_an_image_that_is_shown_again_is_whole_while_it_is_read(tmp_path):
    """An attack shows the original at each step, while a browser may be reading it."""
    from scenelab.app.page import image_output

    output = image_output("original", "original", height=250, alt="")
    output.GRADIO_CACHE = str(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = Path(output.postprocess(pixels).path)
    assert np.array_equal(np.array(Image.open(path)), pixels)
    size, sizes, done = path.stat().st_size, set(), threading.Event()

    def read():
        while not done.is_set():
            sizes.update((path.stat().st_size, len(path.read_bytes())))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(100):
        os.utime(path, (0, 0))
        assert output.postprocess(pixels).path == str(path)
        assert path.stat().st_mtime > 0  # it counts as shown just now
    done.set()
    reader.join()
    assert sizes == {size}
    assert list(tmp_path.rglob("*.part")) == []
