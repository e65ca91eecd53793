"""From our solution to what a student receives: marked regions are cut out, so that the two cannot drift apart.

The marks are comments in the files of the solution:

    # ANSWER name       begins an answer; lines "# | …" behind it say what to write
    # KIT code          what stands in place of the answer; without it, NotImplementedError is raised there
    # END
    # ONLY 2019         begins lines of one year's kit
    # END ONLY
"""

import re
from collections.abc import Iterator

from scenelab.errors import LabError

YEARS = (2019, 2022)
WIDTH = 119  # of the lines that frame a place to write
MARK = re.compile(r"(?P<indent>\s*)# (?P<word>ANSWER|KIT|ONLY|END ONLY|END|\|)(?: (?P<text>.*))?$")


def cut(source: str, year: int, *, solution: bool = False) -> str:
    """One file as the kit of a year has it.

    Args:
        source: the file with its marks.
        year: 2019, or 2022 for that year and later.
        solution: keep the answers; the marks go all the same.

    Raises:
        LabError: there is no kit of that year, or marks do not fit together.
    """
    if year not in YEARS:
        raise LabError(f"year is {year}; there is a kit of {' and of '.join(map(str, YEARS))}")
    return "\n".join(_lines(source, year, solution)) + "\n"


def _lines(source: str, year: int, solution: bool) -> Iterator[str]:
    answer: list[str] | None = None  # its name, then what to write
    instead: list[str] = []
    wanted, ended = True, True
    for number, line in enumerate(source.splitlines(), start=1):
        mark = MARK.match(line)
        if mark is None:
            if wanted and (answer is None or solution):
                yield line
            continue
        word, text, indent = mark["word"], mark["text"] or "", mark["indent"]
        if word == "ONLY":
            wanted, ended = text == str(year), False
        elif word == "END ONLY":
            wanted = ended = True
        elif word == "ANSWER" and answer is None:
            answer, instead = [text], []
        elif word in ("|", "KIT") and answer is not None:
            (answer if word == "|" else instead).append(text)
        elif word == "END" and answer is not None:
            if wanted and not solution:
                yield from _place_to_write(indent, answer, instead)
            answer = None
        else:
            raise LabError(f"line {number} of the solution: {line.strip()!r} does not fit the marks before it")
    if answer is not None or not ended:
        raise LabError("the last region of the solution has no end")


def _place_to_write(indent: str, answer: list[str], instead: list[str]) -> Iterator[str]:
    name, *words = answer
    frame = f"{indent}# {'-' * (WIDTH - len(indent) - 2)}"
    yield frame
    yield f"{indent}# Yours to write: {name}."
    for text in words:
        yield f"{indent}# {text}"
    yield frame
    if instead:
        yield from (indent + text for text in instead)
    else:
        yield f'{indent}raise NotImplementedError("{name} is yours to write")'
