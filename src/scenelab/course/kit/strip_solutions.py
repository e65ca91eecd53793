"""Removal of answers from the solution, so that the kit and the solution stay consistent.

Lines in the files of the solution mark regions; the first two are nbgrader's:

    ### BEGIN SOLUTION name   starts an answer; its name is optional
    ### END SOLUTION          ends the answer
    # | text                  in an answer: instructions for the student, which stand in its place
    # KIT code                in an answer: code of the kit in its place; by default, raise NotImplementedError
    # ONLY 2019               starts lines that only the kit of this year contains
    # END ONLY                ends these lines
"""

import json
import re
from collections.abc import Iterator
from typing import Literal

from scenelab.errors import LabError

Mode = Literal["kit", "solution", "course"]
YEARS = (2019, 2022)
WIDTH = 119  # columns of the comment lines that frame the place of an answer
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
MARK = re.compile(rf"(?P<indent>\s*)(?P<word>{BEGIN}|{END}|# (?:KIT|ONLY|END ONLY|\|))(?: (?P<text>.*))?$")


def cut(source: str, year: int, mode: Mode = "kit") -> str:
    """Return the text of a solution file for the kit of a year, without marks of years.

    Args:
        source: text of the file in the solution, with marks.
        year: 2019, or 2022 for 2022 and later.
        mode: "kit" replaces answers by instructions, "solution" keeps them, "course" keeps them and their marks.

    Raises:
        LabError: there is no kit for this year, or the marks are inconsistent.
    """
    if year not in YEARS:
        raise LabError(f"year is {year}; there is a kit of {' and of '.join(map(str, YEARS))}")
    return "\n".join(_lines(source, year, mode)) + "\n"


def cut_notebook(source: str, year: int, mode: Mode) -> str:
    """Return a notebook (JSON) after `cut` of each code cell; cells of a kit have no outputs."""
    content = json.loads(source)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            text = cut("".join(cell["source"]), year, mode).rstrip("\n")
            cell["source"] = text.splitlines(keepends=True)
            if mode == "kit":
                cell |= {"outputs": [], "execution_count": None}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _lines(source: str, year: int, mode: Mode) -> Iterator[str]:
    answer: list[str] | None = None  # its name, then the instructions
    replacement: list[str] = []
    only: str | None = None  # the year of the region
    for number, line in enumerate(source.splitlines(), start=1):
        mark, is_included = MARK.match(line), only in (None, str(year))
        if mark is None:
            if is_included and (answer is None or mode != "kit"):
                yield line
            continue
        word, text, indent = mark["word"], mark["text"] or "", mark["indent"]
        if mode == "course" and "ONLY" not in word and is_included:
            yield line
        if word == "# ONLY":
            only = text
        elif word == "# END ONLY":
            only = None
        elif word == BEGIN and answer is None:
            answer, replacement = [text], []
        elif word in ("# |", "# KIT") and answer is not None:
            (answer if word == "# |" else replacement).append(text)
        elif word == END and answer is not None:
            if is_included and mode == "kit":
                yield from (indent + text for text in _place_to_write(WIDTH - len(indent), *answer))
                what = f"{answer[0]} is yours to write" if answer[0] else "yours to write"
                yield from (indent + text for text in replacement or [f'raise NotImplementedError("{what}")'])
            answer = None
        else:
            raise LabError(f"line {number} of the solution: {line.strip()!r} does not fit the marks before it")
    if answer is not None or only is not None:
        raise LabError("the last region of the solution has no end")


def _place_to_write(width: int, name: str, *texts: str) -> list[str]:
    frame = f"# {'-' * (width - 2)}"
    return [frame, f"# Yours to write{': ' * bool(name)}{name}.", *(f"# {text}" for text in texts), frame]
