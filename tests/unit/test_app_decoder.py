"""The explorer's decoding process: its results, its limits, and its next start."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenelab.app import limits
from scenelab.app.decoder import Decoder
from scenelab.data.pixels import decode_pixels
from scenelab.errors import LabError


@pytest.fixture
def decoder():
    decoder = Decoder()
    yield decoder
    decoder.close()


@pytest.fixture
def photo(tmp_path) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    return (tmp_path / "photo.jpg").read_bytes()


@pytest.fixture
def large(tmp_path) -> bytes:
    Image.new("1", (9_000, 9_000)).save(tmp_path / "large.png")
    return (tmp_path / "large.png").read_bytes()


def test_the_process_returns_the_pixels_and_the_messages_of_the_decoder(decoder, photo):
    connection = decoder.start()
    for _ in range(2):
        assert np.array_equal(decoder.read(photo, "caf\udce9.jpg"), decode_pixels(photo, ""))
    for content in (b"no image", b"", photo[:1000]):
        with pytest.raises(LabError) as caught:
            decode_pixels(content, "x.jpg")
        with pytest.raises(LabError) as answer:
            decoder.read(content, "x.jpg")
        assert str(answer.value) == str(caught.value)
    assert decoder.start() is connection


def test_an_image_over_the_time_limit_is_refused_and_the_next_one_is_decoded(decoder, photo, large, monkeypatch):
    decoder.read(photo, "photo.jpg")
    with monkeypatch.context() as patch:
        patch.setattr(limits, "DECODE_SECONDS", 0.01)
        with pytest.raises(
            LabError, match=r"large\.png cannot be decoded within 0.01 seconds and 1024 MiB; save it anew"
        ):
            decoder.read(large, "large.png")
    assert np.array_equal(decoder.read(photo, "photo.jpg"), decode_pixels(photo, ""))


@pytest.mark.skipif(not os.path.exists("/proc"), reason="RLIMIT_AS is enforced on Linux")
def test_an_image_over_the_memory_limit_is_refused_and_the_next_one_is_decoded(decoder, photo, large, monkeypatch):
    monkeypatch.setattr(limits, "DECODE_MEMORY", 64 << 20)
    with pytest.raises(LabError, match=r"large\.png cannot be decoded \(out of memory\)"):
        decoder.read(large, "large.png")
    assert np.array_equal(decoder.read(photo, "photo.jpg"), decode_pixels(photo, ""))


def test_a_crash_of_the_process_ends_one_request_only(decoder, photo, monkeypatch):
    connection = decoder.start()
    decoder._process.kill()
    decoder._process.join()
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "start", lambda: connection)  # as if it crashed while it decodes
        with pytest.raises(LabError, match="cannot be decoded within 15 seconds and 1024 MiB"):
            decoder.read(photo, "photo.jpg")
    assert np.array_equal(decoder.read(photo, "photo.jpg"), decode_pixels(photo, ""))
    assert decoder.start() is not connection


def test_the_process_ends_with_the_explorer(decoder, photo):
    decoder.read(photo, "photo.jpg")
    folder = Path(f"/proc/{decoder._process.pid}")
    decoder._connection.close()
    decoder._process.join(10)
    assert decoder._process.exitcode == 0
    assert not folder.exists()
