"""Decoding of Python source files in any encoding."""

import io
import re
import tokenize
from pathlib import Path

COOKIE = re.compile(r"^[ \t\f]*#.*?coding[:=]", re.MULTILINE)
ENCODINGS = "utf-8 utf-8-sig latin-1 iso-8859-1 cp1252 ascii iso-8859-15 gbk gb2312 euc-kr".split()


def read_text(path: Path) -> tuple[str, str]:
    """Return a source file's text, and a note on an unusual encoding or "".

    Lines end in line feeds, without a byte-order mark. A coding comment is disabled, since the text is stored as UTF-8.
    """
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text, note = data.decode("utf-16", "replace"), f"{path.name} is UTF-16; save it as UTF-8"
    else:
        text, note = _decode(data, path.name)
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        text, note = text.replace("\0", ""), f"{path.name} holds zero bytes; they were left out"
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines[:2] = [line.replace("coding", "c0ding") if COOKIE.match(line) else line for line in lines[:2]]
    return "\n".join(lines).encode("utf-8", "replace").decode(), note


def _decode(data: bytes, name: str) -> tuple[str, str]:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        if encoding.lower().replace("_", "-") in ENCODINGS:
            return data.decode(encoding), ""
    except (SyntaxError, UnicodeError, LookupError):
        pass
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError:
        return data.decode("latin-1"), f"{name} is not UTF-8; save it as UTF-8"
