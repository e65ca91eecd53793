"""What watches or bends torch while a student's code runs: calls of PyTorch's convolution, and a missing GPU."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class WatchConvolutions(TorchDispatchMode):
    """Notes each operation of torch that is a convolution, forward or backward, whichever way it was reached."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        if "conv" in name and "convert" not in name and name not in self.found:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class OnCpu(TorchFunctionMode):
    """Where code asks for a GPU it gets the CPU, so that the rest of it can be judged."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.cuda:
            return args[0]
        if _is_gpu(kwargs.get("device")):
            kwargs["device"] = "cpu"
        return func(*("cpu" if _is_gpu(value) else value for value in args), **kwargs)


def _is_gpu(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, str) and value.partition(":")[0] == "cuda"


def pretend_gpu() -> None:
    """Names of torch.cuda that do nothing or give the CPU's, beside OnCpu."""
    for name in ("synchronize", "set_device", "empty_cache", "init"):
        setattr(torch.cuda, name, lambda *_a, **_k: None)
    for name in ("FloatTensor", "DoubleTensor", "LongTensor", "HalfTensor", "ByteTensor", "IntTensor"):
        setattr(torch.cuda, name, getattr(torch, name))
