"""Output to any terminal: other encodings, closed streams, escape sequences, and Ctrl-C at any time."""

import io
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from scenelab.cli.output import print_table
from scenelab.progress import LogProgress, RichProgress, make_progress, progress
from scenelab.terminal import FALLBACK, prepare_streams, say

SIGNAL = """
import signal, sys
class Interrupt:
    def find_spec(self, name, *rest):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv[1:] = ["predict", "no-run", "no.jpg"]
from scenelab.cli import entry_point
entry_point()
"""
CLOSED = """
import os, sys
from scenelab.terminal import prepare_streams
names = ["stdin", "stdout", "stderr"]
for number in {closed}:
    os.close(number)
    setattr(sys, names[number], None)  # as Python starts
prepare_streams()
with open("data", "w") as file:
    print("out", flush=True)
    print("err", file=sys.stderr)
    os.write(2, b"of a C library")
"""


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", "5x5 ... 2-3 eps Kuche ? ? ?"),
        ("latin-1", "5×5 ... 2-3 eps Küche ? ? ?"),
        ("cp1252", "5×5 … 2–3 eps Küche ? ? ?"),
        ("cp437", "5x5 ... 2-3 ε Küche ? ? ?"),
        ("utf-8", "5×5 … 2–3 ε Küche 猫 ✓ ?"),
    ],
)
def test_characters_outside_the_encoding_become_similar_ones(encoding, expected, monkeypatch):
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding=encoding, errors="strict"))
    prepare_streams()
    print("5×5 … 2–3 ε Küche 猫 ✓ \udce9", flush=True)
    assert data.getvalue().decode(encoding).rstrip() == expected
    assert "Ku\u0308che".encode("ascii", FALLBACK) == b"Kuche"


def test_untrusted_text_sends_nothing_to_the_terminal(capsys):
    text = "\x1b]0;title\x07\x1b[31mred\x9b2J\u202e\r\x08 [red]x[/y] :smile:\nnext"
    expected = " ]0;title  [31mred 2J    [red]x[/y] :smile: next\n"
    say(text)
    LogProgress().epoch(text)
    assert capsys.readouterr().out == 2 * expected
    display = RichProgress()
    stream = display._bar.console.file = io.StringIO()
    display.epoch(text)
    assert stream.getvalue() == expected


def test_a_bar_in_a_notebook_is_an_output_of_the_cell(monkeypatch, capsys):
    shown = []
    output = SimpleNamespace(update=lambda bar: shown.append(bar._repr_mimebundle_([], [])["text/html"]))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda bar, display_id: output)
    clock = [0.0]
    monkeypatch.setattr("scenelab.progress.time", SimpleNamespace(monotonic=lambda: clock[0]))
    assert isinstance(make_progress(), RichProgress)
    with progress("packing", 8) as advance:
        for clock[0] in (0.1, 0.5, 0.6, 0.7):
            advance(2)
    assert [re.findall("./8", html) for html in shown] == [["4/8"], ["8/8"]]
    assert capsys.readouterr() == ("", "")


def test_a_name_with_line_feeds_forges_no_line(capsys):
    name = "x\nscenelab: error: forged"
    say("a", name, file=sys.stderr)
    print_table(name, [name], [[name]])
    said = capsys.readouterr()
    assert said.err == "a\nx scenelab: error: forged\n"
    assert not any(line.strip("│┃ ").startswith("scenelab") for line in said.out.splitlines())


@pytest.mark.parametrize("columns", ["1", "19"])
def test_a_narrow_terminal_counts_as_twenty_columns(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    prepare_streams()
    assert os.environ["COLUMNS"] == "20"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_closed_streams_are_opened_on_the_null_device(closed, tmp_path):
    program = CLOSED.format(closed=closed)
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data").read_bytes() == b""


@pytest.mark.parametrize("module", ["scenelab.terminal", "rich", "tyro", "numpy._core._multiarray_umath", "torch._C"])
def test_ctrl_c_at_any_import_is_one_line(module):
    program = SIGNAL.format(module=module)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "scenelab: stopped\n")


def test_training_goes_on_when_the_reader_of_its_log_ends():
    program = "from scenelab.progress import LogProgress as L\nfor number in range(9): L().epoch('line')\nprint('end')"
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, b"")
