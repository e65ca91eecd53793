"""Valid files made invalid: bytes flipped, cut, moved and overwritten, words of a text exchanged."""

import re
import struct

from hypothesis import strategies as st

WORD = re.compile(rb'"[^"\n]*"|[\w.+-]+')
EXTREMES = (0, 1, *(2**bits - 1 for bits in (7, 8, 15, 16, 31, 32, 63, 64)), 2**31, 2**63)
FORMS = ("<B", "<H", "<I", "<Q", ">H", ">I", ">Q")
WORDS = [b"", b"1" * 40, b"9" * 5000, b"a" * 300, b"[" * 2000, b"\xff\xfe", b"\0", b"\r\n", b"\xe2\x80\xa8", b"\x1b[2J"]
WORDS += rb'0 -1 1e999 1.5 NaN -Infinity null true {} [] "x" "" ../../x /etc/passwd "\ud800"'.split()

place = st.integers(0, 2**20)
EDITS = st.one_of(
    st.tuples(st.just("flip"), place, st.integers(0, 7)),
    st.tuples(st.just("set"), place, st.integers(0, 255)),
    st.tuples(st.just("cut"), place, st.integers(1, 64)),
    st.tuples(st.just("end"), place),
    st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=12)),
    st.tuples(st.just("again"), place, st.integers(1, 400), place),
    st.tuples(st.just("number"), place, st.sampled_from(EXTREMES), st.sampled_from(FORMS)),
    st.tuples(st.just("word"), place, st.sampled_from(WORDS)),
    st.tuples(st.just("exchange"), place, place),
    st.tuples(st.just("line"), place, place),
)
CHANGES = st.lists(EDITS, min_size=1, max_size=5)


def mutate(data: bytes, edits: list[tuple]) -> bytes:
    """Places count from the begin and start again behind the end, so that every edit hits something."""
    for kind, where, *more in edits:
        at = where % (len(data) + 1)
        data = _edit(data, kind, at, where, more)
    return data


def _edit(data: bytes, kind: str, at: int, where: int, more: list) -> bytes:
    match kind, more:
        case "flip", [bit] if at < len(data):
            return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        case "set", [value]:
            return data[:at] + bytes([value]) + data[at + 1 :]
        case "cut", [count]:
            return data[:at] + data[at + count :]
        case "end", []:
            return data[:at]
        case "insert", [piece]:
            return data[:at] + piece + data[at:]
        case "again", [count, source]:
            begin = source % (len(data) + 1)
            return data[:at] + data[begin : begin + count] + data[at:]
        case "number", [value, form]:
            number = struct.pack(form, value & (1 << 8 * struct.calcsize(form)) - 1)
            return data[:at] + number + data[at + len(number) :]
        case "word", [word]:
            return _replace(data, where, lambda _: word)
        case "exchange", [other]:
            words = list(WORD.finditer(data))
            return _replace(data, where, lambda _: words[other % len(words)][0])
        case "line", [other]:
            lines = data.split(b"\n")
            lines.insert(where % len(lines), lines[other % len(lines)])
            return b"\n".join(lines)
    return data


def _replace(data: bytes, where: int, change) -> bytes:
    words = list(WORD.finditer(data))
    if not words:
        return data
    found = words[where % len(words)]
    return data[: found.start()] + change(found) + data[found.end() :]
