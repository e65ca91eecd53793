"""Reading JSON of strangers: bounded depth, digits and bytes; and writing numbers that JSON does not have."""

import json
import math
import os

import numpy as np
import pytest

from scenelab.errors import LabError
from scenelab.evaluation.accuracy_results import Accuracy
from scenelab.io import read_json, read_object, read_text, write_json


def test_undefined_numbers_are_null_in_a_file_and_nan_in_memory(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": [1.5, math.nan, (math.inf, [-math.inf])], "b": np.float64("nan"), "c": True, "d": "NaN"})
    expected = {"a": [1.5, None, [None, [None]]], "b": None, "c": True, "d": "NaN"}
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == expected
    scores = {"top1": 50.0, "top1_interval": (0.0, math.nan), "top5": 1.0, "top5_interval": (0.0, 1.0), "ece": 2.0}
    Accuracy(**scores, loss=math.inf).write(path)
    assert read_json(path)["loss"] is None
    accuracy = Accuracy.read(path)
    assert math.isnan(accuracy.loss)
    assert math.isnan(accuracy.top1_interval[1])
    path.write_text(path.read_text().replace("null", "NaN"))  # as earlier versions wrote it
    assert math.isnan(Accuracy.read(path).loss)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deep"),
        ("1" * 5000, "cannot be read as JSON: it has a number with thousands of digits$"),
        ("{", "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("\udcff", "cannot be read: its byte 0 is not utf-8; save it as UTF-8$"),
        ("\udcff\udcfe[\0]\0", "cannot be read: it is UTF-16, not utf-8; save it as UTF-8$"),
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


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "x.json") == [1]
