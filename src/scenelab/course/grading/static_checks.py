"""What a student's file says by itself, read as a syntax tree: things to look at and to remark on.

It accuses nobody: what the code calls when it runs decides. What stands here is shown to a person.
"""

import ast
import io
import re
import tokenize
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scenelab.errors import printable

NAMES = (
    "CustomConv2DFunction", "custom_conv2d", "CustomConv2d", "PGDAttack", "GradAttention", "SimpleNet",
    "default_model", "default_cnn_model", "default_vit_model", "default_attack", "default_attention",
    "vis_grad_attention", "default_visfunction",
)  # fmt: skip
"""What the assignment calls its parts, 2019 and later."""

CONVOLUTION = ("CustomConv2DFunction", "CustomConv2d", "custom_conv2d")
BANNED = re.compile(
    r"^(conv[123]d|conv_transpose[123]d|conv_tbc|Conv[123]d|ConvTranspose[123]d|LazyConv\w*|_conv_forward|convolution"
    r"|_convolution|convolution_backward|conv2d_input|conv2d_weight|thnn_conv2d|mkldnn_convolution|cudnn_convolution\w*"
    r"|convolve2d|convolve|correlate2d|correlate|fftconvolve|filter2D)$"
)
NAMED = re.compile(r"^(conv|Conv)(_transpose|Transpose)?[123]d$")
LIBRARIES = ("torch", "torchvision", "scipy", "cv2", "skimage", "kornia", "numpy", "jax", "tensorflow")
FOREIGN = ("scenelab", "torchattacks", "foolbox", "captum", "kornia")
"""Packages that hold the answers."""


@dataclass(frozen=True)
class Words:
    """What is looked for among attributes (`x.word`), bare names and the parts of imports."""

    attributes: re.Pattern[str]
    names: re.Pattern[str]
    imports: re.Pattern[str]


HIDING = Words(
    re.compile(
        r"^(_python_dispatch|settrace|setprofile|_getframe|_current_frames|get_objects|get_referrers|get_referents"
        r"|__subclasses__|__globals__|__builtins__|__dict__|f_back|f_globals|f_locals|meta_path|_pop_mode|__getattribute__"
        r"|__torch_dispatch__|__torch_function__|attrgetter|methodcaller|system|popen|exec[lv]p?e?|spawn\w+|posix_spawnp?"
        r"|run_module|run_path|start_new_thread|load_library|cpp_extension|custom_op|register_kernel|register_fake"
        r"|_dispatch_library|pycache_prefix|__closure__|cell_contents|tb_frame|gi_frame|cr_frame|walk_stack|walk_tb|_op_dk"
        r"|redispatch|get_kernel|call_boxed|runstring|DispatchKey|DispatchKeySet|getprofile|_sigtools|_dispatch_get\w+"
        r"|py_object|string_at)$"
    ),
    re.compile(r"^(eval|exec|__import__|vars|__builtins__|locals|globals)$"),
    re.compile(
        r"^(_python_dispatch|ctypes|cffi|inspect|importlib|builtins|__main__|scenelab_runner|threading|_thread|concurrent"
        r"|asyncio|multiprocessing|subprocess|pickle|marshal|operator|runpy|code|codeop|numba|cpp_extension|imp|pkgutil|dill|joblib)$"
    ),
)
"""Ways to what the grader watches with, to a function without its name, or out of the watched thread."""
ODD = Words(
    re.compile(r"^(_exit|kill|killpg|fork|forkpty|mmap|memfd_create|ptrace|_C)$"),
    re.compile(r"^(delattr|compile)$"),
    re.compile(r"^(socket|signal|mmap)$"),
)
"""What this assignment hardly needs."""
VALUED = (ast.Assign, ast.NamedExpr, ast.keyword)
ELSEWHERE = ("threading", "subprocess", "ctypes", "multiprocessing", "importlib", "_thread")
UNSAFE = (("weights_only", False), ("allow_pickle", True))
CONVOLVING = (
    "scipy.signal",
    "scipy.ndimage",
    "onnxruntime",
    "tensorflow",
    "jax",
    "mxnet",
    "tinygrad",
    "openvino",
    "tvm",
)
"""Modules that one could convolve with, which a watch of torch does not see."""
MOST_FOUND = 40  # notes of a kind
MAX_IMPORTS = 5000
MOST_PARTS = 8  # of a dotted name


@dataclass
class Source:
    """What was found in a student's file.

    Attributes:
        defined: names at its top level.
        error: why it does not parse, with the line; empty where it does.
        banned: PyTorch's convolution named in what the student's own is made of: "line 12: F.conv2d".
        foreign: imports of packages that hold the answers.
        scanned: SHA-256 of each file that was read, by its path in the submission.
        imports: modules that it imports.
        uses: those of which the convolution uses a name.
        stars: those of which all names are imported.
        names: that the convolution uses and the file does not define.
        hiding: ways to hide what is called, or to reach the watch for it.
        review: things that a person should look at; they cost nothing by themselves.
    """

    defined: list[str] = field(default_factory=list)
    error: str = ""
    banned: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    hiding: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)
    stars: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    review: list[str] = field(default_factory=list)
    scanned: dict[str, str] = field(default_factory=dict)

    @property
    def known(self) -> int:
        """How many of the assignment's names it defines."""
        return len(set(self.defined) & set(NAMES))


COOKIE = re.compile(r"^[ \t\f]*#.*?coding[:=]", re.MULTILINE)
ENCODINGS = ("utf-8", "utf-8-sig", "latin-1", "iso-8859-1", "cp1252", "ascii", "iso-8859-15", "gbk", "gb2312", "euc-kr")


def read_text(path: Path) -> tuple[str, str]:
    """A file's text and a note on its encoding where that is unusual; universal newlines, no byte-order mark.

    A line that names an encoding is kept from naming it: the text is written as UTF-8, and must not be decoded twice.
    """
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text, note = data.decode("utf-16", "replace"), f"{path.name} is UTF-16; save it as UTF-8"
    else:
        text, note = _decode(data, path.name)
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        text, note = text.replace("\0", ""), f"{path.name} holds zero bytes; they were left out"
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines[:2] = [line.replace("coding", "c0ding") if COOKIE.match(line) else line for line in lines[:2]]
    return "\n".join(lines).encode("utf-8", "replace").decode(), note


def _decode(data: bytes, name: str) -> tuple[str, str]:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        if encoding.lower().replace("_", "-") in ENCODINGS:
            return data.decode(encoding), ""
    except (SyntaxError, UnicodeError, LookupError):
        pass
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError:
        return data.decode("latin-1"), f"{name} is not UTF-8; save it as UTF-8"


def examine(path: Path, *, all_reached: bool = False) -> Source:
    """Read and parse a file; never raises for what is in it.

    Args:
        all_reached: take everything in it for part of the convolution, as of a module beside student_code.py.
    """
    text = ""
    try:
        text, _ = read_text(path)
        return _examine(ast.parse(text, filename=path.name), all_reached)
    except SyntaxError as error:
        shown = f": {error.text.strip()[:120]}" if error.text else ""
        text_of = printable(f"{path.name}, line {error.lineno or 1}: {error.msg}{shown}")
        return Source(error=text_of, defined=_by_eye(text))
    except (ValueError, RecursionError, MemoryError, OSError) as error:
        return Source(error=printable(f"{path.name}: {error or type(error).__name__}"[:200]), defined=_by_eye(text))


def _examine(tree: ast.Module, all_reached: bool) -> Source:
    found = Source(defined=list(_defined(tree)))
    own = _own_names(tree)
    reached = list(ast.walk(tree) if all_reached else _reached(tree))
    names = {node.id for node in reached if isinstance(node, ast.Name)}
    reached += [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and _brings(node, names)]
    bound = [pair for node in ast.walk(tree) for pair in _bound(node)]
    found.imports = _first((module for module, _ in bound), MAX_IMPORTS)
    found.uses = _first((module for module, name in bound if name in names), MAX_IMPORTS)
    found.stars = _first((module for module, name in bound if name == "*"), MAX_IMPORTS)
    found.names = sorted(names - own)[:2000]
    found.banned = _first(note for node in reached for note in _banned(node, own))
    found.foreign = _first(note for node in ast.walk(tree) for note in _foreign(node))
    found.hiding = _first(note for node in ast.walk(tree) for note in _hiding(node))
    found.review = _first(note for node in ast.walk(tree) for note in _review(node))
    return found


def _first(notes: Iterator[str], most: int = MOST_FOUND) -> list[str]:
    """The first that differ; there are enough after some, so that a file of nothing else takes no time."""
    kept: dict[str, None] = {}
    for note in notes:
        kept[note] = None
        if len(kept) >= most:
            break
    return list(kept)


def _by_eye(text: str) -> list[str]:
    """Names that a file which does not parse seems to define."""
    return re.findall(r"^(?:class|def)\s+(\w+)", text, re.MULTILINE) + re.findall(r"^(\w+)\s*=", text, re.MULTILINE)


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, (ast.ImportFrom, ast.Import)):
            yield from (alias.asname or alias.name for alias in node.names)


def _reached(tree: ast.Module) -> Iterator[ast.AST]:
    """The definitions of the student's convolution, all that they name, and so on; and imports under other names."""
    places: dict[str, ast.AST] = {}
    roots: dict[int, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            places[node.name] = node
        elif isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            places |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif not isinstance(node, (ast.Import, ast.ImportFrom)) and not _is_self_test(node):
            roots[id(node)] = node  # an if, a loop, an assignment to an attribute: it may change any of them
    waiting, seen = [name for name in CONVOLUTION if name in places], set()
    while waiting:
        name = waiting.pop()
        node = places[name]
        if name in seen or id(node) in roots:
            continue
        seen.add(name)
        roots[id(node)] = node
        named = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        waiting += [other for other in named if other in places and other not in seen]
    for root in roots.values():
        yield from ast.walk(root)


def _brings(node: ast.ImportFrom, names: set[str]) -> bool:
    """Whether an import gives one of these names."""
    return any((alias.asname or alias.name) in names for alias in node.names)


def _own_names(tree: ast.Module) -> set[str]:
    """Names that the student gives: to functions and classes, to arguments, to variables."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    own |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return own | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _is_self_test(node: ast.AST) -> bool:
    """if __name__ == "__main__": it never runs where the file is imported."""
    if not isinstance(node, ast.If) or node.orelse or not isinstance(node.test, ast.Compare):
        return False
    return isinstance(node.test.left, ast.Name) and node.test.left.id == "__name__"


def _banned(node: ast.AST, own: set[str]) -> Iterator[str]:
    """PyTorch's convolution and those of other packages, by their names; a student's own may have any."""
    if isinstance(node, ast.Attribute) and BANNED.match(node.attr) and not _of_self(node, own):
        yield f"line {node.lineno}: {_written(node)}"
    elif isinstance(node, ast.Name) and BANNED.match(node.id) and node.id not in own:
        yield f"line {node.lineno}: {node.id}"
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            if BANNED.match(alias.name) and (node.module or "").partition(".")[0] in LIBRARIES and node.level == 0:
                yield f"line {node.lineno}: import of {alias.name} from {node.module}"
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and NAMED.match(node.value):
        yield f"line {node.lineno}: {node.value!r}"


def _written(node: ast.Attribute) -> str:
    """torch.nn.functional.conv2d as it stands there, where its parts are names."""
    parts: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute) and len(parts) < MOST_PARTS:
        parts.append(inner.attr)
        inner = inner.value
    return ".".join(reversed([*parts, inner.id if isinstance(inner, ast.Name) else "…"]))[:80]


def _of_self(node: ast.Attribute, own: Collection[str] = ()) -> bool:
    """Whether it is an attribute of the student's own object or class."""
    return isinstance(node.value, ast.Name) and (node.value.id in ("self", "ctx", "cls") or node.value.id in own)


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Modules that a statement imports, with the names that they or their content get; a name may be a module too."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, (alias.asname or alias.name).partition(".")[0]) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield node.module or alias.name, alias.asname or alias.name
            if node.module and alias.name != "*":
                yield f"{node.module}.{alias.name}", alias.asname or alias.name


def _foreign(node: ast.AST) -> Iterator[str]:
    for name in _modules(node):
        if name.partition(".")[0] in FOREIGN:
            yield f"line {node.lineno}: import of {name}"  # pyright: ignore[reportAttributeAccessIssue]


def _named(node: ast.AST, words: Words) -> Iterator[str]:
    """Places that use such words."""
    if isinstance(node, ast.Attribute) and words.attributes.match(node.attr) and not _of_self(node):
        yield f"line {node.lineno}: {_written(node)}"
    elif isinstance(node, ast.Name) and words.names.match(node.id):
        yield f"line {node.lineno}: {node.id}"
    for name in _modules(node):
        parts = name.split(".") if words is HIDING else name.split(".")[:1]
        if any(words.imports.match(part) for part in parts):
            yield f"line {node.lineno}: import of {name}"  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(node, ast.ImportFrom):
        for alias in node.names:
            if words.attributes.match(alias.name) or (node.module, alias.name) == ("sys", "modules"):
                yield f"line {node.lineno}: import of {alias.name} from {node.module}"


def _hiding(node: ast.AST) -> Iterator[str]:
    """Such words, sys.modules, getattr, pickles that may run code, and modules with convolutions of their own."""
    yield from _named(node, HIDING)
    yield from _getattrs(node)
    if isinstance(node, ast.Attribute):
        of_sys = node.attr == "modules" and isinstance(node.value, ast.Name) and node.value.id == "sys"
        if of_sys or (node.attr in ELSEWHERE and not _of_self(node)):
            yield f"line {node.lineno}: {_written(node)}"
    elif isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
        if (node.arg, node.value.value) in UNSAFE:
            yield f"line {node.value.lineno}: {node.arg}={node.value.value}"
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        names = _modules(node) + [f"{node.module}.{a.name}" for a in node.names if isinstance(node, ast.ImportFrom)]
        for name in names:
            if name in CONVOLVING or name.partition(".")[0] in CONVOLVING:
                yield f"line {node.lineno}: import of {name}, which has convolutions of its own"
            elif name in ("torch._C", "torch._ops"):
                yield f"line {node.lineno}: import of {name}"


def _getattrs(node: ast.AST) -> Iterator[str]:
    """getattr of a word that is looked for, of a name that is made up, or under another name."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
        name = node.args[1] if len(node.args) > 1 else None
        own = bool(node.args) and isinstance(node.args[0], ast.Name) and node.args[0].id == "self"
        if not isinstance(name, ast.Constant):
            if not own:
                yield f"line {node.lineno}: getattr with a name that is made up"
        elif isinstance(name.value, str) and any(words.attributes.match(name.value) for words in (HIDING, ODD)):
            yield f"line {node.lineno}: getattr of {name.value}"
    elif isinstance(node, VALUED) and isinstance(node.value, ast.Name) and node.value.id == "getattr":
        yield f"line {node.value.lineno}: getattr under another name"


def _review(node: ast.AST) -> Iterator[str]:
    yield from _named(node, ODD)
    for target in node.targets if isinstance(node, ast.Assign) else []:
        if (
            isinstance(target, ast.Attribute)
            and _written(target).startswith(("torch.", "F.", "nn.", "sys."))
            and ".backends." not in _written(target)
        ):
            yield f"line {target.lineno}: {_written(target)} is replaced"
