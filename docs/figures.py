"""Write docs/figures.md from docs/figures.toml and fill the marked figures of every page; --check only compares."""

import re
import sys
from pathlib import Path

import tomli

DOCS = Path(__file__).parent
MARK = re.compile(r"<!--figure (\w+)-->(.*?)<!--/-->", re.DOTALL)


def table(source: dict) -> str:
    """Return docs/figures.md as text."""
    lines = [
        "# Figures\n",
        "Every published figure, generated from [figures.toml](figures.toml). Ratios are medians, measured in",
        "alternation in one run, with the smallest and largest in parentheses; accuracies have 95 % Wilson intervals.",
        "The pages take their numbers from here.\n",
    ]
    lines += [f"**{name}**: {text}.\n" for name, text in source["hardware"].items()]
    lines += ["| what | figure | n | hardware | torch | command |", "|---|---|---:|---|---|---|"]
    for figure in source["figure"].values():
        command = figure["command"] if figure["command"].startswith("docs/") else f"`{figure['command']}`"
        columns = (figure["what"], figure["value"], figure["n"], figure["hardware"], figure["torch"], command)
        lines.append(f"| {' | '.join(map(str, columns))} |")
    return "\n".join(lines) + "\n"


def filled(text: str, figures: dict) -> str:
    """Return a page with the current value in each marked place."""
    return MARK.sub(lambda match: f"<!--figure {match[1]}-->{figures[match[1]]['value']}<!--/-->", text)


def main() -> int:
    """Write the pages, or with --check return 1 if one is out of date."""
    source = tomli.loads((DOCS / "figures.toml").read_text("utf-8"))
    pages = {
        path: filled(path.read_text("utf-8"), source["figure"])
        for path in [DOCS.parent / "README.md", *DOCS.glob("*.md")]
    }
    pages[DOCS / "figures.md"] = table(source)
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path} is out of date; run: python docs/figures.py")
        return bool(stale)
    for path in stale:
        path.write_text(pages[path], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
