"""Hooks of MkDocs: the pages of the reference are generated from the code."""

import ast
import contextlib
import io
import logging
import os
import re
from pathlib import Path
from textwrap import fill
from unittest.mock import patch

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/scenelab"
PACKAGES = sorted(path.parent.name for path in SOURCE.glob("*/__init__.py") if path.parent.name != "cli")
INTERFACES = {
    f"scenelab.{name}".rstrip("."): ast.parse((SOURCE / name / "__init__.py").read_text(encoding="utf-8"))
    for name in ["", *PACKAGES]
}
TYPES = """classifier: Images Logits Labels Values Model OnProgress
attacks.attack: Indices Targets
data.cache: OnBadImage
models.simplenet: ConvOp Factory
models.flops: ModelSize
runs.network: Stored
runs.loading: Opened SplitName
runs.provenance: TrainingResult
training.distributed: World
training.state: TrainState
progress: TrainProgress
evaluation.evaluate: EvaluationResult
evaluation.explain: AttributionResult ImageCounts
evaluation.attribution_gallery: Rendering
evaluation.robustness: RobustnessResult Effort
evaluation.metrics: ConfusedPair
evaluation.intervals: Interval"""  # in signatures of public functions
LINK = re.compile(r"\[([^\]]*)\]\(([^)#:]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add an overview, a page per public package, and the help of every command."""
    pages = {name.removeprefix("scenelab."): package(name) for name in INTERFACES}
    pages["conv"] += part("conv.conv2d.conv2d", "show_root_full_path: false")  # else taken for the module of that name
    pages["studies"] += "".join(map(part, ("studies.adversarial", "studies.conv", "studies.design")))
    pages |= {"index": overview(), "types": types(), "commands": commands()}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to sources and tests, which are not part of the site, into text; name linked pages by their titles."""
    folder, docs = Path(page.file.abs_src_path or config.docs_dir).parent, Path(config.docs_dir)

    def text_of(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if not target.exists():
            return link[0]  # the build fails
        if not target.is_relative_to(docs):
            return link[1]
        title = target.read_text(encoding="utf-8").partition("\n")[0] if link[1].endswith(".md") else f"# {link[1]}"
        return f"[{title.removeprefix('# ')}]({link[2]}{link[3] or ''})"

    return LINK.sub(text_of, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Warn about public names that are on no page of the reference; mkdocstrings omits what has no docstring."""
    pages = Path(config.site_dir, "reference").glob("*.html")
    anchors = {name for page in pages for name in re.findall(r'id="scenelab[\w.]*\.(\w+)"', page.read_text("utf-8"))}
    for package, tree in INTERFACES.items():
        lists = (node for node in tree.body if ast.unparse(node).startswith("__all__"))
        names = {leaf.value for node in lists for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
        for name in sorted(names - anchors - {"__version__"}):
            logging.getLogger("mkdocs.hooks").warning(f"{package}.{name} is not in the reference; has it a docstring?")


def package(name: str) -> str:
    """Return the page of a package; `[text][scenelab.attacks]` links to it."""
    return f"# {name} {{ #{name} }}\n\n::: {name}\n"


def part(path: str, options: str = "") -> str:
    """Return the block of one object with its heading."""
    return f"\n::: scenelab.{path}\n    options: {{show_root_heading: true, show_root_toc_entry: true, {options}}}\n"


def overview() -> str:
    """Return the table of packages with the first line of their docstrings."""
    lines = ["# Reference", "", "| package | content |", "|---|---|"]
    for name, tree in INTERFACES.items():
        summary = (ast.get_docstring(tree) or "").partition("\n")[0]
        lines.append(f"| [`{name}`]({name.removeprefix('scenelab.')}.md) | {summary} |")
    return "\n".join([*lines, "", "All commands and their flags: [the command line](commands.md).", ""])


def types() -> str:
    """Return the page of types that signatures name and no package exports."""
    rows = (line.split(": ") for line in TYPES.splitlines())
    paths = [f"{module}.{name}" for module, names in rows for name in names.split()]
    options = "show_if_no_docstring: true, members: false"
    results = f"{options}, show_source: true, merge_init_into_class: false"  # pydantic makes their constructors
    parts = [part(path, results if path.endswith("Result") else options) for path in paths]
    return "# Types in signatures\n" + "".join(parts)


def commands() -> str:
    """Return the help of all commands, as the program prints it."""
    from scenelab.cli.arguments import Commands
    from scenelab.cli.main import COMMANDS

    def section(name: str, entry: object, level: int) -> str:
        text = f"{'#' * level} {name}\n\n```text\n{help_text(name.split()[1:])}\n```\n\n"
        children = entry if isinstance(entry, Commands) else ()
        return text + "".join(section(f"{name} {child}", command, level + 1) for child, command in children)

    return "# The command line\n\n" + section("scenelab", COMMANDS, 2)


def help_text(words: list[str]) -> str:
    """Return the output of `scenelab WORDS --help` without the frames around its parts."""
    from scenelab.cli.main import run

    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with patch.dict(os.environ, COLUMNS="84"), contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        run([*words, "--help"])
    output.seek(0)
    lines = [re.sub(r"^╭─ (.*?) ─+╮$", r"\n\1:", line.rstrip("\n")).strip("│").rstrip() for line in output]
    text = "\n".join(line if len(line) < 84 else fill(line, 80) for line in lines if not line.startswith("╰"))
    if not text.startswith("usage:"):
        raise PluginError(f"{' '.join(['scenelab', *words])} --help printed no usage")
    return re.sub(r"\n{3,}", "\n\n", text).strip()
