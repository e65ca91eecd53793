"""What the grader can ask of a student's code: each takes the module and a request, returns values and tensors."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner import gpu
from runner.audit import Audit
from runner.imports import import_student
from runner.networks import CLASSES, LOSSES, MAX_CALLS, build, load
from runner.record import Record
from runner.tracing import CallTrace
from runner.wire import Message
from runner.workspace import copy_submission

MOST_NODES = 20_000  # of a graph that is walked
_on_cpu: list[gpu.OnCpu] = []
_records: list[Record] = []
_loaded: dict[str, nn.Module] = {}


def load_student(request: Message, record: Record) -> tuple[ModuleType, Message]:
    """Import the student's file in a writable copy of what was handed in; its folder is the working directory.

    Values: `folder` that was handed in, `path` of the file below it, `emulate_gpu`, and `scanned`, the SHA-256 of each
    file that the grader has read, by its path.
    """
    values = request.values
    folder = copy_submission(Path(values["folder"]))
    path = folder / values["path"]
    record.root = f"{folder}/"
    _records.append(record)
    os.chdir(path.parent)
    if values["emulate_gpu"]:
        gpu.emulate()
        _on_cpu.append(gpu.OnCpu())
        _on_cpu[0].__enter__()
    _seed_generators()
    audit = Audit(record, record.root, values["scanned"], str(Path(__file__).parent))
    audit.install()
    _watch_operators(audit)
    module, missing = import_student(path, folder)
    names = sorted(name for name in vars(module) if not name.startswith("_"))
    return module, Message({"names": names[:500], "missing": sorted(set(missing))[:50]})


def _watch_operators(audit: Audit) -> None:
    """Mark operators and kernels that a student's code registers: what they call is not seen as the code's own."""
    make = torch._C._dispatch_library

    def watched(kind: str, namespace: str, *arguments: Any) -> Any:
        text = f"registers an operator or a kernel of torch ({namespace})"
        audit.flag_caller(text, through=("/torch/library.py", "/torch/_library/"))
        return make(kind, namespace, *arguments)

    torch._C._dispatch_library = watched


def _seed_generators() -> None:
    """NumPy's generators without a seed begin at one number: results are the same each time."""
    make = numpy.random.default_rng
    numpy.random.default_rng = lambda seed=None: make(0 if seed is None else seed)


def _wanted(module: ModuleType, *names: str) -> Any:
    for name in names:
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"student_code.py has no {names[0]}")


def _tensor(found: Any, what: str) -> Tensor:
    if not isinstance(found, Tensor):
        raise TypeError(f"{what} returned {type(found).__name__}, not a tensor")
    return found


def _result(name: str, found: Tensor, others: dict[str, Tensor], **values: Any) -> Message:
    facts = {"requires_grad": bool(found.requires_grad), "has_graph": found.grad_fn is not None}
    return Message(facts | values, {name: found, **others})


def convolve(module: ModuleType, request: Message) -> Message:
    """custom_conv2d on leaves, and the gradient of one of them.

    Tensors: input, weight, perhaps bias, perhaps towards (the gradient of the output). Values: stride, padding; `of`,
    the leaf whose gradient is asked for, or None; and perhaps `trace`, to record whose functions are called.
    """
    of, sent = request.values["of"], request.tensors
    leaves = {name: sent[name].clone() for name in ("input", "weight", "bias") if name in sent}
    if of is not None:
        leaves[of].requires_grad_(True)
    function = getattr(module, "custom_conv2d", None) or _wanted(module, "CustomConv2DFunction").apply
    gradient = {}
    with CallTrace(_records[0]) if request.values.get("trace") else nullcontext():
        output = function(
            leaves["input"], leaves["weight"], leaves.get("bias"), request.values["stride"], request.values["padding"]
        )
        output = _tensor(output, "custom_conv2d")
        if of is not None:
            if output.shape != sent["towards"].shape:
                got, expected = (tuple(each.shape) for each in (output, sent["towards"]))
                raise RuntimeError(f"the output is {got} where {expected} is expected, so its gradients cannot be had")
            if not output.requires_grad:
                raise RuntimeError(f"the output does not depend on {of} as autograd sees it")
            (found,) = torch.autograd.grad(output, leaves[of], sent["towards"].clone(), allow_unused=True)
            if found is None:
                raise RuntimeError(f"backward returned None for {of}")
            gradient = {"gradient": found}
    after = {f"{name}_after": leaf for name, leaf in leaves.items()}
    return _result("output", output, {**gradient, **after})


def convolve_natively(_module: ModuleType | None, request: Message) -> Message:
    """PyTorch's own convolution of several inputs, before any code of the student's is there, with the bias in it and
    added apart; values: cases.
    """
    outputs = {}
    for number, (stride, padding) in enumerate(request.values["cases"]):
        image, weight, bias = (request.tensors[f"{name}{number}"] for name in ("input", "weight", "bias"))
        outputs[f"output{number}"] = F.conv2d(image, weight, bias, stride, padding)
        outputs[f"apart{number}"] = F.conv2d(image, weight, None, stride, padding) + bias[:, None, None]
    return Message({}, outputs)


def convolve_all(module: ModuleType, request: Message) -> Message:
    """custom_conv2d of the same inputs."""
    function = getattr(module, "custom_conv2d", None) or _wanted(module, "CustomConv2DFunction").apply
    outputs = {}
    for number, (stride, padding) in enumerate(request.values["cases"]):
        arguments = (request.tensors[f"{name}{number}"] for name in ("input", "weight", "bias"))
        outputs[f"output{number}"] = _tensor(function(*arguments, stride, padding), "custom_conv2d")
    return Message({}, outputs)


def run_module(module: ModuleType, request: Message) -> Message:
    """CustomConv2d with ReLU(inplace=True) behind it, forward and backward; tensors: input, weight, perhaps bias."""
    wide, out, kernel = request.tensors["weight"].shape[1], request.tensors["weight"].shape[0], request.values["kernel"]
    made = _wanted(module, "CustomConv2d")(
        wide, out, kernel, stride=request.values["stride"], padding=request.values["padding"],
        bias="bias" in request.tensors,
    )  # fmt: skip
    load(made, {name: value for name, value in request.tensors.items() if name in ("weight", "bias")})
    images = request.tensors["input"].clone().requires_grad_(True)
    output = nn.ReLU(inplace=True)(_tensor(made(images), "CustomConv2d"))
    (output * request.tensors["towards"]).sum().backward()
    gradients = {f"{name}_gradient": p.grad for name, p in made.named_parameters() if p.grad is not None}
    if images.grad is not None:
        gradients["input_gradient"] = images.grad
    return _result("output", output, gradients)


def train_step(module: ModuleType, request: Message) -> Message:
    """One training step of a network whose convolutions are CustomConv2d; values: layers; tensors: its weights."""
    network = build(request.values["layers"], _wanted(module, "CustomConv2d"))
    load(network, {name: value for name, value in request.tensors.items() if name not in ("input", "labels")})
    loss = F.cross_entropy(network(request.tensors["input"].clone()), request.tensors["labels"])
    loss.backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return _result("loss", loss, gradients)


class _Judged:
    """The network that an attack or an attention map is about, watched while it is used.

    Attributes:
        network: as the request describes it.
        depths: the size of the graph behind the input at each call.
        inputs: the first inputs that it was called with.
    """

    def __init__(self, request: Message) -> None:
        self.training = request.values.get("training", False)
        self.network = build(request.values["layers"]).train(self.training)
        load(self.network, {name: value for name, value in request.tensors.items() if name != "input"})
        self.depths: list[int] = []
        self.inputs: list[Tensor] = []
        self._before = _state(self.network)
        forward = self.network.forward

        def watched(input: Tensor) -> Tensor:
            self.depths.append(_graph_size(input))
            if len(self.inputs) < MAX_CALLS:
                self.inputs.append(input.detach().clone())
            return forward(input)

        self.network.forward = watched

    def changes(self) -> dict[str, Any]:
        """What is not as it was: weights and statistics, dtypes, modes, frozen parameters, gradients, hooks."""
        after, modules = _state(self.network), list(self.network.modules())
        changed = [name for name, value in self._before.items() if not _same(after.get(name), value)]
        hooked = any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in modules)
        return {
            "changed": changed + sorted(set(after) - set(self._before)),
            "mode_changed": any(part.training != self.training for part in modules),
            "gradients_left": [name for name, p in self.network.named_parameters() if p.grad is not None],
            "frozen": [name for name, p in self.network.named_parameters() if not p.requires_grad],
            "hooked": hooked,
        }


def _same(found: Tensor | None, expected: Tensor) -> bool:
    return found is not None and found.dtype == expected.dtype and torch.equal(found, expected)


def _graph_size(tensor: Tensor) -> int:
    """Nodes of the graph behind a tensor."""
    seen, waiting = set(), [tensor.grad_fn]
    while waiting and len(seen) < MOST_NODES:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return len(seen)


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def perturb(module: ModuleType, request: Message) -> Message:
    """PGDAttack on a network of the grader's; values: layers, loss, options; tensors: input and weights."""
    judged, images = _Judged(request), request.tensors["input"].clone()
    attack = _wanted(module, "PGDAttack", "default_attack")(LOSSES[request.values["loss"]], **request.values["options"])
    output = _tensor(attack.perturb(judged.network, images), "perturb")
    seen = {f"call{n}": each for n, each in enumerate(judged.inputs) if each.dtype == output.dtype}
    return _result("output", output, {"input_after": images, **seen}, depths=judged.depths[:200], **judged.changes())


def explain(module: ModuleType, request: Message) -> Message:
    """GradAttention on a network of the grader's; values: layers, loss; tensors: input and weights."""
    judged, images = _Judged(request), request.tensors["input"].clone()
    attention = _wanted(module, "GradAttention", "default_attention")(LOSSES[request.values["loss"]])
    output = _tensor(attention.explain(judged.network, images), "explain")
    return _result("output", output, {"input_after": images}, depths=judged.depths[:200], **judged.changes())


def _network(module: ModuleType, names: list[str], **options: Any) -> nn.Module:
    make = _wanted(module, *names)
    try:
        made = make(num_classes=CLASSES, **options)  # as main.py does
    except TypeError:
        made = make(**options)
    if not isinstance(made, nn.Module):
        raise TypeError(f"{names[0]} made {type(made).__name__}, not an nn.Module")
    return made


def describe_model(module: ModuleType, request: Message) -> Message:
    """The student's network: its parameters' shapes."""
    network = _network(module, request.values["names"])
    shapes = [list(parameter.shape) for parameter in network.parameters()]
    stored = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    kinds = [type(part).__name__ for part in network.modules()]
    later = hasattr(module, "default_cnn_model") and not hasattr(module, "default_model")
    return Message({"shapes": shapes[:5000], "parameters": sum(p.numel() for p in network.parameters()),
                    "bytes": stored, "kinds": kinds[:5000], "later": later})  # fmt: skip


def run_model(module: ModuleType, request: Message) -> Message:
    """The student's network forward and backward on the images sent."""
    network = _network(module, request.values["names"], **request.values.get("options", {}))
    scores = _tensor(network.train()(request.tensors["input"].clone()), "the network")
    if scores.shape != (len(request.tensors["labels"]), CLASSES):
        return _result("scores", scores, {})  # the grader says what is wrong with it
    loss = F.cross_entropy(scores, request.tensors["labels"])
    loss.backward()
    without = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    bad = [name for name, p in network.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    return _result("scores", scores, {"loss": loss}, without_gradient=without[:20], not_finite=bad[:20])


def predict(module: ModuleType, request: Message) -> Message:
    """Scores of the images sent by the student's network with the weights of a checkpoint that was handed in."""
    path = request.values["path"]
    if path not in _loaded:
        _loaded[path] = _load_checkpoint(_network(module, request.values["names"]), path)
    with torch.no_grad():
        scores = _tensor(_loaded[path](request.tensors["input"]), "the network")
    return Message({}, {"scores": scores.float()})


def _load_checkpoint(network: nn.Module, path: str) -> nn.Module:
    stored = torch.load(path, map_location="cpu", weights_only=True)
    weights = stored.get("state_dict", stored) if isinstance(stored, dict) else stored
    if not isinstance(weights, dict):
        raise TypeError("the checkpoint holds no state_dict")
    network.load_state_dict({name.removeprefix("module."): value for name, value in weights.items()})
    return network.eval()


OPERATIONS: dict[str, Callable[[Any, Message], Message]] = {
    "convolve": convolve,
    "convolve_natively": convolve_natively,
    "convolve_all": convolve_all,
    "run_module": run_module,
    "train_step": train_step,
    "perturb": perturb,
    "explain": explain,
    "describe_model": describe_model,
    "run_model": run_model,
    "predict": predict,
}
