"""Messages arrive as they were sent; any other bytes are refused before anything is allocated for them."""

import io
import json
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scenelab_runner.wire import DTYPES, MAX_BYTES, Message, WireError, decode, encode


def reader(data):
    stream = io.BytesIO(data)

    def read(count):
        part = stream.read(count)
        if len(part) < count:
            raise WireError("the end")
        return part

    return read


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4, 5)])
def test_tensors_arrive_unchanged(dtype, shape):
    tensor = (torch.rand(shape) * 5).to(dtype)
    message = decode(reader(encode(Message({"a": [1, "x", None]}, {"t": tensor}))))
    assert message.values == {"a": [1, "x", None]}
    assert message.tensors["t"].dtype == dtype
    assert torch.equal(message.tensors["t"], tensor)


def framed(header, tail=b""):
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<4sQ", b"SLAB", len(data)) + data + tail


def entry(dtype, shape, tail=b""):
    return framed({"values": {}, "tensors": [["a", dtype, shape]]}, tail)


SHAPES = [[MAX_BYTES], [-1], [1] * 9, [True], ["4"]]
HEADERS = [b"\xff\xfe", b"[]", {}, b"[" * 100_000, {"values": 1, "tensors": []}, {"values": {}, "tensors": 5}]
HEADERS += [{"values": {}, "tensors": tensors} for tensors in ([[1, 2]], [["a", "uint8", [0]]] * 65)]
ENTRIES = [entry("object", [1]), entry([], [1]), entry("float32", [4], b"123"), *(entry("float32", s) for s in SHAPES)]
BYTES = [b"", b"SLAB", b"PKPK" + bytes(8), struct.pack("<4sQ", b"SLAB", 1 << 60)]


@pytest.mark.parametrize("data", [*BYTES, *map(framed, HEADERS), *ENTRIES], ids=range(20))
def test_bytes_that_are_no_message_are_refused(data):
    with pytest.raises(WireError):
        decode(reader(data))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data):
    for message in (data, framed(data), entry("float32", [1], data[:3])):
        with pytest.raises(WireError):
            decode(reader(message))


@pytest.mark.parametrize("tensor", [torch.zeros(1).expand(1 << 30), torch.zeros(1, dtype=torch.complex64)])
def test_large_and_complex_tensors_are_not_sent(tensor):
    with pytest.raises(WireError):
        encode(Message({}, {"a": tensor}))
