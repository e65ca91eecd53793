"""Removal of answers from the solution, so that the kit and the solution stay consistent.

Comments in the files of the solution mark regions:

    # ANSWER name       starts an answer; following lines "# | …" are instructions for the student
    # KIT code          code of the kit in place of the answer; by default, raise NotImplementedError
    # END               ends the answer
    # ONLY 2019         starts lines that only the kit of this year contains
    # END ONLY          ends these lines
"""

import re
from collections.abc import Iterator

from scenelab.errors import LabError

YEARS = (2019, 2022)
WIDTH = 119  # columns of the comment lines that frame the place of an answer
MARK = re.compile(r"(?P<indent>\s*)# (?P<word>ANSWER|KIT|ONLY|END ONLY|END|\|)(?: (?P<text>.*))?$")


def cut(source: str, year: int, *, solution: bool = False) -> str:
    """Return the text of a solution file for the kit of a year: marks removed, answers replaced by instructions.

    Args:
        source: text of the file in the solution, with marks.
        year: 2019, or 2022 for 2022 and later.
        solution: whether to keep the answers.

    Raises:
        LabError: there is no kit for this year, or the marks are inconsistent.
    """
    if year not in YEARS:
        raise LabError(f"year is {year}; there is a kit of {' and of '.join(map(str, YEARS))}")
    return "\n".join(_lines(source, year, solution)) + "\n"


def _lines(source: str, year: int, solution: bool) -> Iterator[str]:
    answer: list[str] | None = None  # its name, then the instructions
    replacement: list[str] = []
    only: str | None = None  # the year of the region
    for number, line in enumerate(source.splitlines(), start=1):
        mark, is_included = MARK.match(line), only in (None, str(year))
        if mark is None:
            if is_included and (answer is None or solution):
                yield line
            continue
        word, text, indent = mark["word"], mark["text"] or "", mark["indent"]
        if word == "ONLY":
            only = text
        elif word == "END ONLY":
            only = None
        elif word == "ANSWER" and answer is None:
            answer, replacement = [text], []
        elif word in ("|", "KIT") and answer is not None:
            (answer if word == "|" else replacement).append(text)
        elif word == "END" and answer is not None:
            if is_included and not solution:
                yield from (indent + text for text in _place_to_write(WIDTH - len(indent), *answer))
                raising = f'raise NotImplementedError("{answer[0]} is yours to write")'
                yield from (indent + text for text in replacement or [raising])
            answer = None
        else:
            raise LabError(f"line {number} of the solution: {line.strip()!r} does not fit the marks before it")
    if answer is not None or only is not None:
        raise LabError("the last region of the solution has no end")


def _place_to_write(width: int, name: str, *texts: str) -> list[str]:
    frame = f"# {'-' * (width - 2)}"
    return [frame, f"# Yours to write: {name}.", *(f"# {text}" for text in texts), frame]
