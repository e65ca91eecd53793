"""Image files as people have them: whole, damaged, odd and hostile."""

import contextlib
import io
import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as transforms

from scenelab.data import decode
from scenelab.data.decode import fit, read_image
from scenelab.errors import LabError
from scenelab.runtime import peak_memory

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
FORMATS = {"a.jpg": "JPEG", "a.png": "PNG", "a.webp": "WEBP", "a.gif": "GIF"}


def encoded(kind: str, image: Image.Image | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def as_array(tensor: torch.Tensor) -> np.ndarray:
    assert tensor.dtype == torch.uint8
    assert tensor.ndim == 3
    return tensor.permute(1, 2, 0).numpy()


def rgb(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(tmp_path, name):
    path = write(tmp_path / name, encoded(FORMATS[name]))
    assert np.array_equal(as_array(read_image(path)), rgb(path))


def test_what_is_stored_without_loss_comes_back(tmp_path):
    for name, options in (("a.png", {}), ("a.webp", {"lossless": True})):
        path = write(tmp_path / name, encoded(FORMATS[name], **options))
        assert np.array_equal(as_array(read_image(path)), PIXELS)


def test_the_name_does_not_matter(tmp_path):
    assert read_image(write(tmp_path / "a.jpg", encoded("PNG"))).shape == (3, 24, 36)


@pytest.mark.parametrize("mode", ["L", "CMYK", "YCbCr"])
def test_jpeg_modes(tmp_path, mode):
    path = write(tmp_path / "a.jpg", encoded("JPEG", Image.fromarray(PIXELS).convert(mode)))
    picture = as_array(read_image(path))
    assert np.array_equal(picture, rgb(path))
    if mode == "L":
        assert (picture == picture[..., :1]).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_png_modes(tmp_path, mode):
    image = Image.fromarray(PIXELS)
    if mode == "I;16":
        image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    path = write(tmp_path / "a.png", encoded("PNG", image if mode == "I;16" else image.convert(mode)))
    picture = as_array(read_image(path))
    expected = PIXELS[..., :1].repeat(3, axis=2) if mode == "I;16" else np.array(image.convert(mode).convert("RGB"))
    assert np.array_equal(picture, expected)


def test_alpha_is_dropped_not_blended(tmp_path):
    image = Image.fromarray(PIXELS)
    image.putalpha(0)
    assert np.array_equal(as_array(read_image(write(tmp_path / "a.png", encoded("PNG", image)))), PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path / "a", encoded(kind, exif=exif))
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    picture = as_array(read_image(path))
    assert np.array_equal(picture, expected)
    assert picture.shape[:2] == ((36, 24) if orientation > 4 else (24, 36))


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(np.full((8, 9, 3), level, np.uint8)) for level in (10, 200, 90)]
    for name in ("a.gif", "a.png", "a.webp"):
        content = encoded(FORMATS[name], frames[0], save_all=True, append_images=frames[1:])
        picture = read_image(write(tmp_path / name, content))
        assert picture.shape == (3, 8, 9)
        assert (picture.int() - 10).abs().max() <= 2


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file(tmp_path, name, share):
    content = encoded(FORMATS[name])
    path = write(tmp_path / name, content[: int(len(content) * share)])
    with pytest.raises(LabError) as caught:
        read_image(path)
    line = str(caught.value)
    assert line.startswith((f"image {path} cannot be decoded (", f"image {path} is not an image file; "))
    assert line.endswith("; replace it or remove it from the list")
    assert "\n" not in line


@pytest.mark.parametrize("content", [b"x", b"hello world " * 40, bytes(1000), b"%!PS-Adobe-3.0 EPSF-3.0\n%%EOF\n"])
def test_what_is_no_image(tmp_path, content):
    path = write(tmp_path / "a.jpg", content)
    with pytest.raises(LabError) as caught:
        read_image(path)
    assert str(caught.value) == f"image {path} is not an image file; replace it or remove it from the list"


def test_postscript_is_never_run(tmp_path):
    """Pillow hands EPS to Ghostscript; a picture from a stranger must not get that far."""
    path = write(tmp_path / "a.jpg", encoded("EPS", Image.fromarray(PIXELS)))
    with pytest.raises(LabError, match="is not an image file"):
        read_image(path)


def test_an_empty_file(tmp_path):
    path = write(tmp_path / "a.jpg", b"")
    with pytest.raises(LabError) as caught:
        read_image(path)
    assert str(caught.value) == f"image {path} has 0 bytes; expected 1 to {decode.MAX_FILE_BYTES}"


def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_FILE_BYTES", 10)
    with pytest.raises(LabError, match="has 11 bytes; expected 1 to 10$"):
        read_image(write(tmp_path / "a.jpg", bytes(11)))


def test_a_missing_file_and_a_folder(tmp_path):
    path = tmp_path / "a.jpg"
    with pytest.raises(LabError) as caught:
        read_image(path)
    assert str(caught.value) == f"image {path} cannot be read: No such file or directory"
    path.mkdir()
    with pytest.raises(LabError, match=r"a\.jpg cannot be read: Is a directory$"):
        read_image(path)


def png_that_promises(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (12_000, 10_000), (1, 2**31 - 1)])
def test_a_small_file_that_promises_a_huge_picture(tmp_path, width, height):
    path = write(tmp_path / "a.png", png_that_promises(width, height))
    assert path.stat().st_size < 100
    with pytest.raises(LabError, match=r"decompression bomb|at most 100,000,000 pixels are read"):
        read_image(path)


def test_a_large_picture_below_the_limit_brings_no_warning(tmp_path):
    """Pillow warns from 89 million pixels on, and warnings are errors here; this one fails as what it is: cut short."""
    with pytest.raises(LabError, match="truncated"):
        read_image(write(tmp_path / "a.png", png_that_promises(9_500, 10_000)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_damaged_file_is_an_image_or_one_line(tmp_path, kind):
    """Bytes changed at random: whatever the parser stumbles over, nothing but a LabError comes out."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    content = encoded(kind, exif=exif) if kind != "GIF" else encoded(kind)
    dice = np.random.default_rng(0)
    refused = []
    for attempt in range(300):
        damaged = bytearray(content)
        for _ in range(dice.integers(1, 6)):
            damaged[dice.integers(0, 150 if attempt % 2 else len(content))] = dice.integers(0, 256)
        try:
            assert read_image(write(tmp_path / "a", bytes(damaged))).shape[0] == 3
        except LabError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert not [line for line in refused if "\n" in line]


def test_odd_exif_does_not_spoil_a_good_picture(tmp_path):
    """A width stored with the type of a byte: Pillow's own exif_transpose fails on it with a struct.error."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0100] = 6, 7
    content = encoded("JPEG", exif=exif)
    width = bytes.fromhex("0100 0004 00000001 00000007")
    assert content.count(width) == 1
    path = write(tmp_path / "a.jpg", content.replace(width, bytes.fromhex("0100 0001 00000001 00000007")))
    with Image.open(path) as image, pytest.raises(struct.error):
        ImageOps.exif_transpose(image)
    assert np.array_equal(as_array(read_image(path)), rgb(path).swapaxes(0, 1)[:, ::-1])


# fit


def oracle(picture: np.ndarray, size: int) -> torch.Tensor:
    """The shorter side to `size`, the centre cut out, by torchvision's own reading of both."""
    image = torch.from_numpy(picture).permute(2, 0, 1)
    return transforms.center_crop(transforms.resize(image, [size], antialias=True), [size, size])


@pytest.mark.parametrize(
    ("height", "width"),
    [(24, 36), (36, 24), (8, 8), (7, 13), (13, 7), (1, 1), (64, 17), (33, 33), (1, 8), (31, 32)],
)
@pytest.mark.parametrize("size", [16, 17])
def test_fit_makes_any_picture_a_square(height, width, size):
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    result = fit(torch.from_numpy(picture).permute(2, 0, 1), size)
    assert result.shape == (3, size, size)
    assert result.dtype == torch.uint8
    expected = oracle(picture, size)
    if max(height, width) * size % min(height, width) == 0:  # torchvision cuts off where we round to the nearest
        assert torch.equal(result, expected)


def test_fit_never_brings_in_a_border():
    """Where rounding made a side one pixel too short, the centre crop would fill up with black."""
    for short in range(1, 150):
        for shape in ((short, short + 1), (short + 1, short)):
            assert fit(torch.full((3, *shape), 255, dtype=torch.uint8), 49).min() == 255


def test_fit_leaves_the_right_size_alone():
    image = torch.from_numpy(PIXELS[:24, :24]).permute(2, 0, 1)
    assert fit(image, 24) is image


@pytest.mark.parametrize("turned", [False, True])
def test_fit_cuts_out_the_middle(turned):
    """Three squares side by side, red, green, blue: green stays, in landscape and in portrait."""
    image = torch.eye(3, dtype=torch.uint8).mul(255).repeat_interleave(20, dim=1)[:, None].expand(3, 20, 60)
    image = image.transpose(1, 2) if turned else image
    for size in (20, 10, 40):
        result = fit(image.contiguous(), size)
        inner = result[:, 2:-2, 2:-2]
        assert (inner[1] == 255).all()
        assert (inner[[0, 2]] == 0).all()


def test_fit_shrinks_by_averaging():
    """Antialiasing: a fine checkerboard becomes grey, not black or white."""
    board = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).mul(255).to(torch.uint8).expand(3, 64, 64)
    assert (fit(board, 16).int() - 127).abs().max() <= 2


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (2, 30_001)])
def test_a_strip_costs_no_more_than_its_middle(shape, monkeypatch):
    asked = []
    resize = transforms.resize

    def spy(image, size, **options):
        asked.append(size)
        return resize(image, size, **options)

    monkeypatch.setattr(decode.transforms, "resize", spy)
    image = torch.zeros(3, *shape, dtype=torch.uint8)
    assert fit(image, 32).shape == (3, 32, 32)
    assert max(asked[0]) <= 32 * decode.LONGEST


def test_cutting_a_strip_changes_no_pixel():
    strip = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (3, 6, 600), dtype=np.uint8))
    expected = transforms.center_crop(transforms.resize(strip, [12, 1200], antialias=True), [12, 12])
    assert torch.equal(fit(strip, 12), expected)


# Files that are two things at once, and files without end


@pytest.mark.parametrize("tail", [b"PK\x05\x06" + bytes(18), b"<script>alert(1)</script>", b"%!PS\n", bytes(10**6)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_what_hangs_on_to_an_image_is_not_looked_at(tmp_path, kind, tail):
    content = encoded(kind, Image.fromarray(PIXELS))
    plain, longer = write(tmp_path / "a.jpg", content), write(tmp_path / "b.jpg", content + tail)
    assert torch.equal(read_image(plain), read_image(longer))


def test_of_an_animation_without_end_one_frame_is_decoded(tmp_path):
    frames = [Image.new("P", (40, 30), number % 7) for number in range(300)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    path = write(tmp_path / "a.gif", stream.getvalue())
    began = time.process_time()
    assert read_image(path).shape == (3, 30, 40)
    assert time.process_time() - began < 1


def test_text_that_inflates_inside_a_png(tmp_path):
    """A chunk of 100 kB that holds a comment of 100 MB; a bomb in what Pillow would rather not read at all."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    content = encoded("PNG", Image.fromarray(PIXELS))
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**8)))
    path = write(tmp_path / "a.png", content[:33] + bomb + content[33:])
    before = peak_memory()
    with contextlib.suppress(LabError):
        read_image(path)
    assert peak_memory() - before < 20 << 20


def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(LabError, match="has 0 bytes"):
        read_image(tmp_path / "a.jpg")
