"""Operations that the grader can request: each takes the student's module and the request, and returns the reply."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenelab_runner.message import Message, ResultError
from scenelab_runner.networks import CLASSES, LOSSES, WatchedModel, build, load, takes
from scenelab_runner.record import records, trace_calls

GRADED = ("convolve", "run_module", "train_step")  # operations that must not call PyTorch's own convolution
LEAVES = ("input", "weight", "bias")
_loaded: dict[str, nn.Module] = {}


def _get(module: ModuleType, *names: str) -> Any:
    for name in names:
        if hasattr(module, name):
            return getattr(module, name)
    raise ResultError(f"student_code.py has no {names[0]}")


def _convolution(module: ModuleType) -> Callable[..., Any]:
    return getattr(module, "custom_conv2d", None) or _get(module, "CustomConv2DFunction").apply


def _require_tensor(value: Any, what: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise ResultError(f"{what} returned {type(value).__name__}, not a tensor")
    return value


def _reply(name: str, output: Tensor, others: dict[str, Tensor], **values: Any) -> Message:
    facts = {"requires_grad": bool(output.requires_grad), "has_graph": output.grad_fn is not None}
    return Message(facts | values, {name: output, **others})


def _gradients(network: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def convolve(module: ModuleType, request: Message) -> Message:
    """Run the student's custom_conv2d; return output, gradient, and the inputs as left by the call (`*_after`).

    Request tensors: input, weight, bias (optional), towards (upstream gradient). Request values: stride, padding, of
    (name of the tensor whose gradient to return, or None), trace (whether to record calls of other packages).
    """
    of = request.values["of"]
    with trace_calls(records[0]) if request.values.get("trace") else nullcontext():
        try:
            return _convolve(module, request, [] if of is None else [of])
        except Exception as error:
            if of is None or isinstance(error, ResultError):
                raise
            try:  # some code fails unless all gradients are needed, as in training
                return _convolve(module, request, [of, *(name for name in LEAVES if name != of)])
            except Exception:
                raise error from None


def _convolve(module: ModuleType, request: Message, needed: list[str]) -> Message:
    """Run the student's custom_conv2d on tensors of which the `needed` ones require gradients; return the first one's.

    Autograd computes the gradients of all that are needed.
    """
    tensors = request.tensors
    leaves = {name: tensors[name].clone().requires_grad_(name in needed) for name in LEAVES if name in tensors}
    settings = request.values["stride"], request.values["padding"]
    function, others = _convolution(module), {f"{name}_after": leaf for name, leaf in leaves.items()}
    output = function(leaves["input"], leaves["weight"], leaves.get("bias"), *settings)
    output = _require_tensor(output, "custom_conv2d")
    if needed:
        wanted = [leaves[name] for name in needed if name in leaves]
        others["gradient"] = _gradient(output, needed[0], wanted, tensors["towards"])
    return _reply("output", output, others)


def _gradient(output: Tensor, of: str, leaves: list[Tensor], towards: Tensor) -> Tensor:
    if output.shape != towards.shape:
        got, expected = tuple(output.shape), tuple(towards.shape)
        raise ResultError(f"the output is {got} where {expected} is expected, so its gradients cannot be had")
    if not output.requires_grad:
        raise ResultError(f"the output does not depend on {of} as autograd sees it")
    gradient, *_ = torch.autograd.grad(output, leaves, towards.clone(), allow_unused=True)
    if gradient is None:
        raise ResultError(f"backward returned None for {of}")
    return gradient


def _cases(request: Message) -> list[tuple[Any, ...]]:
    return [
        (str(number), *(request.tensors[f"{name}{number}"] for name in ("input", "weight", "bias")), stride, padding)
        for number, (stride, padding) in enumerate(request.values["cases"])
    ]


def convolve_natively(_module: ModuleType | None, request: Message) -> Message:
    """Run F.conv2d on several cases, before any student code runs.

    The reply has two results per case: with the bias added by F.conv2d (`output0`, …), or added afterwards
    (`apart0`, …). Request tensors: input0, weight0, bias0, …. Request value: cases, a list of [stride, padding].
    """
    outputs = {}
    for number, image, weight, bias, stride, padding in _cases(request):
        outputs[f"output{number}"] = F.conv2d(image, weight, bias, stride, padding)
        outputs[f"apart{number}"] = F.conv2d(image, weight, None, stride, padding) + bias[:, None, None]
    return Message({}, outputs)


def convolve_all(module: ModuleType, request: Message) -> Message:
    """Return the outputs (`output0`, …) of the student's custom_conv2d for the request of `convolve_natively`."""
    function, cases = _convolution(module), _cases(request)
    return Message({}, {f"output{n}": _require_tensor(function(*args), "custom_conv2d") for n, *args in cases})


def run_module(module: ModuleType, request: Message) -> Message:
    """Run the student's CustomConv2d and ReLU(inplace=True) forward and backward; return output and gradients.

    Request tensors: input, weight, bias (optional), towards (upstream gradient). Values: kernel size, stride, padding.
    """
    values, tensors = request.values, request.tensors
    channels, size = tensors["weight"].shape[:2], values["kernel"]
    options = {"stride": values["stride"], "padding": values["padding"], "bias": "bias" in tensors}
    layer = _get(module, "CustomConv2d")(channels[1], channels[0], size, **options).to(tensors["weight"].dtype)
    load(layer, {name: value for name, value in tensors.items() if name in ("weight", "bias")})
    images = tensors["input"].clone().requires_grad_(True)
    output = nn.ReLU(inplace=True)(_require_tensor(layer(images), "CustomConv2d"))
    (output * tensors["towards"]).sum().backward()
    gradients = {f"{name}_gradient": grad for name, grad in _gradients(layer).items()}
    if images.grad is not None:
        gradients["input_gradient"] = images.grad
    return _reply("output", output, gradients)


def train_step(module: ModuleType, request: Message) -> Message:
    """Return the loss and the parameter gradients of a network of the student's CustomConv2d, without an update.

    The loss is cross-entropy. Request values: layers (see `build`). Request tensors: input, labels, weights by name.
    """
    network = build(request.values["layers"], _get(module, "CustomConv2d"))
    load(network, {name: tensor for name, tensor in request.tensors.items() if name not in ("input", "labels")})
    loss = F.cross_entropy(network(request.tensors["input"].clone()), request.tensors["labels"])
    loss.backward()
    return _reply("loss", loss, _gradients(network))


def _watched(module: ModuleType, request: Message) -> tuple[WatchedModel, Tensor]:
    weights = {name: value for name, value in request.tensors.items() if name != "input"}
    networks = (each for each in vars(module).values() if isinstance(each, type) and issubclass(each, nn.Module))
    takers = [each.forward for each in networks if not each.__module__.startswith("torch.")]
    training = request.values.get("training", False)
    model = WatchedModel(request.values["layers"], weights, training=training, takers=takers)
    return model, request.tensors["input"].clone()


def perturb(module: ModuleType, request: Message) -> Message:
    """Run the student's PGDAttack on a `WatchedModel`; return adversarial examples, and the model's inputs and changes.

    Request values: layers (see `build`), loss (a name of `LOSSES`), options (of the attack), training (mode of the
    model). Request tensors: input, weights by name.
    """
    model, images = _watched(module, request)
    make, options = _get(module, "PGDAttack", "default_attack"), request.values["options"]
    args = [LOSSES[request.values["loss"]]]
    if not takes(make, args, options) and takes(make, [*args, *options.values()], {}):  # parameters have other names
        args, options = [*args, *options.values()], {}
    output = _require_tensor(make(*args, **options).perturb(model.network, images), "perturb")
    inputs = {f"call{n}": each for n, each in enumerate(model.inputs) if each.dtype == output.dtype}
    return _reply("output", output, {"input_after": images, **inputs}, **model.changes())


def explain(module: ModuleType, request: Message) -> Message:
    """Run the student's GradAttention on a `WatchedModel`; return attributions and the model's changes.

    Request values: layers (see `build`), loss (a name of `LOSSES`). Request tensors: input, weights by name.
    """
    model, images = _watched(module, request)
    attention = _get(module, "GradAttention", "default_attention")(LOSSES[request.values["loss"]])
    output = _require_tensor(attention.explain(model.network, images), "explain")
    return _reply("output", output, {"input_after": images}, **model.changes())


def _make_network(module: ModuleType, names: list[str], **options: Any) -> nn.Module:
    make = _get(module, *names)
    try:
        network = make(num_classes=CLASSES, **options)  # as main.py does
    except TypeError:
        network = make(**options)
    if not isinstance(network, nn.Module):
        raise ResultError(f"{names[0]} made {type(network).__name__}, not an nn.Module")
    return network


def describe_model(module: ModuleType, request: Message) -> Message:
    """Return parameter shapes, parameter count, size in bytes and module class names of the student's network.

    `later` in the reply is True if the submission has a name of the assignment's editions since 2022; `name` is the one
    that its own network should have.
    """
    names = request.values["names"]
    network = _make_network(module, names)
    parameters, state = list(network.parameters()), network.state_dict().values()
    values: dict[str, Any] = {"shapes": [list(each.shape) for each in parameters][:5000]}
    values["parameters"] = sum(each.numel() for each in parameters)
    values["bytes"] = sum(value.numel() * value.element_size() for value in state)
    values["kinds"] = [type(part).__name__ for part in network.modules()][:5000]
    values["later"] = hasattr(module, "default_cnn_model")
    values["name"] = names[1] if values["later"] and not hasattr(module, names[0]) else names[0]
    return Message(values)


def run_model(module: ModuleType, request: Message) -> Message:
    """Run the student's network in training mode, forward and backward; return logits and cross-entropy loss.

    The reply also names parameters without a gradient or with a gradient that is not finite.
    """
    network = _make_network(module, request.values["names"], **request.values.get("options", {}))
    scores = _require_tensor(network.train()(request.tensors["input"].clone()), "the network")
    if scores.shape != (len(request.tensors["labels"]), CLASSES):
        return _reply("scores", scores, {})  # the grader reports the shape
    loss = F.cross_entropy(scores, request.tensors["labels"])
    loss.backward()
    missing = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    invalid = [name for name, grad in _gradients(network).items() if not grad.isfinite().all()]
    return _reply("scores", scores, {"loss": loss}, without_gradient=missing[:20], not_finite=invalid[:20])


def predict(module: ModuleType, request: Message) -> Message:
    """Return logits of the student's network in evaluation mode, with the weights of the submitted checkpoint."""
    path = request.values["path"]
    if path not in _loaded:
        network = _make_network(module, request.values["names"])
        stored = torch.load(path, map_location="cpu", weights_only=True)
        weights = stored.get("state_dict", stored) if isinstance(stored, dict) else stored
        if not isinstance(weights, dict):
            raise ResultError("the checkpoint holds no state_dict")
        network.load_state_dict({name.removeprefix("module."): value for name, value in weights.items()})
        _loaded[path] = network.eval()
    with torch.no_grad():
        scores = _require_tensor(_loaded[path](request.tensors["input"]), "the network")
    return Message({}, {"scores": scores.float()})


def call_function(module: ModuleType, request: Message) -> Message:
    """Call a function of the student's file; return its tensor as `output`, or its tensors as `output0`, ….

    Request values: name (of the function), order (for each argument, the name of a tensor of the request, or a list
    that contains one JSON value), options (keyword arguments). Other results become the reply's value `result`.
    """
    tensors = {name: tensor.clone() for name, tensor in request.tensors.items()}
    arguments = [each[0] if isinstance(each, list) else tensors[each] for each in request.values["order"]]
    output = _get(module, request.values["name"])(*arguments, **request.values["options"])
    after = {f"{name}_after": tensor for name, tensor in tensors.items()}
    if isinstance(output, Tensor):
        return _reply("output", output, after)
    outputs = output if isinstance(output, (tuple, list)) else ()
    if outputs and all(isinstance(each, Tensor) for each in outputs):
        return Message({}, {f"output{number}": each for number, each in enumerate(outputs)} | after)
    return Message({"result": output}, after)


_WITH_CONVOLUTION = (convolve, convolve_natively, convolve_all, run_module, train_step)
_FUNCTIONS = (*_WITH_CONVOLUTION, call_function, perturb, explain, describe_model, run_model, predict)
OPERATIONS: dict[str, Callable[[Any, Message], Message]] = {each.__name__: each for each in _FUNCTIONS}
