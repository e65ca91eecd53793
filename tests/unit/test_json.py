"""Reading JSON of strangers: bounded depth, digits and bytes."""

import os

import pytest

from scenelab.errors import LabError
from scenelab.io import read_json, read_object, read_text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deep"),
        ("1" * 5000, "cannot be read as JSON: Exceeds the limit"),
        ("{", "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("\udcff", "cannot be read as JSON"),
    ],
)
def test_invalid_or_unbounded_json_is_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LabError, match=message):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("text", ["[]", "null", "3", '"x"', "[{}]", "true"])
def test_what_must_be_an_object_is_refused_otherwise(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(LabError, match=r"x\.json holds .*; expected an object, repeat the command that made it"):
        read_object(tmp_path / "x.json")


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(LabError, match="is not a regular file"):
        read_json(tmp_path / "x.json")
    with pytest.raises(LabError, match="is not a regular file"):
        read_json(tmp_path)


def test_a_file_over_the_limit_is_not_read(tmp_path):
    with open(tmp_path / "x.json", "wb") as file:
        file.truncate(1 << 40)  # holes take no room
    with pytest.raises(LabError, match=r"has 1,099,511,627,776 bytes; at most 1,073,741,824 are read"):
        read_json(tmp_path / "x.json")
    with pytest.raises(LabError, match="at most 10 are read"):
        read_text(tmp_path / "x.json", max_bytes=10)
