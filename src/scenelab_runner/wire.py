"""Binary format of messages between the grader and a submission's process: JSON and raw tensors, without pickle.

    4 bytes "SLAB"; 8 bytes, length of the header (little-endian); header, JSON in UTF-8; bytes of the tensors

The header has `values`, a JSON object, and `tensors`, a list of [name, dtype, shape]. The reader checks every length
before it allocates memory.
"""

import json
import math
import struct
from collections.abc import Callable
from typing import Any

import torch

from scenelab_runner.message import Message

MAGIC = b"SLAB"
PREFIX = struct.Struct("<4sQ")
COUNTER = struct.Struct("<Q")  # number of native convolutions, in the shared memory
MAX_HEADER = 1 << 20  # bytes
MAX_TENSORS = 64
MAX_BYTES = 64 << 20  # all tensors of a message together
MAX_DIMENSIONS = 8
DTYPES = {name: getattr(torch, name) for name in "float16 bfloat16 float32 float64 int32 int64 uint8 bool".split()}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class WireError(Exception):
    """Error for bytes that are not a valid message, or a message that cannot be encoded."""


def encode(message: Message) -> bytes:
    """Return a message as bytes; raise WireError if it is too large or a dtype is not in `DTYPES`."""
    parts, entries = [], []
    for name, tensor in message.tensors.items():
        if tensor.dtype not in NAMES:
            raise WireError(f"{name} is {tensor.dtype}, which is not sent")
        if tensor.numel() * tensor.element_size() > MAX_BYTES:
            raise WireError(f"{name} has {tensor.numel():,} values, too many to send")
        plain = tensor.detach().to("cpu").contiguous()
        entries.append([name, NAMES[tensor.dtype], list(tensor.shape)])
        parts.append(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    header = json.dumps({"values": message.values, "tensors": entries}).encode()
    if len(header) > MAX_HEADER or sum(map(len, parts)) > MAX_BYTES or len(parts) > MAX_TENSORS:
        raise WireError("the message is too long")
    return b"".join([PREFIX.pack(MAGIC, len(header)), header, *parts])


def decode(read: Callable[[int], bytes]) -> Message:
    """Read one message by calls of `read(count)`, which must return `count` bytes; raise WireError if it is invalid."""
    magic, length = PREFIX.unpack(read(PREFIX.size))
    if magic != MAGIC or length > MAX_HEADER:
        raise WireError("the answer does not begin as a message does")
    try:
        header = json.loads(read(length).decode())
        values, entries = header["values"], [(str(n), DTYPES[d], _shape(s)) for n, d, s in header["tensors"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError("the answer's header cannot be read") from error
    sizes = [math.prod(shape) * dtype.itemsize for _, dtype, shape in entries]
    if not isinstance(values, dict) or len(entries) > MAX_TENSORS or sum(sizes) > MAX_BYTES:
        raise WireError("the answer is too long")
    tensors = {}
    for (name, dtype, shape), size in zip(entries, sizes, strict=True):
        flat = torch.frombuffer(bytearray(read(size)), dtype=torch.uint8) if size else torch.empty(0, dtype=torch.uint8)
        tensors[name] = (flat != 0).view(shape) if dtype is torch.bool else flat.view(dtype).view(shape)
    return Message(values, tensors)


def _shape(values: Any) -> tuple[int, ...]:
    is_shape = isinstance(values, list) and len(values) <= MAX_DIMENSIONS
    if not is_shape or not all(type(value) is int and 0 <= value <= MAX_BYTES for value in values):
        raise ValueError("invalid shape")
    return tuple(values)
