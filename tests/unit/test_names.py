"""Names that other people's files have: bytes that are not UTF-8, control characters, formulas, any script."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from scenelab.course.grading.outputs import exports
from scenelab.data.cache import MemmapDataset
from scenelab.errors import LabError, printable
from scenelab.evaluation.challenge import read_guesses, write_guesses
from scenelab.evaluation.evaluate import csv_path, draw_confused
from scenelab.evaluation.figures import label, new_figure
from scenelab.evaluation.metrics import confusion, most_confused
from scenelab.io import FORMULA_STARTS, atomic_write, write_csv_row, write_json
from scenelab.runs.config import RunConfig, TrainConfig, to_plain
from scenelab.runs.provenance import TrainingResult
from scenelab.runs.run import Run, event_folder
from scenelab.schema import FileName, Model, parse

LATIN1 = os.fsdecode(b"caf\xe9-1.png")
NAMES = [
    *(
        LATIN1,
        "tab\tnew\nline\r.png",
        "\x1b[31mred\x1b]0;title\x07.png",
        "\u202egpj.png",
        "\U0001f600\u4e2d.png",
        "a\x85\u2028b",
    ),
    *("$x^2$_y.png", r"a\$b\.png", "$", "%s%d{x}.png", "-rf.png", "=1+1.png", '\'; "q", <b>&amp;.png', "e\u0301.png"),
    *("n" * 255, " lead trail ", "\ue000", "\udc80\udcff", "\r", "a\rb.png", "a\r", '"\r"', "a\r\nb.png"),
    *("\U0010fce9x.png", "\udce9\U0010fce9", "\ufdd0", "\ufdd0--", "\ufdd069\udce9", "\ufdd0\ufdd0", "\U0010ffff"),
]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (LATIN1, "caf\ufffd-1.png"),
        ("\ud800", "\ufffd"),
        ("a\x1b[2J\tb\nc", "a [2J b c"),
        ("\u202ea", " a"),
        ("é山😀", "é山😀"),
    ],
)
def test_untrusted_text_is_shown_with_replacement_characters(text, shown):
    assert printable(text) == shown


class Names(Model):
    one: FileName
    many: tuple[tuple[int, FileName], ...] = ()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_passes_through_json_without_loss(tmp_path, name):
    Names(one=name, many=((1, name),)).write(tmp_path / "names.json")
    assert json.loads((tmp_path / "names.json").read_bytes()) == {"one": name, "many": [[1, name]]}
    read = Names.read(tmp_path / "names.json")
    assert (read.one, read.many) == (name, ((1, name),))


def test_other_strings_still_refuse_bytes_that_are_not_utf8():
    with pytest.raises(LabError, match="train_digest"):
        RunConfig(data="data", train_digest=LATIN1, train=TrainConfig())
    with pytest.raises(LabError, match="one"):
        parse(Names, {"one": 3})


def test_a_run_remembers_a_data_folder_of_any_name(tmp_path):
    run, config = Run(tmp_path / "run"), RunConfig(data=f"/{LATIN1}", cache=f"/{LATIN1}/packed", train=TrainConfig())
    run.create(config)
    assert run.read_config() == config
    assert parse(RunConfig, to_plain(config)) == config
    skipped = {"train": ((LATIN1, "it is empty"),)}
    counts = dict.fromkeys(TrainingResult.model_fields, 1) | {"stopped": "", "device": "cpu", "skipped": skipped}
    assert parse(TrainingResult, counts).skipped == skipped


def test_a_run_folder_that_tensorboard_cannot_write_is_refused(tmp_path):
    with pytest.raises(LabError, match="TensorBoard needs; choose another name"):
        Run(tmp_path / LATIN1).require_new()
    assert not (tmp_path / LATIN1).exists()
    assert event_folder(Path("é $x$\n")) == "é $x$\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_passes_through_csv_without_loss_and_starts_no_formula(tmp_path, name):
    with atomic_write(tmp_path / "names.csv", "w") as file:
        write_csv_row(file, [csv_path(name), "next"])
    with open(tmp_path / "names.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        [[cell, other]] = csv.reader(file)
    assert (Path(cell), other) == (Path(name), "next")
    assert not cell.startswith(FORMULA_STARTS)
    assert (tmp_path / "names.csv").read_bytes().count(os.fsencode(name).replace(b'"', b'""')) == 1
    [[cell, other]] = csv.reader(io.StringIO(exports._csv([[f"x{name}", "next"]]), newline=""))
    assert (cell, other) == (f"x{name}", "next")
    assert exports.FORMULA_STARTS == FORMULA_STARTS


def test_a_label_is_drawn_as_it_reads(tmp_path):
    """Matplotlib's warnings of missing glyphs would be errors here, and so would formulas."""
    labels = [label(name) for name in NAMES]
    with new_figure(tmp_path / "figure.png", size=(8, 4)) as (_, axis):
        axis.set_title(f"{label('$')} taken for {label('$')}")
        axis.set_yticks(range(len(labels)), labels)
    assert all(len(text.replace(r"\$", "$")) <= 32 for text in labels)
    assert label("apartment_building/outdoor $5") == r"apartment_building/outdoor \$5"
    assert label(LATIN1) == "caf\ufffd-1.png"
    assert label("_run") == " _run"
    assert label("a\u4e2d\nb") == "a\ufffd b"


def test_every_pair_of_confused_classes_has_its_images(tmp_path, monkeypatch):
    labels, predicted = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([1, 1, 0, 0, 1])
    images = np.zeros((5, 4, 4, 3), np.uint8)
    categories = ("$x^2$_y", LATIN1.encode(errors="replace").decode())
    dataset = MemmapDataset(
        images=images, labels=labels, paths=("",) * 5, categories=categories, split="val", digest=""
    )
    rows = []
    monkeypatch.setattr(
        MemmapDataset, "gather", lambda self, rows_: rows.append(rows_.tolist()) or torch.zeros(2, 3, 4, 4)
    )
    matrix = confusion(predicted, labels, 2)
    draw_confused(dataset, predicted, most_confused(matrix, categories), tmp_path / "confused.png")
    assert sorted(rows) == [[0, 1], [2, 3]]


def test_guesses_have_names_with_blanks_and_any_bytes_but_no_line_breaks(tmp_path):
    guesses = {f"test/{name}": (1, 2, 3, 4, 5) for name in (LATIN1, "a b.jpg", "a\u2028b 7.jpg", "\x85.jpg")}
    write_guesses(tmp_path / "guesses.txt", guesses)
    assert read_guesses(tmp_path / "guesses.txt") == guesses
    with pytest.raises(LabError, match="'test/a b' has a line break; rename the image"):
        write_guesses(tmp_path / "guesses.txt", {"test/a\nb": (1, 2, 3, 4, 5)})


def test_write_json_is_ascii(tmp_path):
    write_json(tmp_path / "x.json", [LATIN1, "é"])
    assert (tmp_path / "x.json").read_bytes().isascii()
