"""Checkpoints by hand: instructions of a pickle, and the two kinds of file around them."""

import pickle
import struct
import zipfile
from pathlib import Path

import torch
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION


def name(module: str, what: str) -> bytes:
    return f"c{module}\n{what}\n".encode()


def whole(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    digits = pickle.encode_long(value)
    return b"\x8a" + bytes([len(digits)]) + digits


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def row(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + row(*arguments) + b"R"


def storage(count: int, *, key: str = "0", kind: str = "FloatStorage", more: bytes = b"") -> bytes:
    return row(text("storage"), name("torch", kind), text(key), text("cpu"), whole(count), more) + b"Q"


def tensor(size: tuple[int, ...], stride: tuple[int, ...], held: bytes, first: int = 0) -> bytes:
    sides, steps = (row(*map(whole, values)) for values in (size, stride))
    hooks = name("collections", "OrderedDict") + b")R"
    return call(name("torch._utils", "_rebuild_tensor_v2"), held, whole(first), sides, steps, b"\x89", hooks)


def checkpoint(**values: bytes) -> bytes:
    """A pickle of a dictionary with a `state_dict`; the values are instructions."""
    values = {"state_dict": b"}", **values}
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in values.items()) + b"u."


def write_zip(path: Path, program: bytes, *others: tuple[str, bytes], packed: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/byteorder", "little")
        for other, content in others:
            archive.writestr(other, content, packed)
    return path


def write_sequence(path: Path, program: bytes, keys: list[str] = [], tail: bytes = b"") -> Path:  # noqa: B006
    head = (MAGIC_NUMBER, PROTOCOL_VERSION, {"protocol_version": PROTOCOL_VERSION, "little_endian": True})
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in head) + program + pickle.dumps(keys, 2) + tail)
    return path


def save(path: Path, values: object, *, legacy: bool = False) -> Path:
    torch.save(values, path, _use_new_zipfile_serialization=not legacy)
    return path
