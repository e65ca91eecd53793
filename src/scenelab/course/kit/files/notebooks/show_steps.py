"""What the notebooks use: it loads ../code/student_code.py, draws, and says what is missing. Nothing to write here."""

import importlib
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import torch

CODE = Path(__file__).resolve().parents[1] / "code"
sys.dont_write_bytecode = True
sys.path.insert(0, str(CODE))
plt.rcParams.update({"font.size": 11, "figure.constrained_layout.use": True, "savefig.dpi": 110})


class ResultError(Exception):
    """A result that is not what the assignment asks for; its text says why."""


class Student:
    """Your student_code.py: its names are attributes, read anew when you have saved the file."""

    _module, _saved = None, None

    def __getattr__(self, name):
        path = CODE / "student_code.py"
        if not path.exists():
            raise ResultError(f"there is no {path.name} in {CODE.name}/, the folder beside this one")
        saved = path.stat().st_mtime_ns
        if saved != Student._saved:
            sys.modules.pop("student_code", None)
            importlib.invalidate_caches()
            Student._module = importlib.import_module("student_code")
            Student._saved = saved
        if not hasattr(Student._module, name):
            raise ResultError(f"student_code.py has no {name}; the name must stay as it was")
        return getattr(Student._module, name)


student = Student()


@contextmanager
def step():
    """Say in a sentence what is missing or wrong in student_code.py if the block fails, without a traceback."""
    try:
        yield
    except NotImplementedError as error:
        name = str(error).removesuffix(" is yours to write") or "a function of student_code.py"
        print(f"Not filled in yet: {name}.\nWrite it in code/student_code.py, save the file, run this cell again.")
    except ResultError as error:
        print(f"✗ {error}")
    except SyntaxError as error:
        print(f"✗ {Path(error.filename or '?').name}, line {error.lineno}: {error.msg}", error.text or "", sep="\n    ")
    except Exception as error:
        print(f"✗ {type(error).__name__}: {error}")
        for frame in traceback.extract_tb(error.__traceback__):
            if Path(frame.filename).parent == CODE:
                print(f"    {Path(frame.filename).name}, line {frame.lineno}, {frame.name}: {frame.line}")
    finally:
        plt.close("all")


def say(passed, text):
    """Print a line with ✓ or ✗."""
    print(f"{'✓' if passed else '✗'} {text}")


def require_shape(name, value, expected):
    """Stop the block if a result is no tensor of the expected shape."""
    got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
    if got != tuple(expected):
        raise ResultError(f"{name}: expected the shape {tuple(expected)}, got {got}")


def check_shape(name, value, expected):
    """Print the shape of a result; stop the block if it is not the expected one."""
    require_shape(name, value, expected)
    say(True, f"{name}: shape {tuple(expected)}, as expected")


def draw(axis, values, title, limit=None):
    """Draw a matrix with its numbers, on a scale from -limit (red) over 0 (white) to limit (blue)."""
    values = values.detach().cpu().double()
    limit = limit or max(values.abs().max().item(), 1e-12)
    axis.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit)
    style = {"ha": "center", "va": "center", "fontsize": 11 if values.shape[1] < 4 else 9}
    for row, line in enumerate(values.tolist() if values.numel() <= 64 else []):
        for column, value in enumerate(line):
            color = "white" if abs(value) > 0.6 * limit else "black"
            text = f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:.0f}"
            axis.text(column, row, "0" if text == "-0" else text, color=color, **style)
    axis.set(title=title, xticks=range(values.shape[1]), yticks=range(values.shape[0]))


def compare(name, expected, got, *, beside=(), words=("expected", "got"), tolerance=1e-5):
    """Draw two matrices and their difference, after what lies `beside` them: pairs of a title and a matrix."""
    require_shape(name, got, expected.shape)
    expected, got = (values.detach().cpu().double() for values in (expected, got))
    pictures = [*beside, (words[0], expected), (words[1], got), ("difference", got - expected)]
    widths = [values.shape[1] for _, values in pictures]
    size = (min(13, max(2.5, 0.65 * max(widths)) * len(pictures)), 3)
    figure, axes = plt.subplots(1, len(pictures), figsize=size, width_ratios=widths)
    limit = torch.cat([expected, got]).nan_to_num(0, 0, 0).abs().max().item()  # one scale for both
    for axis, (title, values), scale in zip(axes, pictures, [None] * len(beside) + [limit, limit, limit]):
        draw(axis, values, title, scale)
    figure.suptitle(name, y=1.1)
    plt.show()
    worst = (got - expected).abs().max().item()
    say(worst <= tolerance, f"{name}: largest difference {worst:.2g}")
