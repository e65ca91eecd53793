"""Messages between the grader and the process that runs a student's code: JSON and raw tensors, nothing that executes.

    4 bytes "SLAB"; 8 bytes, the length of the header; the header, JSON in UTF-8; the tensors' bytes one after the other

The header has `values`, plain JSON, and `tensors`, a list of [name, dtype, shape]. The reader believes none of it:
every length is held against a limit before anything is allocated, and against the shapes that it has to agree with.
"""

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

MAGIC = b"SLAB"
PREFIX = struct.Struct("<4sQ")
COUNTER = struct.Struct("<Q")  # of native convolutions, in the memory that both processes share
MOST_HEADER = 1 << 20  # bytes
MOST_TENSORS = 64
MOST_BYTES = 64 << 20  # of all tensors of a message
MOST_DIMENSIONS = 8
DTYPES = {
    "float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64,
    "int32": torch.int32, "int64": torch.int64, "uint8": torch.uint8, "bool": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class WireError(Exception):
    """What came is no message."""


@dataclass
class Message:
    """Plain values and tensors, by name."""

    values: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def encode(message: Message) -> bytes:
    """A message as bytes.

    Raises:
        WireError: a tensor has a dtype that is not sent, or there is too much.
    """
    parts, listed = [], []
    for name, tensor in message.tensors.items():
        if tensor.dtype not in NAMES:
            raise WireError(f"{name} is {tensor.dtype}, which is not sent")
        if tensor.numel() * tensor.element_size() > MOST_BYTES:
            raise WireError(f"{name} has {tensor.numel():,} values, too many to send")
        plain = tensor.detach().to("cpu").contiguous()
        listed.append([name, NAMES[tensor.dtype], list(tensor.shape)])
        parts.append(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    header = json.dumps({"values": message.values, "tensors": listed}).encode()
    if len(header) > MOST_HEADER or sum(map(len, parts)) > MOST_BYTES or len(parts) > MOST_TENSORS:
        raise WireError("the message is too long")
    return b"".join([PREFIX.pack(MAGIC, len(header)), header, *parts])


def decode(read: Callable[[int], bytes]) -> Message:
    """The next message.

    Args:
        read: returns exactly so many bytes or raises.

    Raises:
        WireError: what comes is not one.
    """
    magic, length = PREFIX.unpack(read(PREFIX.size))
    if magic != MAGIC or length > MOST_HEADER:
        raise WireError("the answer does not begin as a message does")
    try:
        header = json.loads(read(length).decode())
        values, listed = header["values"], [(str(n), DTYPES[d], _shape(s)) for n, d, s in header["tensors"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError("the answer's header cannot be read") from error
    sizes = [math.prod(shape) * dtype.itemsize for _, dtype, shape in listed]
    if not isinstance(values, dict) or len(listed) > MOST_TENSORS or sum(sizes) > MOST_BYTES:
        raise WireError("the answer is too long")
    tensors = {}
    for (name, dtype, shape), size in zip(listed, sizes, strict=True):
        flat = torch.frombuffer(bytearray(read(size)), dtype=torch.uint8) if size else torch.empty(0, dtype=torch.uint8)
        tensors[name] = (flat != 0).view(shape) if dtype is torch.bool else flat.view(dtype).view(shape)
    return Message(values, tensors)


def _shape(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or len(values) > MOST_DIMENSIONS:
        raise ValueError("no shape")
    if not all(type(value) is int and 0 <= value <= MOST_BYTES for value in values):
        raise ValueError("no shape")
    return tuple(values)
