"""Metadata around the pixels of an image file: damaged, huge or hostile ones change neither pixels nor resources."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from scenelab.data import pixels
from scenelab.data.pixels import read_pixels
from scenelab.errors import LabError
from scenelab.runtime import peak_memory

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
TURNED = PIXELS.swapaxes(0, 1)[:, ::-1]  # upright if the orientation is 6
MIB = 1 << 20


def encoded(kind: str, image: np.ndarray = PIXELS, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int = 6, order: str = "<", kind: int = 3) -> bytes:
    value = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I"}[kind], orientation)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 1)
    return b"Exif\0\0" + head + struct.pack(f"{order}HHI", 274, kind, 1) + value + bytes(4)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(chunk: bytes) -> bytes:
    content = encoded("PNG")
    return content[:33] + chunk + content[33:]


def with_segment(marker: int, content: bytes) -> bytes:
    file = encoded("JPEG")
    return file[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + file[2:]


def with_extension(content: bytes) -> bytes:
    file = encoded("GIF")
    start = file.index(b"\x2c\0\0\0\0")
    return file[:start] + b"!\xfe" + content + b"\0" + file[start:]


def tiff(tags: list[tuple[int, int, int, int]], data: bytes = bytes(64)) -> bytes:
    """An 8×8 gray image whose pixels are at byte 8."""
    plain = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, 8)]
    entries = {entry[0]: entry for entry in (*plain, (279, 4, 1, 64), *tags)}
    rows = b"".join(struct.pack("<HHII", *entries[tag]) for tag in sorted(entries))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries)) + rows + bytes(4)


def read(tmp_path, content: bytes) -> np.ndarray:
    path = tmp_path / "image"
    path.write_bytes(content)
    return read_pixels(path)


GARBAGE = {
    "nothing": b"",
    "text": b"garbage",
    "zeros": bytes(40),
    "a pointer out of the block": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "a directory that ends early": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    "an orientation of 9": exif(9),
    "65,535 entries of 4 GB": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 1, 1, 2**32 - 1, 0) * 500,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_exif_leaves_the_pixels_as_they_are(tmp_path, garbage):
    for kind in ("PNG", "WEBP", "JPEG"):
        plain = encoded(kind, lossless=True) if kind == "WEBP" else encoded(kind)
        damaged = with_chunk(png_chunk(b"eXIf", garbage.removeprefix(b"Exif\0\0")))
        if kind == "WEBP":
            damaged = encoded(kind, lossless=True, exif=garbage or b"x")
        elif kind == "JPEG":
            damaged = with_segment(0xE1, garbage)
        assert np.array_equal(read(tmp_path, damaged), read(tmp_path, plain))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_the_orientation_is_read_in_both_byte_orders_and_every_integer_type(tmp_path, order, kind):
    block = exif(6, order, kind)
    for content in (
        encoded("PNG", exif=block),
        encoded("WEBP", exif=block, lossless=True),
        encoded("PNG", exif=b"Exif\0\0" + block),
    ):
        assert np.array_equal(read(tmp_path, content), TURNED)
    assert read(tmp_path, with_segment(0xE1, block)).shape == TURNED.shape


def test_xmp_and_imagemagick_profiles_hold_an_orientation_too(tmp_path):
    xmp = b'<x tiff:Orientation="6"/>'
    profile = b"\nexif\n      34\n" + exif().hex().encode() + b"\n"
    contents = (
        with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp),
        with_chunk(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
        with_chunk(png_chunk(b"tEXt", b"Raw profile type exif\0" + profile)),
        with_chunk(png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile))),
        encoded("WEBP", xmp=xmp),
    )
    assert all(read(tmp_path, content).shape == TURNED.shape for content in contents)


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"big_tiff": True}])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once(tmp_path, orientation, options):
    tag = Image.Exif()
    tag[274] = orientation
    expected = read(tmp_path, encoded("PNG", exif=tag))
    assert np.array_equal(read(tmp_path, encoded("TIFF", exif=tag, **options)), expected)


BROKEN_CHUNKS = {
    "a wrong checksum": png_chunk(b"eXIf", b"x")[:-1] + b"\0",
    "an unknown compression of the color profile": png_chunk(b"iCCP", b"x\0\x09x"),
    "a color profile that is a bomb": png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(10**8))),
    "a short gamma": png_chunk(b"gAMA", b"x"),
    "a short pixel size": png_chunk(b"pHYs", b"x"),
    "an animation of no frames": png_chunk(b"acTL", bytes(8)) + png_chunk(b"fcTL", bytes(26)),
    "600 comments of 1 MB": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**6))) * 600,
    "an international comment that is a bomb": png_chunk(b"iTXt", b"x\0\1\0\0\0" + zlib.compress(bytes(10**8))),
}


@pytest.mark.parametrize("chunk", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_damaged_or_hostile_chunks_of_a_png_are_ignored(tmp_path, chunk):
    before = peak_memory()
    assert np.array_equal(read(tmp_path, with_chunk(chunk)), PIXELS)
    assert peak_memory() - before < 20 * MIB


@pytest.mark.parametrize(
    "segment", [(0xE2, b"ICC_PROFILE\0\1\1junk"), (0xE2, b"MPF\0junk"), (0xED, b"Photoshop 3.0\0x")]
)
def test_damaged_segments_of_a_jpeg_are_ignored(tmp_path, segment):
    assert np.array_equal(read(tmp_path, with_segment(*segment)), read(tmp_path, encoded("JPEG")))


def test_the_first_image_of_a_camera_with_two_lenses_is_read(tmp_path):
    second = Image.fromarray(255 - PIXELS)
    content = encoded("MPO", save_all=True, append_images=[second])
    assert np.array_equal(read(tmp_path, content), read(tmp_path, encoded("JPEG")))


def test_a_gif_comment_is_not_copied_again_for_each_of_its_blocks(tmp_path, monkeypatch):
    """Pillow would take seconds for 4 MB and minutes for 20 MB; the decoder sees no comment at all."""
    seen = []
    decode = pixels._decode
    monkeypatch.setattr(pixels, "_decode", lambda content, kind: seen.append(content) or decode(content, kind))
    plain, content = encoded("GIF"), with_extension((b"\xff" + bytes(255)) * 16_000)
    assert np.array_equal(read(tmp_path, content), read(tmp_path, plain))
    assert len(seen[0].data) == len(seen[1].data) < len(plain) + 30


def test_a_gif_frame_outside_the_screen_is_read(tmp_path):
    content = encoded("GIF")
    smaller = content[:6] + struct.pack("<HH", 1, 1) + content[10:]
    assert np.array_equal(read(tmp_path, smaller), read(tmp_path, content))


TIFFS = {
    "20,000 tags of 1 MB each": ([(30_000 + tag, 1, 10**6, 8) for tag in range(4000)], None),
    "a million strips": ([(273, 4, 10**6, 8)], r"TIFF tag 273 has 1000000 values"),
    "a strip of 4 GB": ([(259, 3, 1, 5), (279, 4, 1, 2**32 - 1)], "decoder error"),
    "a tile of 2 billion pixels": (
        [(322, 4, 1, 2**27), (323, 4, 1, 16), (324, 4, 1, 8)],
        r"its tiles are 134217728×16",
    ),
    "a width of 4 billion": ([(256, 4, 1, 2**32 - 1)], "pixels|bomb"),
    "no width": ([(256, 4, 1, 0)], "damaged or an unknown kind of TIFF"),
    "pixels of 64 bits": ([(258, 3, 1, 64), (339, 3, 1, 3)], "damaged or an unknown kind of TIFF"),
    "five colors": ([(258, 3, 1, 8), (277, 3, 1, 5)], "damaged or an unknown kind of TIFF"),
}


@pytest.mark.parametrize(("tags", "message"), TIFFS.values(), ids=TIFFS)
def test_a_tiff_with_absurd_tags_is_read_without_them_or_refused_by_name(tmp_path, tags, message):
    before, content = peak_memory(), tiff(tags, bytes(64) + bytes(10**6))
    if message is None:
        assert read(tmp_path, content).shape == (8, 8, 3)
    else:
        with pytest.raises(LabError, match=message):
            read(tmp_path, content)
    assert peak_memory() - before < 40 * MIB


def with_scans(count: int, side: int) -> bytes:
    """A progressive JPEG of one color that repeats its last scan."""
    content = encoded("JPEG", np.full((side, side, 3), 90, np.uint8), progressive=True)
    start, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    return content[:end] + content[start:end] * (count - content.count(b"\xff\xda")) + b"\xff\xd9"


def test_scans_times_pixels_of_a_jpeg_are_bounded(tmp_path, monkeypatch):
    assert read(tmp_path, with_scans(400, 64)).shape == (64, 64, 3)
    monkeypatch.setattr(pixels, "MAX_SCAN_PIXELS", 400 * 64 * 64 - 1)
    with pytest.raises(LabError, match=r"\(it has 400 scans of 64×64 pixels; expected at most 399\)"):
        read(tmp_path, with_scans(400, 64))


def test_scans_are_counted_in_the_image_only(tmp_path, monkeypatch):
    """The EXIF block of a photo holds a thumbnail with scans of its own, and a video may follow the image."""
    monkeypatch.setattr(pixels, "MAX_SCAN_PIXELS", PIXELS[..., 0].size * 1)
    content = with_segment(0xE1, b"Exif\0\0" + with_scans(30, 8)) + with_scans(30, 8) + b"\xff\xda" * 50
    assert np.array_equal(read(tmp_path, content), read(tmp_path, encoded("JPEG")))


@pytest.mark.parametrize(("kind", "limit"), [("WEBP", 40_000_000), ("PNG", 100_000_000)])
def test_pixels_are_bounded_per_format(tmp_path, monkeypatch, kind, limit):
    assert pixels.MAX_PIXELS.get(kind, pixels.MAX_OTHER_PIXELS) == limit
    monkeypatch.setitem(pixels.MAX_PIXELS, kind, PIXELS[..., 0].size - 1)
    with pytest.raises(LabError, match=r"\(it is 36×24; expected at most 863 pixels and 1,000,000 per side\)"):
        read(tmp_path, encoded(kind))


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "P"), ("TIFF", "RGBA"), ("WEBP", "RGB")]
)
def test_large_images_are_halved(tmp_path, monkeypatch, kind, mode):
    monkeypatch.setattr(pixels, "BAND_PIXELS", 36 * 7)
    image = np.asarray(Image.fromarray(PIXELS).resize((36, 25), Image.Resampling.BICUBIC))
    content = io.BytesIO()
    Image.fromarray(image).convert(mode).save(content, kind)
    full = read(tmp_path, content.getvalue())
    monkeypatch.setattr(pixels, "FULL_PIXELS", 36 * 25 - 1)
    half = read(tmp_path, content.getvalue())
    assert half.shape == (13, 18, 3)
    means = full[:24].reshape(12, 2, 18, 2, 3).mean(axis=(1, 3))
    error = np.abs(half[:12] - means)
    assert error.mean() < 20 if kind == "JPEG" else error.max() <= 1  # a JPEG has fewer color samples


def test_a_wide_compressed_bmp_needs_memory_in_proportion(tmp_path):
    """Each of its two-byte jumps may skip 255 rows."""
    head = struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 1078, 40, 50_000_000, 2, 1, 8, 1, 0, 0, 0, 256, 0)
    before = peak_memory()
    with pytest.raises(LabError, match="it is 50000000×2; expected"):
        read(tmp_path, b"BM" + head + bytes(1024) + b"\0\2\xff\xff" * 10)
    assert peak_memory() - before < 20 * MIB


OTHERS = {
    "a raw camera file": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "JPEG XL": b"\xff\x0a\xfa\x1f\x28",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "PSD": b"8BPS\0\1",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_named(tmp_path, name):
    with pytest.raises(LabError, match=rf"image .*/image is {name}, which is not read; convert it to JPEG or PNG$"):
        read(tmp_path, OTHERS[name] + bytes(40))
