"""Image files: valid, damaged, odd and hostile ones."""

import contextlib
import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps
from torchvision.transforms.v2 import functional as transforms

from scenelab.data import decode, pixels
from scenelab.data.decode import fit, read_image
from scenelab.errors import LabError
from scenelab.runtime import peak_memory

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
FORMATS = {"a.jpg": "JPEG", "a.png": "PNG", "a.webp": "WEBP", "a.gif": "GIF"}
MODES = {"JPEG": "RGB L CMYK YCbCr", "PNG": "RGB 1 L LA P RGBA", "WEBP": "RGB RGBA", "GIF": "RGB 1 L P"}
MODES |= {"BMP": "RGB 1 L P", "TIFF": "RGB 1 L LA P RGBA CMYK"}


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


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes.split()])
@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_every_format_and_mode_becomes_rgb_whatever_its_name(tmp_path, kind, mode, suffix):
    path = write(tmp_path / f"a{suffix}", encoded(kind, Image.fromarray(PIXELS).convert(mode)))
    assert np.array_equal(as_array(read_image(path)), rgb(path))


GRAY = PIXELS[..., :1].repeat(3, axis=2)
CLEAR = Image.fromarray(np.dstack([PIXELS, np.zeros_like(PIXELS[..., 0])]))
EXACT = {
    "png": (encoded("PNG"), PIXELS),
    "lossless webp": (encoded("WEBP", lossless=True), PIXELS),
    "16 bits become 8": (encoded("PNG", Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)), GRAY),
    "alpha is dropped, not blended": (encoded("PNG", CLEAR), PIXELS),
}


@pytest.mark.parametrize(("content", "expected"), EXACT.values(), ids=EXACT)
def test_lossless_files_are_decoded_exactly(tmp_path, content, expected):
    assert np.array_equal(as_array(read_image(write(tmp_path / "a", content))), expected)


LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)
FLOATS = LEVELS / np.float32(255)
NEGATIVE, TAGS = (LEVELS - 128.0).astype(np.float32), {"bits": 258, "photometric": 262, "format": 339}
DEEP = {
    "floats from 0 to 1": (FLOATS, {}),
    "floats from 0 to 1 with an overshoot": (np.where(LEVELS == 255, 1.05, FLOATS - (LEVELS == 0) / 20), {}),
    "floats from 0 to 255": (LEVELS.astype(np.float32), {}),
    "floats from 0 to 65,535": (LEVELS * np.float32(257), {}),
    "floats of which 0 is white": (1 - FLOATS, {"photometric": 0}),
    "8 bits in 32": (LEVELS.astype(np.int32), {}),
    "16 bits in 32": (LEVELS * np.int32(257), {}),
    "signed 32 bits": (LEVELS.astype(np.int32) << 23, {}),
    "unsigned 32 bits": ((LEVELS * np.uint32(16_843_009)).view(np.int32), {"format": 1}),
    "16 bits": (LEVELS * np.uint16(257), {}),
    "16 bits, most significant byte first": ((LEVELS * np.uint16(257)).astype(">u2"), {}),
    "16 bits of which 0 is white": (65_535 - LEVELS * np.uint16(257), {"photometric": 0}),
    "signed 16 bits": (LEVELS * np.uint16(128), {}),
    "signed 8 bits": (LEVELS // 2, {}),
    "signed 8 bits, negative": (LEVELS, "its gray values go from 0 to 255; expected 0 to 127"),
    "constant black": (np.zeros((16, 16), np.float32), {}),
    "negative floats": (NEGATIVE, "its gray values go from -128 to 127; expected 0 to 1, 0 to 255, 0 to 65535"),
    "floats from 0 to 2.5": (FLOATS * np.float32(2.5), "its gray values go from 0 to 2.5; expected 0 to 1"),
    "negative integers": (NEGATIVE.astype(np.int32), "its gray values go from -128 to 127; expected 0 to 255"),
    "NaN": (np.where(LEVELS == 9, np.float32(np.nan), FLOATS), "it has gray values that are not finite"),
    "infinity": (np.where(LEVELS == 9, np.float32(np.inf), FLOATS), "its gray values go from 0 to inf"),
}


UNSIGNED = ("signed 16 bits", "signed 8 bits", "signed 8 bits, negative")  # as Pillow writes them


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_adobe_deflate"}], ids=["plain", "compressed"])
@pytest.mark.parametrize("name", DEEP)
def test_deep_gray_values_are_scaled_by_their_range_or_refused_by_name(tmp_path, name, options):
    values, tags = DEEP[name]
    image = Image.fromarray(values if values.dtype != np.float64 else values.astype(np.float32))
    content = encoded("TIFF", image, **options, tiffinfo={TAGS["format"]: 2} if name in UNSIGNED else {})
    for tag, value in tags.items() if isinstance(tags, dict) else ():
        place = struct.pack("<HHI", TAGS[tag], 3, 1)
        assert content.count(place) == 1
        start = content.index(place) + len(place)
        content = content[:start] + struct.pack("<I", value) + content[start + 4 :]
    path = write(tmp_path / "a.tif", content)
    if isinstance(tags, str):
        with pytest.raises(LabError, match=tags):
            read_image(path)
        return
    expected = np.zeros_like(LEVELS) if "black" in name else LEVELS
    tolerance = "overshoot" in name or name == "signed 8 bits"
    assert np.abs(as_array(read_image(path)).astype(int) - expected[..., None]).max() <= tolerance


SAMPLES = np.zeros((48, 64, 3), np.uint8)
SAMPLES[:24, :32] = [250, 0, 0]


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (6, (0, -1)), (3, (-1, -1)), (8, (-1, 0))])
def test_phone_images_are_upright(tmp_path, kind, orientation, corner):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = as_array(read_image(write(tmp_path / "a", encoded(kind, Image.fromarray(SAMPLES), exif=exif.tobytes()))))
    assert pixels.shape == ((48, 64, 3) if orientation in (1, 3) else (64, 48, 3))
    red = {place: int(pixels[place][0]) > 200 for place in ((0, 0), (0, -1), (-1, 0), (-1, -1))}
    assert red == {place: place == corner for place in red}


def test_a_heic_image_names_the_extra_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = write(tmp_path / "a.heic", b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(LabError, match=r'reading HEIC images needs pillow_heif; .*pip install "scenelab\[heic\]"'):
        read_image(path)


@pytest.mark.parametrize("name", ["a.NEF", "a.dng"])
def test_a_raw_file_is_refused_although_its_thumbnail_could_be_read(tmp_path, name):
    path = write(tmp_path / name, encoded("TIFF"))
    with pytest.raises(LabError, match="is a raw camera file, which is not read; convert it to JPEG or PNG$"):
        read_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path / "a", encoded(kind, exif=exif))
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    image = as_array(read_image(path))
    assert np.array_equal(image, expected)
    assert image.shape[:2] == ((36, 24) if orientation > 4 else (24, 36))


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.fromarray(np.full((8, 9, 3), level, np.uint8)) for level in [10] + [200, 90] * 100]
    for name in ("a.gif", "a.png", "a.webp"):
        content = encoded(FORMATS[name], frames[0], save_all=True, append_images=frames[1:])
        image = read_image(write(tmp_path / name, content))
        assert image.shape == (3, 8, 9)
        assert (image.int() - 10).abs().max() <= 2


OTHERS = {
    "byte": b"x",
    "text": b"hello world " * 40,
    "zeros": bytes(1000),
    "PostScript header": b"%!PS-Adobe-3.0 EPSF-3.0\n%%EOF\n",
    "EPS, for which Pillow runs Ghostscript": encoded("EPS"),
}
OTHERS |= {
    f"{share:.0%} of {kind}": encoded(kind)[: int(len(encoded(kind)) * share)]
    for kind in FORMATS.values()
    for share in (0.3, 0.6, 0.95)
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_truncated_or_other_file_is_refused_in_one_line(tmp_path, name, monkeypatch):
    """Also when another package, such as WeasyPrint, makes Pillow fill truncated images with gray in this process."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = write(tmp_path / "a.jpg", OTHERS[name])
    cause = r"(cannot be decoded \(.*\)|is not an image file)" if "%" in name else "is not an image file"
    with pytest.raises(LabError, match=f"^image {path} {cause}; replace it or remove it from the list$"):
        read_image(path)


@pytest.mark.parametrize(("size", "limit"), [(0, pixels.MAX_FILE_BYTES), (11, 10)])
def test_an_empty_or_huge_file_is_not_read(tmp_path, monkeypatch, size, limit):
    monkeypatch.setattr(pixels, "MAX_FILE_BYTES", limit)
    with pytest.raises(LabError, match=f"has {size} bytes; expected 1 to {limit}$"):
        read_image(write(tmp_path / "a.jpg", bytes(size)))


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path):
    path = tmp_path / "a.jpg"
    with pytest.raises(LabError) as caught:
        read_image(path)
    assert str(caught.value) == f"image {path} cannot be read: No such file or directory"
    path.mkdir()
    with pytest.raises(LabError, match=r"a\.jpg cannot be read: Is a directory$"):
        read_image(path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(LabError, match="has 0 bytes"):
        read_image(tmp_path / "pipe.jpg")


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_that_claims(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(10))) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        *(
            (width, height, "expected at most 100,000,000 pixels")
            for width, height in ((60_000, 60_000), (12_000, 10_000), (1, 2**31 - 1))
        ),
        (9_500, 10_000, "truncated"),  # Pillow warns from 89 million pixels on; we do not
    ],
)
def test_a_small_file_that_claims_a_huge_size_is_refused(tmp_path, width, height, message):
    path = write(tmp_path / "a.png", png_that_claims(width, height))
    assert path.stat().st_size < 100
    with pytest.raises(LabError, match=message):
        read_image(path)


def test_odd_exif_does_not_prevent_decoding(tmp_path):
    """A width with the type of a byte makes Pillow's own exif_transpose raise struct.error."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0100] = 6, 7
    content = encoded("JPEG", exif=exif)
    width = bytes.fromhex("0100 0004 00000001 00000007")
    assert content.count(width) == 1
    path = write(tmp_path / "a.jpg", content.replace(width, bytes.fromhex("0100 0001 00000001 00000007")))
    with Image.open(path) as image, pytest.raises(struct.error):
        ImageOps.exif_transpose(image)
    assert np.array_equal(as_array(read_image(path)), rgb(path).swapaxes(0, 1)[:, ::-1])


@pytest.mark.parametrize(
    ("height", "width"), [(24, 36), (36, 24), (8, 8), (7, 13), (13, 7), (1, 1), (64, 17), (33, 33), (1, 8), (6, 600)]
)
@pytest.mark.parametrize("size", [12, 16, 17])
def test_fit_returns_a_square_like_torchvision(height, width, size):
    """The shorter side is resized and the center cropped; a strip is cropped first, which changes no pixel."""
    array = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = torch.from_numpy(array).permute(2, 0, 1)
    result = fit(image, size)
    assert result.shape == (3, size, size)
    assert result.dtype == torch.uint8
    if max(height, width) * size % min(height, width) == 0:  # torchvision truncates, we round
        expected = transforms.center_crop(transforms.resize(image, [size], antialias=True), [size, size])
        assert torch.equal(result, expected)


def test_fit_never_adds_a_border_and_keeps_an_image_of_the_right_size():
    """If rounding made a side one pixel too short, the center crop would pad with black."""
    for short in range(1, 150):
        for shape in ((short, short + 1), (short + 1, short)):
            assert fit(torch.full((3, *shape), 255, dtype=torch.uint8), 49).min() == 255
    image = torch.from_numpy(PIXELS[:24, :24]).permute(2, 0, 1)
    assert fit(image, 24) is image


@pytest.mark.parametrize("turned", [False, True])
def test_fit_crops_the_center_and_is_antialiased(turned):
    """Of a red, a green and a blue square side by side the green one remains; a fine checkerboard becomes gray."""
    image = torch.eye(3, dtype=torch.uint8).mul(255).repeat_interleave(20, dim=1)[:, None].expand(3, 20, 60)
    image = image.transpose(1, 2) if turned else image
    for size in (20, 10, 40):
        inner = fit(image.contiguous(), size)[:, 2:-2, 2:-2]
        assert (inner[1] == 255).all()
        assert (inner[[0, 2]] == 0).all()
    board = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).mul(255).to(torch.uint8).expand(3, 64, 64)
    assert (fit(board, 16).int() - 127).abs().max() <= 2


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (2, 30_001)])
def test_a_strip_is_cropped_before_it_is_resized(shape, monkeypatch):
    sizes = []
    interpolate = decode.F.interpolate

    def spy(images, size, **options):
        sizes.append(size)
        return interpolate(images, size, **options)

    monkeypatch.setattr(decode.F, "interpolate", spy)
    image = torch.zeros(3, *shape, dtype=torch.uint8)
    assert fit(image, 32).shape == (3, 32, 32)
    assert max(sizes[0]) <= 32 * decode.MAX_ASPECT


@pytest.mark.parametrize("tail", [b"PK\x05\x06" + bytes(18), b"<script>alert(1)</script>", b"%!PS\n", bytes(10**6)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_bytes_after_the_image_are_ignored(tmp_path, kind, tail):
    content = encoded(kind, Image.fromarray(PIXELS))
    plain, longer = write(tmp_path / "a.jpg", content), write(tmp_path / "b.jpg", content + tail)
    assert torch.equal(read_image(plain), read_image(longer))


def test_a_decompression_bomb_in_a_png_comment_is_not_inflated(tmp_path):
    """A chunk of 100 kB holds a comment of 100 MB."""
    content = encoded("PNG", Image.fromarray(PIXELS))
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**8)))
    path = write(tmp_path / "a.png", content[:33] + bomb + content[33:])
    before = peak_memory()
    with contextlib.suppress(LabError):
        read_image(path)
    assert peak_memory() - before < 20 << 20


def tiff_of(bits: int, form: int, channels: int = 1, order: str = "<") -> bytes:
    """Return a TIFF file of one pixel; several values of a tag are behind the directory."""
    end = 8 + 2 + 9 * 12 + 4
    place = struct.pack(f"{order}I", end) if channels > 2 else struct.pack(f"{order}2H", bits, bits)
    values = {256: 1, 257: 1, 259: 1, 262: 2 if channels > 2 else 1, 273: end + 16, 277: channels, 278: 1}
    rows = [(tag, 1, struct.pack(f"{order}H2x", value)) for tag, value in values.items()]
    rows += [(258, channels, place), (339, 1, struct.pack(f"{order}H2x", form))]
    directory = b"".join(struct.pack(f"{order}HHI", tag, 3, count) + value for tag, count, value in sorted(rows))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 9)
    return head + directory + bytes(4) + struct.pack(f"{order}8H", *[bits] * 8) + bytes(64)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("bits", "form", "channels", "kind"),
    [
        (16, 3, 1, "1 channel of 16-bit floats"),
        (64, 3, 1, "1 channel of 64-bit floats"),
        (32, 3, 3, "3 channels of 32-bit floats"),
        (32, 1, 3, "3 channels of 32-bit integers"),
        (64, 6, 1, "1 channel of 64-bit complex floats"),
    ],
)
def test_a_tiff_file_that_pillow_does_not_know_is_refused_by_its_kind(tmp_path, bits, form, channels, kind, order):
    path = write(tmp_path / "a.tif", tiff_of(bits, form, channels, order))
    with pytest.raises(LabError, match=rf"cannot be decoded \(damaged or an unknown kind of TIFF: {kind}\)"):
        read_image(path)


def test_a_url_is_no_file():
    with pytest.raises(LabError, match=r"^image is the URL https://x/y\.jpg; expected a file, download it first$"):
        read_image(Path("https://x/y.jpg"))
