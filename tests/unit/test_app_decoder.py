"""The explorer's decoding process: its results, its limits, and its next start."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenelab.app import decoder as module
from scenelab.app.decoder import Decoder
from scenelab.app.handlers import PREDICTED, Handlers
from scenelab.app.session import open_session
from scenelab.data.pixels import read_pixels
from scenelab.errors import LabError


@pytest.fixture
def decoder():
    decoder = Decoder()
    yield decoder
    decoder.close()


@pytest.fixture
def photo(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "caf\udce9.jpg")
    return tmp_path / "caf\udce9.jpg"


@pytest.fixture
def large(tmp_path) -> Path:
    Image.new("1", (9_000, 9_000)).save(tmp_path / "large.png")
    return tmp_path / "large.png"


def test_the_process_returns_the_pixels_and_the_messages_of_the_decoder(decoder, photo, tmp_path):
    process = decoder.start()
    for _ in range(2):
        assert np.array_equal(decoder.read(photo), read_pixels(photo))
    (tmp_path / "text").write_text("no image")
    for path in (tmp_path / "text", tmp_path / "missing"):
        with pytest.raises(LabError) as caught:
            read_pixels(path)
        with pytest.raises(LabError) as answer:
            decoder.read(path)
        assert str(answer.value) == str(caught.value)
    assert decoder.start() is process


def test_an_image_over_the_time_limit_is_refused_and_the_next_one_is_decoded(decoder, photo, large, monkeypatch):
    decoder.read(photo)
    with monkeypatch.context() as patch:
        patch.setattr(module, "SECONDS", 0.01)
        with pytest.raises(
            LabError, match=r"large\.png cannot be decoded within 0.01 seconds and 1024 MiB; save it anew"
        ):
            decoder.read(large)
    assert np.array_equal(decoder.read(photo), read_pixels(photo))


@pytest.mark.skipif(not os.path.exists("/proc"), reason="RLIMIT_AS is enforced on Linux")
def test_an_image_over_the_memory_limit_is_refused_and_the_next_one_is_decoded(decoder, photo, large, monkeypatch):
    monkeypatch.setattr(module, "MEMORY", 64 << 20)
    with pytest.raises(LabError, match=r"large\.png cannot be decoded \(out of memory\)"):
        decoder.read(large)
    assert np.array_equal(decoder.read(photo), read_pixels(photo))


def test_a_crash_of_the_process_ends_one_request_only(decoder, photo, monkeypatch):
    process = decoder.start()
    process.kill()
    process.wait()
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "start", lambda: process)  # as if it crashed while it decodes
        with pytest.raises(LabError, match="cannot be decoded within 15 seconds and 1024 MiB"):
            decoder.read(photo)
    assert np.array_equal(decoder.read(photo), read_pixels(photo))
    assert decoder.start() is not process


def test_a_refused_upload_is_decoded_once(untrained, large, monkeypatch):
    handlers, calls = Handlers([open_session(untrained.folder)], None), []

    def refuse(path):
        calls.append(path)
        raise LabError(f"image {path} cannot be decoded")

    monkeypatch.setattr(handlers.decoder, "read", refuse)
    for _ in range(2):
        assert handlers.predict(str(large), untrained.folder.name) == (None, "⚠ image large.png cannot be decoded")
        assert handlers.explain(str(large), untrained.folder.name, "gradient", PREDICTED, 0.6)[0] is None
    assert len(calls) == 1
