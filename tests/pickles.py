"""Checkpoints built by hand from pickle opcodes."""

import pickle
import struct
import zipfile
from pathlib import Path

import torch


def name(module: str, what: str) -> bytes:
    return f"c{module}\n{what}\n".encode()


def integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    digits = pickle.encode_long(value)
    return b"\x8a" + bytes([len(digits)]) + digits


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def sequence(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + sequence(*arguments) + b"R"


def storage(count: int, *, kind: str = "FloatStorage") -> bytes:
    return sequence(text("storage"), name("torch", kind), text("0"), text("cpu"), integer(count)) + b"Q"


def tensor(size: tuple[int, ...], stride: tuple[int, ...], storage: bytes, first: int = 0) -> bytes:
    sides, steps = (sequence(*map(integer, values)) for values in (size, stride))
    hooks = name("collections", "OrderedDict") + b")R"
    return call(name("torch._utils", "_rebuild_tensor_v2"), storage, integer(first), sides, steps, b"\x89", hooks)


def checkpoint(**values: bytes) -> bytes:
    """A pickle of a dictionary with a `state_dict`; the values are instructions."""
    values = {"state_dict": b"}", **values}
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in values.items()) + b"u."


def write_zip(path: Path, program: bytes, *others: tuple[str, bytes], packed: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", program, zipfile.ZIP_STORED if others else packed)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/version", "3")
        for other, content in others:
            archive.writestr(other, content, packed)
    return path


def save(path: Path, values: object) -> Path:
    torch.save(values, path)
    return path
