"""Emulation of one GPU on the CPU, so that code that requires a GPU, of NVIDIA or Apple (mps), can be graded."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode

NAME = "emulated GPU"
MEMORY = 16 << 30  # bytes that the emulated GPU reports
DEVICE = vars(torch._C.TensorBase)["device"].__get__
CONSTANT = {vars(torch._C.TensorBase)["is_cuda"].__get__: True, Tensor.get_device: 0, Tensor.record_stream: None}
TYPES = "Float Double Half BFloat16 Byte Char Short Int Long Bool".split()
RETURN_NONE = """
    synchronize set_device empty_cache init _lazy_init ipc_collect set_stream reset_peak_memory_stats
    reset_max_memory_allocated reset_max_memory_cached reset_accumulated_memory_stats set_per_process_memory_fraction
    manual_seed manual_seed_all seed seed_all set_rng_state set_rng_state_all
""".split()
RETURN_ZERO = """
    memory_allocated max_memory_allocated memory_reserved max_memory_reserved memory_cached max_memory_cached
    utilization temperature power_draw initial_seed current_device
""".split()
COUNTS = {"multi_processor_count": 80, "is_integrated": 0, "is_multi_gpu_board": 0}
RETURNS: dict[str, Any] = {
    **dict.fromkeys(RETURN_NONE),
    **dict.fromkeys(RETURN_ZERO, 0),
    **dict.fromkeys(["is_available", "is_initialized", "is_bf16_supported"], True),
    **dict.fromkeys(["can_device_access_peer", "is_current_stream_capturing"], False),
    "device_count": 1,
    "get_device_name": NAME,
    "get_device_capability": (8, 0),
    "get_device_properties": SimpleNamespace(name=NAME, major=8, minor=0, total_memory=MEMORY, uuid="GPU-0", **COUNTS),
    "mem_get_info": (MEMORY, MEMORY),
    "memory_stats": defaultdict(int),
    "memory_summary": "",
    "get_per_process_memory_fraction": 1.0,
    "get_arch_list": [],
}
RANDOM = "manual_seed manual_seed_all seed seed_all initial_seed get_rng_state set_rng_state".split()
STREAMS = "Event device device_of Stream stream StreamContext current_stream default_stream".split()
_apply = BackwardCFunction.apply
_generator, _scaler, _load, _fork_rng = torch.Generator, torch.amp.GradScaler, torch.load, torch.random.fork_rng


def is_gpu(value: Any) -> bool:
    """Return whether a value is a GPU: a string such as "cuda:0" or "mps", or a torch.device."""
    return isinstance(value, (str, torch.device)) and str(value).partition(":")[0] in ("cuda", "mps")


def _on_cpu(value: Any) -> Any:
    """Replace a GPU by "cpu" and a CUDA tensor type by its CPU type; return other values unchanged."""
    if is_gpu(value):
        return "cpu"
    return value.replace("torch.cuda.", "torch.") if isinstance(value, str) else value


class OnCpu(TorchFunctionMode):
    """Torch function mode that computes on the CPU and reports to the submission that tensors are on "cuda:0"."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        kwargs = {name: _on_cpu(value) for name, value in (kwargs or {}).items()}
        kwargs.pop("pin_memory", None)
        if func == DEVICE and "/torch/" not in sys._getframe(1).f_code.co_filename:
            return torch.device("cuda", 0)
        if func in (Tensor.cuda, Tensor.pin_memory):
            return args[0]
        if func in CONSTANT:
            return CONSTANT[func]
        if type(kwargs.get("device")) is int:
            kwargs["device"] = "cpu"
        if func is Tensor.to and len(args) > 1 and type(args[1]) is int:
            args = (args[0], "cpu", *args[2:])
        return func(*map(_on_cpu, args), **kwargs)


class _Stream(contextlib.ContextDecorator):
    """Stand-in for CUDA devices, streams and events, without effect except that events measure CPU time intervals."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        self.device, self.stream, self.cuda_stream, self.idx, self.at = torch.device("cpu"), self, 0, 0, 0.0

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_error: Any) -> None:
        return None

    def query(self) -> bool:
        return True

    def record(self, *_args: Any) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, other: Any) -> float:
        return 1000 * (other.at - self.at)  # milliseconds

    synchronize = wait_stream = wait_event = record_event = wait = lambda self, *_a, **_k: self


class _Parallel(nn.Module):
    """Stand-in for nn.DataParallel and DistributedDataParallel that calls the wrapped module directly."""

    def __init__(self, module: nn.Module, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()
        self.module, self.device_ids, self.output_device = module, [0], 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


class _Autocast(torch.autocast):
    """Variant of torch.autocast that is disabled for CUDA, because the emulated GPU computes in float32."""

    def __init__(self, device_type: str = "cuda", *args: Any, **kwargs: Any) -> None:
        if is_gpu(device_type) or not isinstance(device_type, str):
            super().__init__("cpu", enabled=False)
        else:
            super().__init__(device_type, *args, **kwargs)


class _GeneratorType(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _generator)

    def __call__(cls, device: Any = "cpu") -> Any:
        return _generator("cpu")


class _Generator(metaclass=_GeneratorType):
    """Stand-in for torch.Generator that accepts any device and creates a CPU generator."""


for _each in (_Stream, _Parallel, _Autocast, _Generator):
    _each.__name__ = _each.__qualname__ = _each.__name__[1:]  # students read it in messages


def _apply_with_gpu(self: Any, *args: Any) -> Any:
    with OnCpu():  # autograd leaves the mode before it calls backward functions
        return _apply(self, *args)


def emulate() -> Callable[[], None]:
    """Replace torch's CUDA functions and classes by CPU stand-ins, and return a function that undoes it.

    `OnCpu` handles tensor methods and devices.
    """
    cuda: Any = torch.cuda
    mps = torch.mps
    changed = (torch, cuda, cuda.random, torch.amp, cuda.amp, nn, nn.parallel, torch.random, mps, torch.backends.mps)
    before = [(module, dict(vars(module))) for module in changed]
    BackwardCFunction.apply = _apply_with_gpu
    for name, value in RETURNS.items():
        for module in [cuda, mps] if hasattr(mps, name) else [cuda]:
            setattr(module, name, lambda *_a, _value=value, **_k: _value)
    torch.backends.mps.is_available = wraps(torch.backends.mps.is_available)(lambda: True)  # torch reads __wrapped__
    cuda.get_rng_state = lambda *_a, **_k: torch.get_rng_state()
    cuda.get_rng_state_all = lambda *_a, **_k: [torch.get_rng_state()]
    for name in STREAMS:
        setattr(cuda, name, _Stream)
    cuda.default_generators = (torch.default_generator,)
    for name in RANDOM:
        setattr(cuda.random, name, getattr(cuda, name))
    for name in TYPES:
        setattr(cuda, f"{name}Tensor", getattr(torch, f"{name}Tensor"))
    modules: tuple[Any, ...] = (torch, torch.amp, cuda.amp)
    for module in modules:
        module.autocast = _Autocast
        module.GradScaler = lambda *_a, **_k: _scaler("cpu", enabled=False)
    nn.DataParallel = nn.parallel.DataParallel = nn.parallel.DistributedDataParallel = _Parallel
    torch.Generator, torch.random.fork_rng = _Generator, lambda *_a, **_k: _fork_rng(devices=[])
    torch.load = lambda file, map_location=None, *args, **kwargs: _load(file, "cpu", *args, **kwargs)
    for name in ("set_default_device", "set_default_tensor_type"):
        change = getattr(torch, name)
        setattr(torch, name, lambda value, _change=change: _change(_on_cpu(value)))
    return partial(_restore, before)


def _restore(before: list[tuple[Any, dict[str, Any]]]) -> None:
    BackwardCFunction.apply = _apply
    for module, values in before:
        vars(module).update(values)
