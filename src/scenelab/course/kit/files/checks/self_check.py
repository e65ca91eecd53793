"""The grader's visible checks on one's own files: verdicts by part, mistakes by name, hints one at a time."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import torch

from checks import CHECKS, Check, CheckContext
from checks.local_worker import LocalWorker
from checks.mistakes import HINTS, Mistake, find_mistake, name_of
from checks.pictures import draw
from checks.running import in_order, judge
from checks.submission import check as check_submission
from checks.unfilled import unfilled_in
from checks.verdict import SubmissionError, Verdict, cause_of
from checks.years import year_of

PARTS = {"convolution": "convolution", "attack": "attack", "attention": "attention", "network": "model"}
PACKAGING = "packaging"
COLORS = {"passed": "32", "failed": "31", "not run": "33", "bold": "1"}
KIT_NETWORK = "still the kit's SimpleNet"
NEXT = {
    "CustomConv2DFunction.forward": "write forward in code/student_code.py: first for one image of one channel, stride "
    "1, no padding; then backward",
    "CustomConv2DFunction.backward": "write backward in code/student_code.py: first for the bias, then for the weight",
    "PGDAttack.perturb": "write perturb in code/student_code.py: first one step, then num_steps, then the clip",
    "GradAttention.explain": "write explain in code/student_code.py: first the label, then the gradient, then the map",
    "SimpleViT.__init__": "make the blocks, the norm and the classifier, as the comment there says",
    "SimpleViT.forward": "write forward of SimpleViT in code/student_code.py, as the comment there says",
    KIT_NETWORK: "design a better network in code/student_code.py and name it default_model",
}
Verdicts = dict[str, Verdict]


class Checker:
    """Checks of a student's file; `remarks` are about what costs no points, or points for the GPU."""

    def __init__(self, path: Path) -> None:
        torch.set_num_threads(1)
        self.path, self.worker = path, LocalWorker(path)
        self.context = CheckContext(self.worker, path.resolve().parents[1], seed=0)
        self.problem = ""
        try:
            self.context.unfilled = unfilled_in(path)
            self.worker.start()
        except SubmissionError as error:
            self.problem = f"student_code.py cannot be imported: it {error}"
        except OSError as error:
            self.problem = f"{path} cannot be read: {error.strerror}; give --file"

    @property
    def parts(self) -> list[str]:
        """Parts of the assignment in the handout whose names the file has; since 2024 there are no attention maps."""
        return [name for name in PARTS if name != "attention" or year_of(self.worker.defined) < 2024]

    def names(self, part: str) -> list[str]:
        """Return the names of the checks of a part, each after those that it needs."""
        has_vit = part == "network" and "default_vit_model" in self.worker.defined
        groups = {PARTS[part], "vit"} if has_vit else {PARTS[part]}
        return in_order(name for name, each in CHECKS.items() if each.group in groups)

    def run(self, part: str) -> Iterator[tuple[Check, Verdict]]:
        """Yield the checks of a part with their verdicts, which are those of the grader."""
        failed: set[str] = set()
        for name in self.names(part):
            if self.problem:
                yield CHECKS[name], Verdict(reason=self.problem)
            else:
                yield CHECKS[name], judge(CHECKS[name], self.context, failed)

    def remarks(self) -> list[str]:
        """Return the remarks since the last call."""
        texts = [*self.context.remarks, *(f"It needs a GPU, which costs 5 %: {p}" for p in self.worker.gpu_places)]
        self.context.remarks.clear()
        self.worker.gpu_places.clear()
        return texts


def paint(text: str, color: str) -> str:
    """Return the text in a color, if the output is a terminal and NO_COLOR is not set."""
    return f"\033[{COLORS[color]}m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


def check(part: str = "", *, hint: int = 0, file: str | Path = "student_code.py") -> bool:
    """Check one part, or all, of a student's file; print the verdicts, in a notebook with pictures.

    Return whether all checks passed.

    Args:
        part: convolution, attack, attention, network or packaging; empty for all.
        hint: number of the hint for the first check that failed, from 1; 0 for none.
        file: path of the student's file.
    """
    with restored():
        checker = Checker(Path(file))
        try:
            return _check([part] if part else [*checker.parts, PACKAGING], hint, checker)
        finally:
            checker.worker.close()


def _check(parts: list[str], hint: int, checker: Checker) -> bool:
    passed = []
    if checker.problem:
        print(f"{paint('FAIL', 'failed')}  {checker.problem}")
        return False
    for name in parts:
        if name == PACKAGING:
            passed.append(_check_packaging(checker.context.root))
            continue
        verdicts = run_part(checker, name)
        passed.append(all(verdict.status == "passed" for verdict in verdicts.values()))
        print_part(name, verdicts, checker.remarks(), hint)
        if "ipykernel" in sys.modules:  # a notebook
            draw(name, checker.context)
        if hint and not passed[-1]:
            break  # one hint at a time
    return all(passed)


@contextmanager
def restored() -> Iterator[None]:
    """Restore working directory and import system after the block, and forget the student's modules."""
    folder, modules = os.getcwd(), set(sys.modules)
    lists = (sys.path, sys.meta_path, sys.argv)
    contents = [each[:] for each in lists]
    try:
        yield
    finally:
        os.chdir(folder)
        for each, content in zip(lists, contents):
            each[:] = content
        for name in set(sys.modules) - modules:
            if not name.startswith("checks") and "site-packages" not in str(getattr(sys.modules[name], "__file__", "")):
                sys.modules.pop(name)


def run_part(checker: Checker, part: str) -> Verdicts:
    """Return the verdicts of a part, with a progress bar on a terminal."""
    verdicts: Verdicts = {}
    count = len(checker.names(part))
    for each, verdict in checker.run(part):
        verdicts[each.name] = verdict
        if sys.stderr.isatty():
            done = 30 * len(verdicts) // count
            print(f"\r{part:12} [{'#' * done}{'.' * (30 - done)}] {each.name:24}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(f"\r{'':80}\r", end="", file=sys.stderr, flush=True)
    return verdicts


def print_part(part: str, verdicts: Verdicts, remarks: list[str], hint: int = 0) -> None:
    """Print the verdicts of a part, each cause once, then remarks and a hint."""
    print(paint(part.capitalize(), "bold"))
    by_cause: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        if verdict.status == "passed":
            print(f"  {paint('ok', 'passed')}    {name}: {CHECKS[name].text}")
        elif verdict.status == "failed" or not verdict.reason.startswith("skipped"):
            by_cause.setdefault(cause_of(verdict.reason), []).append(name)
    skipped = [name for name, verdict in verdicts.items() if verdict.reason.startswith("skipped")]
    for names in by_cause.values():
        _print_failure(names, verdicts)
    if skipped:
        print(f"  {paint('wait', 'not run')}  for that: {', '.join(skipped)}")
    for remark in remarks:
        print(f"  {paint('note', 'not run')}  {remark}")
        _print_mistake(name_of("remark", remark))
    if by_cause:
        _print_hint(part, next(iter(by_cause.values()))[0], hint)
    print()


def _print_failure(names: list[str], verdicts: Verdicts) -> None:
    reason = verdicts[names[0]].reason
    unfilled = next((text for text in NEXT if text in reason), None)
    if unfilled is not None and ("not filled in yet" in reason or unfilled == KIT_NETWORK):
        what = unfilled if unfilled != KIT_NETWORK else f"the network is {KIT_NETWORK}"
        print(f"  {paint('to do', 'not run')} Not filled in yet: {what}. Next: {NEXT[unfilled]}.")
        return
    text = f": {CHECKS[names[0]].text}" if len(names) == 1 else ""
    print(f"  {paint('FAIL', 'failed')}  {', '.join(names)}{text}")
    print(f"        {reason}")
    for line in verdicts[names[0]].example.splitlines():
        print(f"          {line}")
    _print_mistake(find_mistake(names, reason, {name: verdict.status for name, verdict in verdicts.items()}))


def _print_mistake(mistake: Mistake | None) -> None:
    if mistake is not None:
        print(f"        {paint('Known mistake:', 'bold')} {mistake.name}. {mistake.why}")
        print(f'        See it: python -c "import torch; from student_code import *; {mistake.see}"')


def _print_hint(part: str, name: str, hint: int) -> None:
    hints = HINTS[name]
    if hint:
        number = min(hint, len(hints))
        print(f"  Hint {number} of {len(hints)} for {name}: {hints[number - 1]}")
    if hint < len(hints):
        print(f"  For {'another' if hint else 'a'} hint, add: {part} --hint {hint + 1}")


def _check_packaging(root: Path) -> bool:
    print(paint("Packaging", "bold"))
    problems = check_submission(root, test=False)
    for problem in problems:
        print(f"  {paint('FAIL', 'failed')}  {problem}")
    if not problems:
        print(f"  {paint('ok', 'passed')}    folders, report, sizes and paths; now python ./zip_submission.py")
    print()
    return not problems


def main(arguments: list[str], folder: Path) -> int:
    """Parse the command line, check the file in `folder`, and return the exit status: 0 if all checks passed."""
    flags = argparse.ArgumentParser(
        prog="check.py",
        description="Run the grader's checks on your own files.",
        epilog="Example: check.py attack --hint",
    )
    flags.add_argument("part", nargs="?", choices=[*PARTS, PACKAGING], help="one part; all parts without it")
    flags.add_argument("--hint", nargs="?", type=int, const=1, default=0, metavar="N", help="print a hint, the N-th")
    flags.add_argument("--file", type=Path, default=folder / "student_code.py", help="your file (student_code.py)")
    options = flags.parse_args(arguments)
    available = torch.backends.mps.is_available
    torch.backends.mps.is_available = wraps(available)(lambda: False)  # the grader has no GPU; torch reads __wrapped__
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack ×
    try:
        return 0 if check(options.part or "", hint=options.hint, file=options.file) else 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
