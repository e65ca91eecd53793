"""Static analysis of student code: findings for manual review, which cost no points by themselves."""

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from scenelab.course.grading.source_text import read_text
from scenelab.course.unfilled import FUNCTIONS, unfilled
from scenelab.errors import printable


def _any_of(words: str) -> re.Pattern[str]:
    return re.compile(rf"({'|'.join(words.split())})\Z")


NAMES = """
CustomConv2DFunction custom_conv2d CustomConv2d PGDAttack GradAttention SimpleNet default_model default_cnn_model
default_vit_model default_attack default_attention vis_grad_attention default_visfunction
""".split()
"""Names that the assignment defines, in the kit of 2019 and later kits."""
CONVOLUTION = ("CustomConv2DFunction", "CustomConv2d", "custom_conv2d")
BANNED = _any_of(r"""
conv[123]d conv_transpose[123]d conv_tbc Conv[123]d ConvTranspose[123]d LazyConv\w* _conv_forward convolution
_convolution convolution_backward conv2d_input conv2d_weight thnn_conv2d mkldnn_convolution cudnn_convolution\w*
convolve2d convolve correlate2d correlate fftconvolve filter2D
""")
NAMED = re.compile(r"^(conv|Conv)(_transpose|Transpose)?[123]d$")
LIBRARIES = frozenset("torch torchvision scipy cv2 skimage kornia numpy jax tensorflow".split())
FOREIGN = frozenset("scenelab torchattacks foolbox captum kornia".split())  # packages that contain solutions


class Words(NamedTuple):
    """Regular expressions that match attribute names, bare names, and parts of imported module names."""

    attributes: re.Pattern[str]
    names: re.Pattern[str]
    imports: re.Pattern[str]


HIDING = Words(
    attributes=_any_of(r"""
_python_dispatch settrace setprofile _getframe _current_frames get_objects get_referrers get_referents __subclasses__
__globals__ __builtins__ __dict__ f_back f_globals f_locals meta_path _pop_mode __getattribute__ __torch_dispatch__
__torch_function__ attrgetter methodcaller system popen exec[lv]p?e? spawn\w+ posix_spawnp? run_module run_path
start_new_thread load_library cpp_extension custom_op register_kernel register_fake _dispatch_library pycache_prefix
__closure__ cell_contents tb_frame gi_frame cr_frame walk_stack walk_tb _op_dk redispatch get_kernel call_boxed
runstring DispatchKey DispatchKeySet getprofile _sigtools _dispatch_get\w+ py_object string_at
"""),
    names=_any_of("eval exec __import__ vars __builtins__ locals globals"),
    imports=_any_of("""
_python_dispatch ctypes cffi inspect importlib builtins __main__ scenelab_runner threading _thread concurrent asyncio
multiprocessing subprocess pickle marshal operator runpy code codeop numba cpp_extension imp pkgutil dill joblib
"""),
)
"""Ways to reach the grader's monitor, to call a function without naming it, or to leave the traced thread."""
ODD = Words(
    attributes=_any_of("_exit kill killpg fork forkpty mmap memfd_create ptrace _C"),
    names=_any_of("delattr compile"),
    imports=_any_of("socket signal mmap"),
)
"""Names that a solution of the assignment rarely needs."""
ELSEWHERE = frozenset("threading subprocess ctypes multiprocessing importlib _thread".split())
UNSAFE = (("weights_only", False), ("allow_pickle", True))
CONVOLVING = frozenset("scipy.signal scipy.ndimage onnxruntime tensorflow jax mxnet tinygrad openvino tvm".split())
"""Modules whose convolutions are invisible when torch is monitored."""
MAX_NOTES = 40  # per kind of finding
MAX_IMPORTS = 5000
MAX_PARTS = 8  # of a dotted name in a note


@dataclass
class Source:
    """Findings in a student's file; each note starts with a line number, as in "line 12: F.conv2d"."""

    defined: list[str] = field(default_factory=list)  # names defined at the top level
    error: str = ""  # why the file cannot be parsed, with the line
    banned: list[str] = field(default_factory=list)  # library convolutions named in code of the student's convolution
    foreign: list[str] = field(default_factory=list)  # imports of packages that contain solutions
    hiding: list[str] = field(default_factory=list)  # ways to hide a call, or to reach the grader's monitor
    imports: list[str] = field(default_factory=list)  # imported modules
    uses: list[str] = field(default_factory=list)  # modules from which the convolution uses a name
    stars: list[str] = field(default_factory=list)  # modules imported with `*`
    names: list[str] = field(default_factory=list)  # names that the convolution uses and the file does not define
    review: list[str] = field(default_factory=list)  # other findings for manual review
    unfilled: list[str] = field(default_factory=list)  # functions of the kit that are not filled in
    scanned: dict[str, str] = field(default_factory=dict)  # SHA-256 of each file that was read, by path

    @property
    def known(self) -> int:
        """Number of names in `NAMES`, the assignment's classes and functions, that the file defines."""
        return len(set(self.defined) & set(NAMES))

    @property
    def answered(self) -> int:
        """Number of the kit's functions that the file defines and fills in."""
        names = {f"{owner}.{name}" for owner, name in FUNCTIONS if owner in self.defined}
        return len(names - set(self.unfilled))


def examine(path: Path, *, all_reached: bool = False) -> Source:
    """Return the findings in a Python file; a file that cannot be parsed sets `error` instead of raising.

    With `all_reached`, treat all code in the file as part of the convolution, as in an imported helper module.
    """
    text = ""
    try:
        text, _ = read_text(path)
        return _examine(ast.parse(text, filename=path.name), all_reached)
    except SyntaxError as error:
        line = f": {error.text.strip()[:120]}" if error.text else ""
        problem = f"{path.name}, line {error.lineno or 1}: {error.msg}{line}"
    except (ValueError, RecursionError, MemoryError, OSError) as error:
        problem = f"{path.name}: {error or type(error).__name__}"[:200]
    defined = re.findall(r"^(?:class|def)\s+(\w+)", text, re.MULTILINE) + re.findall(r"^(\w+)\s*=", text, re.MULTILINE)
    return Source(error=printable(problem), defined=defined)


def _examine(tree: ast.Module, all_reached: bool) -> Source:
    nodes = list(ast.walk(tree))
    own = _own_names(nodes)
    reached = nodes if all_reached else list(_reached(tree))
    names = {node.id for node in reached if isinstance(node, ast.Name)}
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    reached = [*reached, *(node for node in imports if any((each.asname or each.name) in names for each in node.names))]
    bound = [pair for node in nodes for pair in _bound(node)]
    packages = ((node, name) for node in nodes for name in _modules(node) if name.partition(".")[0] in FOREIGN)
    return Source(
        defined=list(_defined(tree)),
        banned=_first(note for node in reached for note in _banned(node, own)),
        foreign=_first(_note(node, f"import of {name}") for node, name in packages),
        hiding=_first(note for node in nodes for note in (*_matching(node, HIDING), *_hiding(node))),
        imports=_first((module for module, _ in bound), MAX_IMPORTS),
        uses=_first((module for module, name in bound if name in names), MAX_IMPORTS),
        stars=_first((module for module, name in bound if name == "*"), MAX_IMPORTS),
        names=sorted(names - own)[:2000],
        review=_first(note for node in nodes for note in (*_matching(node, ODD), *_replaced(node))),
        unfilled=unfilled(tree),
    )


def _note(node: Any, text: str) -> str:
    return f"line {node.lineno}: {text}"


def _first(notes: Iterator[str], count: int = MAX_NOTES) -> list[str]:
    """Return the first `count` distinct notes; the iterator is not read further, to save time."""
    seen: set[str] = set()
    return list(islice((note for note in notes if not (note in seen or seen.add(note))), count))


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.ClassDef() | ast.FunctionDef():
                yield node.name
            case ast.Assign() | ast.AnnAssign():
                yield from _targets(node)
            case ast.Import() | ast.ImportFrom() if getattr(node, "module", "") != "student_code":  # uses of answers
                yield from (alias.asname or alias.name for alias in node.names)


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _reached(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the AST nodes of the convolution, of all definitions that it uses, and of other top-level code.

    Other code, such as a loop, may change a definition. Imports and `if __name__ == "__main__":` are left out.
    """
    places: dict[str, ast.AST] = {}
    roots: dict[int, ast.AST] = {}
    for node in tree.body:
        match node:
            case ast.ClassDef() | ast.FunctionDef():
                places[node.name] = node
            case ast.Assign() if all(isinstance(target, ast.Name) for target in node.targets):
                places |= dict.fromkeys(_targets(node), node)
            case ast.Import() | ast.ImportFrom() | ast.If(test=ast.Compare(left=ast.Name(id="__name__")), orelse=[]):
                pass  # the self-test does not run on import
            case _:
                roots[id(node)] = node  # a loop, an assignment to an attribute, …: it may change any definition
    waiting, seen = [name for name in CONVOLUTION if name in places], set()
    while waiting:
        name = waiting.pop()
        node = places[name]
        if name in seen or id(node) in roots:
            continue
        seen.add(name)
        roots[id(node)] = node
        names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        waiting += sorted(other for other in names if other in places and other not in seen)
    for root in roots.values():
        yield from ast.walk(root)


def _own_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names of functions, classes, arguments and variables that the student's code defines."""
    own = {node.name for node in nodes if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return own | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _banned(node: ast.AST, own: set[str]) -> Iterator[str]:
    """Yield notes on library convolutions that a node names; names in `own` are the student's and allowed."""
    match node:
        case ast.Attribute(attr=name) if BANNED.match(name) and not _is_own(node, own):
            yield _note(node, _dotted(node))
        case ast.Name(id=name) if BANNED.match(name) and name not in own:
            yield _note(node, name)
        case ast.ImportFrom(module=module, level=0) if (module or "").partition(".")[0] in LIBRARIES:
            names = (alias.name for alias in node.names if BANNED.match(alias.name))
            yield from (_note(node, f"import of {name} from {module}") for name in names)
        case ast.Constant(value=str(text)) if NAMED.match(text):
            yield _note(node, repr(text))


def _dotted(node: ast.Attribute) -> str:
    parts: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute) and len(parts) < MAX_PARTS:
        parts.append(inner.attr)
        inner = inner.value
    return ".".join(reversed([*parts, inner.id if isinstance(inner, ast.Name) else "…"]))[:80]


def _is_own(node: ast.Attribute, own: Collection[str] = ()) -> bool:
    """Return whether a node accesses an attribute of `self`, `ctx`, `cls`, or a variable named in `own`."""
    return isinstance(node.value, ast.Name) and (node.value.id in ("self", "ctx", "cls") or node.value.id in own)


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (module, bound name) pairs of an import; `from a import b` yields modules a and a.b."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, (alias.asname or alias.name).partition(".")[0]) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield node.module or alias.name, alias.asname or alias.name
            if node.module and alias.name != "*":
                yield f"{node.module}.{alias.name}", alias.asname or alias.name


def _matching(node: ast.AST, words: Words) -> Iterator[str]:
    match node:
        case ast.Attribute(attr=name) if words.attributes.match(name) and not _is_own(node):
            yield _note(node, _dotted(node))
        case ast.Name(id=name) if words.names.match(name):
            yield _note(node, name)
    for name in _modules(node):
        parts = name.split(".") if words is HIDING else name.split(".")[:1]
        if any(words.imports.match(part) for part in parts):
            yield _note(node, f"import of {name}")
    if isinstance(node, ast.ImportFrom):
        for alias in node.names:
            if words.attributes.match(alias.name) or (node.module, alias.name) == ("sys", "modules"):
                yield _note(node, f"import of {alias.name} from {node.module}")


def _hiding(node: ast.AST) -> Iterator[str]:
    """Yield notes on sys.modules, getattr, unsafe pickles, and imports of modules with their own convolutions."""
    match node:
        case ast.Attribute(attr=name) if (name in ELSEWHERE and not _is_own(node)) or _dotted(node) == "sys.modules":
            yield _note(node, _dotted(node))
        case ast.keyword(arg=name, value=ast.Constant(value=value)) if (name, value) in UNSAFE:
            yield _note(node.value, f"{name}={value}")
        case ast.Import() | ast.ImportFrom():
            members = [f"{node.module}.{a.name}" for a in node.names if isinstance(node, ast.ImportFrom)]
            for name in [*_modules(node), *members]:
                if name in CONVOLVING or name.partition(".")[0] in CONVOLVING:
                    yield _note(node, f"import of {name}, which has convolutions of its own")
                elif name in ("torch._C", "torch._ops"):
                    yield _note(node, f"import of {name}")
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=name), *_]):
            if isinstance(name, str) and (HIDING.attributes.match(name) or ODD.attributes.match(name)):
                yield _note(node, f"getattr of {name}")
        case ast.Call(func=ast.Name(id="getattr"), args=args):
            if not (args and isinstance(args[0], ast.Name) and args[0].id == "self"):
                yield _note(node, "getattr with a name that is made up")
        case ast.Assign(value=value) | ast.NamedExpr(value=value) | ast.keyword(value=value):
            if isinstance(value, ast.Name) and value.id == "getattr":
                yield _note(value, "getattr under another name")


def _replaced(node: ast.AST) -> Iterator[str]:
    for target in node.targets if isinstance(node, ast.Assign) else []:
        name = _dotted(target) if isinstance(target, ast.Attribute) else ""
        if name.startswith(("torch.", "F.", "nn.", "sys.")) and ".backends." not in name:
            yield _note(target, f"{name} is replaced")
