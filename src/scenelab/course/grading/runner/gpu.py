"""One GPU that is not there: code that asks for it gets the CPU, so that the rest of it can be judged."""

import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

NAME = "emulated GPU"
MEMORY = 16 << 30  # bytes that it says it has
DEVICE = vars(torch._C.TensorBase)["device"].__get__
IS_CUDA = vars(torch._C.TensorBase)["is_cuda"].__get__
TYPES = ("Float", "Double", "Half", "BFloat16", "Byte", "Char", "Short", "Int", "Long", "Bool")


def is_gpu(value: Any) -> bool:
    """Whether a device is a GPU: "cuda", "cuda:0", a torch.device."""
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, str) and value.partition(":")[0] == "cuda"


def _on_cpu(value: Any) -> Any:
    """A value with the CPU in the place of a GPU, a tensor type's name too."""
    if is_gpu(value):
        return "cpu"
    return value.replace("torch.cuda.", "torch.") if isinstance(value, str) else value


class OnCpu(TorchFunctionMode):
    """Functions and methods of torch with the CPU in the place of a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {name: _on_cpu(value) for name, value in (kwargs or {}).items()}
        kwargs.pop("pin_memory", None)
        if func == DEVICE and "/torch/" not in sys._getframe(1).f_code.co_filename:
            return torch.device("cuda", 0)
        if func in (Tensor.cuda, Tensor.pin_memory):
            return args[0]
        if func == IS_CUDA:
            return True
        if func is Tensor.get_device:
            return 0
        if func is Tensor.record_stream:
            return None
        if type(kwargs.get("device")) is int:
            kwargs["device"] = "cpu"
        if func is Tensor.to and len(args) > 1 and type(args[1]) is int:
            args = (args[0], "cpu", *args[2:])
        return func(*map(_on_cpu, args), **kwargs)


class _Anything(contextlib.ContextDecorator):
    """A device, a stream, a stream's context: takes any arguments, does nothing."""

    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        self.device, self.stream, self.cuda_stream, self.idx = torch.device("cpu"), self, 0, 0

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_error: Any) -> None:
        return None

    def synchronize(self) -> None:
        """All work is done already."""

    wait_stream = wait_event = record_event = wait = lambda self, *_a, **_k: self

    def query(self) -> bool:
        """All work is done already."""
        return True


class _Event(_Anything):
    """An event that remembers when it was recorded."""

    def record(self, *_arguments: Any) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, other: Any) -> float:
        """Milliseconds."""
        return 1000 * (getattr(other, "at", 0.0) - getattr(self, "at", 0.0))


class _Parallel(nn.Module):
    """nn.DataParallel of one device."""

    def __init__(self, module: nn.Module, *_arguments: Any, **_named: Any) -> None:
        super().__init__()
        self.module, self.device_ids, self.output_device = module, [0], 0

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the module gives."""
        return self.module(*inputs, **named)


class _Autocast(torch.autocast):
    """Mixed precision of a GPU is float32 on the CPU."""

    def __init__(self, device_type: str = "cuda", *arguments: Any, **named: Any) -> None:
        if is_gpu(device_type) or not isinstance(device_type, str):
            super().__init__("cpu", enabled=False)
        else:
            super().__init__(device_type, *arguments, **named)


_generator, _scaler, _load = torch.Generator, torch.amp.GradScaler, torch.load


class _AnyGenerator(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _generator)


class _Generator(metaclass=_AnyGenerator):
    """torch.Generator of any device."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return _generator("cpu")


def emulate() -> None:
    """Let torch.cuda and what belongs to it behave as one GPU would; `OnCpu` does the rest."""
    nothing = ("synchronize", "set_device", "empty_cache", "init", "_lazy_init", "ipc_collect", "set_stream",
               "reset_peak_memory_stats", "reset_max_memory_allocated", "reset_max_memory_cached",
               "reset_accumulated_memory_stats", "set_per_process_memory_fraction", "manual_seed", "manual_seed_all",
               "seed", "seed_all", "set_rng_state", "set_rng_state_all")  # fmt: skip
    zero = ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved", "memory_cached",
            "max_memory_cached", "utilization", "temperature", "power_draw", "initial_seed",
            "current_device")  # fmt: skip
    answers: dict[str, Any] = {
        **dict.fromkeys(nothing), **dict.fromkeys(zero, 0), "is_available": True, "is_initialized": True,
        "device_count": 1, "get_device_name": NAME, "get_device_capability": (8, 0), "mem_get_info": (MEMORY, MEMORY),
        "memory_stats": defaultdict(int), "can_device_access_peer": False, "is_current_stream_capturing": False,
        "get_per_process_memory_fraction": 1.0, "memory_summary": "", "get_arch_list": [], "is_bf16_supported": True,
        "get_device_properties": SimpleNamespace(name=NAME, major=8, minor=0, total_memory=MEMORY,
                                                 multi_processor_count=80, is_integrated=0, is_multi_gpu_board=0,
                                                 uuid="GPU-0"),
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_a, _answer=answer, **_k: _answer)
    torch.cuda.get_rng_state = lambda *_a, **_k: torch.get_rng_state()
    torch.cuda.get_rng_state_all = lambda *_a, **_k: [torch.get_rng_state()]
    for name in ("device", "device_of", "Stream", "stream", "StreamContext", "current_stream", "default_stream"):
        setattr(torch.cuda, name, _Anything)
    torch.cuda.Event = _Event
    torch.cuda.default_generators = (torch.default_generator,)
    for name in (
        "manual_seed",
        "manual_seed_all",
        "seed",
        "seed_all",
        "initial_seed",
        "get_rng_state",
        "set_rng_state",
    ):
        setattr(torch.cuda.random, name, getattr(torch.cuda, name))
    torch.random.fork_rng = _fork_rng
    for name in TYPES:
        setattr(torch.cuda, f"{name}Tensor", getattr(torch, f"{name}Tensor"))
    for place, name, value in (
        (torch, "autocast", _Autocast), (torch.amp, "autocast", _Autocast), (torch.cuda.amp, "autocast", _Autocast),
        (torch, "Generator", _Generator), (torch, "load", _load_on_cpu), (nn, "DataParallel", _Parallel),
        (torch.amp, "GradScaler", _scaler_off), (torch, "GradScaler", _scaler_off),
        (torch.cuda.amp, "GradScaler", _scaler_off), (nn.parallel, "DataParallel", _Parallel),
        (nn.parallel, "DistributedDataParallel", _Parallel),
    ):  # fmt: skip
        setattr(place, name, value)
    for name in ("set_default_device", "set_default_tensor_type"):
        setattr(torch, name, _setting_cpu(getattr(torch, name)))


def _setting_cpu(change: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda value: change(_on_cpu(value))


@contextlib.contextmanager
def _fork_rng(*_arguments: Any, **_named: Any) -> Any:
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _scaler_off(*_arguments: Any, **_named: Any) -> Any:
    return _scaler("cpu", enabled=False)


def _load_on_cpu(file: Any, map_location: Any = None, *arguments: Any, **named: Any) -> Any:
    del map_location
    return _load(file, "cpu", *arguments, **named)
