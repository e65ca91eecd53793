"""Image file containers: recognize the format, drop metadata, read the orientation, and count the scans of a JPEG.

Damaged or hostile metadata makes Pillow fail or use unlimited time and memory, so metadata is removed first.
"""

import re
import struct
import zlib
from dataclasses import dataclass

MAGIC = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
    "BMP": re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),  # with the size of its second header
    "TIFF": re.compile(rb"II[*+]\0|MM\0\*|II\0\*|MM\*\0"),  # Pillow reads the last two, which are invalid, too
    "HEIF": re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL),
    "AVIF": re.compile(rb".{4}ftypavi[fs]", re.DOTALL),
}
RAW = "a raw camera file"
OTHER_MAGIC = {
    RAW: re.compile(rb".{4}ftypcrx |FUJIFILMCCD|IIU\0|IIR[OS]", re.DOTALL),
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "),
    "JPEG 2000": re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    "big-endian BigTIFF": re.compile(rb"MM\0\+"),
    "PSD": re.compile(rb"8BPS\0"),
}
RAW_SUFFIXES = frozenset(".dng .nef .nrw .cr2 .cr3 .arw .srf .orf .rw2 .raf .pef .srw .raw".split())
MAGIC_BYTES = 18
MAX_PROFILE_BYTES = 2**18  # of a compressed EXIF block
MAX_TAG_BYTES = 2**20  # per tag: offsets of 250,000 strips
MAX_TAGS = 2**12
ORIENTATION = 274
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
UNIT_BYTES = dict(zip(range(1, 19), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8), strict=True))
PIXEL_TAGS = frozenset(
    {*range(256, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, 320, *range(322, 326), 332, 338, 339, 347}
    | {*range(512, 522), *range(529, 533), 50674}
)

MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xef\xfe]")
END_OF_IMAGE, START_OF_SCAN, APP1 = 0xD9, 0xDA, 0xE1
PIXEL_MARKERS = {*range(0xC0, 0xE0), 0xE0, 0xEE}  # JFIF and Adobe decide about the colors
PIXEL_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")


@dataclass(frozen=True)
class Content:
    """A file without metadata, its EXIF orientation from 1 to 8, and its number of scans (JPEG; others have 1)."""

    data: bytes
    orientation: int = 1
    scans: int = 1


def recognize(head: bytes) -> str | None:
    """Return Pillow's name of an image format that can be read (a key of MAGIC), from a file's first bytes, or None."""
    return next((name for name, magic in MAGIC.items() if magic.match(head)), None)


def recognize_other(head: bytes) -> str | None:
    """Return the name of an image format that is not read, such as JPEG XL, from a file's first bytes, or None."""
    return next((name for name, magic in OTHER_MAGIC.items() if magic.match(head)), None)


def strip(data: bytes, kind: str) -> Content:
    """Drop everything but the pixels from a file of the format `kind`; raise a ValueError if it cannot be parsed."""
    parsers = {"JPEG": _strip_jpeg, "PNG": _strip_png, "WEBP": _strip_webp, "GIF": _strip_gif, "TIFF": _strip_tiff}
    try:
        return parsers[kind](data) if kind in parsers else Content(data)
    except (struct.error, IndexError) as error:
        raise ValueError("the file is truncated or damaged") from error


def _strip_jpeg(data: bytes) -> Content:
    parts, exif, xmp, scans, position = [data[:2]], b"", b"", 0, 2
    while (marker := MARKER.search(data, position)) and (code := data[marker.end() - 1]) != END_OF_IMAGE:
        start = marker.end()
        position = start + max(2, int.from_bytes(data[start : start + 2], "big"))
        if code == START_OF_SCAN:
            if not scans:
                parts.append(data[marker.start() :])
            scans += 1
        elif not scans and code in PIXEL_MARKERS:
            parts.append(data[marker.start() : position])
        elif code == APP1 and data.startswith(b"Exif\0\0", start + 2):
            exif = exif or data[start + 2 : position]
        elif code == APP1 and data.startswith(b"http://ns.adobe.com/xap/", start + 2):
            xmp = xmp or data[start + 2 : position]
    return Content(b"".join(parts), read_orientation(exif, xmp), scans)


def _strip_png(data: bytes) -> Content:
    parts, exif, xmp, position = [data[:8]], b"", b"", 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if not kind[0] & 0x20:  # critical chunks have an upper-case letter
            parts.append(data[position:end])
        elif kind == b"eXIf":
            exif = data[position + 8 : end - 4]
        elif kind in (b"tEXt", b"zTXt") and data.startswith(b"Raw profile type exif\0", position + 8):
            exif = exif or _raw_profile(data[position + 30 : end - 4], kind == b"zTXt")
        elif kind == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0", position + 8):
            xmp = data[position + 8 : end - 4]
        position = end
        if kind == b"IEND":
            break
    return Content(b"".join(parts), read_orientation(exif, xmp))


def _raw_profile(text: bytes, compressed: bool) -> bytes:
    """Return the EXIF block that ImageMagick stores in a PNG text chunk as hexadecimal digits; b"" if invalid."""
    try:
        text = zlib.decompressobj().decompress(text[1:], MAX_PROFILE_BYTES) if compressed else text[:MAX_PROFILE_BYTES]
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except (zlib.error, ValueError):
        return b""


def _strip_webp(data: bytes) -> Content:
    parts, exif, xmp, position = [], b"", b"", 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length + length % 2
        if kind in PIXEL_CHUNKS:
            parts.append(data[position:end])
        elif kind == b"EXIF":
            exif = data[position + 8 : end]
        elif kind == b"XMP ":
            xmp = data[position + 8 : end]
        position = end
    pixels = b"WEBP" + b"".join(parts)
    return Content(b"RIFF" + struct.pack("<I", len(pixels)) + pixels, read_orientation(exif, xmp))


def _strip_gif(data: bytes) -> Content:
    """Remove all extensions before the first image except graphic control extensions, which store transparency."""
    position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    parts = [data[:position]]
    while data[position] != 0x2C:  # until the first image
        start, position = position, position + 1
        if data[start] != 0x21:  # not an extension either
            continue
        position += 1
        while data[position]:
            position += data[position] + 1
        position += 1
        if data[start + 1] == 0xF9:
            parts.append(data[start:position])
    return Content(b"".join([*parts, data[position:]]))


def _strip_tiff(data: bytes) -> Content:
    """Append a TIFF directory with only the tags in PIXEL_TAGS, and make it the file's first directory."""
    order, entry, entries = _read_directory(data)
    is_big = entry.size == 20
    tags = {tag: (tag, kind, count, value) for tag, kind, count, value in entries if tag in PIXEL_TAGS}
    for tag, kind, count, _ in tags.values():
        if count * UNIT_BYTES.get(kind, 0) > MAX_TAG_BYTES:
            raise ValueError(f"TIFF tag {tag} has {count} values")
    rows = b"".join(entry.pack(*tags[tag]) for tag in sorted(tags))
    start = len(data) + len(data) % 2
    header = data[:8] + struct.pack(f"{order}Q", start) if is_big else data[:4] + struct.pack(f"{order}I", start)
    count, end = ("Q", bytes(8)) if is_big else ("H", bytes(4))
    directory = bytes(start - len(data)) + struct.pack(f"{order}{count}", len(tags)) + rows + end
    changed = b"".join((header, memoryview(data)[len(header) :], directory))
    return Content(changed, _directory_orientation(order, entries) or 1)


def describe_tiff(data: bytes) -> str:
    """Return the kind of a TIFF file's pixels, such as `: 3 channels of 32-bit float values`, or "" if damaged."""
    try:
        order, _, entries = _read_directory(data)
        tags = {tag: (kind, count, value) for tag, kind, count, value in entries}
        bits, form = (_first(data, order, *tags.get(tag, (3, 1, struct.pack(f"{order}H", 1)))) for tag in (258, 339))
        channels = _first(data, order, *tags.get(277, (3, 1, struct.pack(f"{order}H", 1))))
    except (struct.error, ValueError, OverflowError):
        return ""
    name = {1: "integers", 2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}
    return f": {channels} channel{'s' * (channels != 1)} of {bits}-bit {name.get(form, 'values')}"


def _first(data: bytes, order: str, kind: int, count: int, value: bytes) -> int:
    """Return the first value of a TIFF entry of integers, which is elsewhere in the file if the values do not fit."""
    form = {1: "B", 4: "I", 16: "Q"}.get(kind, "H")
    if count * UNIT_BYTES.get(kind, 1) <= len(value):
        return struct.unpack_from(order + form, value)[0]
    (offset,) = struct.unpack(order + ("Q" if len(value) == 8 else "I"), value)
    return struct.unpack_from(order + form, data, offset)[0]


Entry = tuple[int, int, int, bytes]


def _read_directory(data: bytes) -> tuple[str, struct.Struct, list[Entry]]:
    """Return the first TIFF directory: byte order, `Struct` of an entry, and (tag, type, count, value) per entry."""
    if recognize(data[:MAGIC_BYTES]) != "TIFF":
        raise ValueError("the TIFF header is invalid")
    order, is_big = "<" if data[:2] == b"II" else ">", b"+" in data[2:4]
    entry = struct.Struct(f"{order}HHQ8s" if is_big else f"{order}HHI4s")
    offset, number = ("Q", "Q") if is_big else ("I", "H")
    (start,) = struct.unpack_from(f"{order}{offset}", data, 8 if is_big else 4)
    (count,) = struct.unpack_from(f"{order}{number}", data, start)
    first = start + struct.calcsize(f"{order}{number}")
    rows = (first + index * entry.size for index in range(min(count, MAX_TAGS)))
    return order, entry, [entry.unpack_from(data, row) for row in rows if row + entry.size <= len(data)]


def _directory_orientation(order: str, entries: list[Entry]) -> int:
    """Return the orientation (1 to 8) in the entries of a TIFF directory, or 0 if it is missing or invalid."""
    for tag, kind, _, value in entries:
        if tag == ORIENTATION:
            code = struct.unpack_from(order + {4: "I", 1: "B"}.get(kind, "H"), value)[0]
            return code if 1 <= code <= 8 else 0
    return 0


def read_orientation(exif: bytes, xmp: bytes = b"") -> int:
    """Return the orientation (1 to 8) in an EXIF block, else in an XMP block; 1 if both are missing or damaged."""
    try:
        order, _, entries = _read_directory(re.sub(rb"^(Exif\0\0)+", b"", exif))
        orientation = _directory_orientation(order, entries)
    except (ValueError, struct.error, OverflowError):
        orientation = 0
    match = XMP_ORIENTATION.search(xmp)
    return orientation or (int(match[1]) if match else 1)
