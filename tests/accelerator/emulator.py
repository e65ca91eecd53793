"""An emulated accelerator: the device `emu`, whose tensors keep their values in CPU memory.

An operation that mixes a tensor of `emu` with a CPU tensor of more than zero dimensions is refused, as by CUDA. Values
and random numbers are those of the CPU, so results can be compared bit by bit.
"""

import sys
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
TRANSFERS = {aten._to_copy.default, aten.copy_.default}
TO_PYTHON = {aten._local_scalar_dense.default}
WITH_CPU_INDICES = {aten.index.Tensor, aten._index_put_impl_.default, aten.index_put_.default}  # as on CUDA
CPU_GENERATOR = torch.Generator


class Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class EmulatedGenerator(CPU_GENERATOR):
    """A CPU generator that says it is on the device that it was made for."""

    def __new__(cls, device: torch.device | str = "cpu"):
        generator = super().__new__(cls, device="cpu")
        generator.place = torch.device(device)
        return generator

    def __init__(self, device: torch.device | str = "cpu") -> None: ...

    @property
    def device(self) -> torch.device:
        return self.place


class EmulatedTensor(Tensor):
    """A tensor of the device `emu` around a CPU tensor, `inner`."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor):
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        return Tensor._make_wrapper_subclass(cls, inner.shape, **layout, dtype=inner.dtype, device=DEVICE)

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def tolist(self) -> Any:  # torch's own is not for subclasses
        return self.inner.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert emu:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


def is_on_device(value: Any) -> bool:
    return value is not None and torch.device(value).type == DEVICE.type


def run(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation on the CPU tensors inside; its results are on `emu` if its arguments or `device` are."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    emulated = [tensor for tensor in tensors if isinstance(tensor, EmulatedTensor)]
    mixed = [tensor for tensor in tensors if not isinstance(tensor, EmulatedTensor) and tensor.dim() > 0]
    allowed = operation in TRANSFERS or (operation in WITH_CPU_INDICES and isinstance(args[0], EmulatedTensor))
    if emulated and mixed and not allowed:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {DEVICE} and cpu! "
            f"(when running {operation})"
        )
    device = kwargs.get("device")
    wanted = bool(emulated) if device is None else is_on_device(device)
    if operation is aten.copy_.default:
        wanted = isinstance(args[0], EmulatedTensor)
    if operation in TO_PYTHON:
        wanted = False
    known = {id(tensor.inner): tensor for tensor in emulated}

    def unwrap(value: Any) -> Any:
        if isinstance(value, torch.device) and is_on_device(value):
            return torch.device("cpu")
        return value.inner if isinstance(value, EmulatedTensor) else value

    def wrap(value: Any) -> Any:
        if not wanted or not isinstance(value, Tensor):
            return value
        return known.get(id(value)) if id(value) in known else EmulatedTensor(value)

    return tree_map(wrap, operation(*tree_map(unwrap, args), **tree_map(unwrap, kwargs)))


class Emulator(TorchDispatchMode):
    """Context in which tensors can be made on and moved to `emu`."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})

    def __enter__(self):
        _replace_generators(CPU_GENERATOR, EmulatedGenerator)
        return super().__enter__()

    def __exit__(self, *exception):
        _replace_generators(EmulatedGenerator, CPU_GENERATOR)
        return super().__exit__(*exception)


def _replace_generators(old: type, new: type) -> None:
    for name, module in list(sys.modules.items()):
        if (name == "torch" or name.startswith("scenelab.")) and vars(module).get("Generator") is old:
            module.Generator = new  # type: ignore[attr-defined]


backend_registration._setup_privateuseone_for_python_backend("emu", backend_module=Module())
DEVICE = torch.device("emu:0")


def _empty_strided(size, stride, **options: Any) -> Tensor:
    return EmulatedTensor(torch.empty_strided(size, stride, dtype=options.get("dtype")))


def _empty(size, **options: Any) -> Tensor:
    return EmulatedTensor(torch.empty(size, dtype=options.get("dtype"), memory_format=options.get("memory_format")))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    inner = [tensor.inner if isinstance(tensor, EmulatedTensor) else tensor for tensor in (target, source)]
    inner[0].copy_(inner[1])
    return target


# `torch.tensor` and `torch.as_tensor` do not pass through modes
LIBRARY = torch.library.Library("aten", "IMPL")
LIBRARY.impl("empty_strided", _empty_strided, "PrivateUse1")
LIBRARY.impl("empty.memory_format", _empty, "PrivateUse1")
LIBRARY.impl("_copy_from", _copy_from, "PrivateUse1")


# autocast as on the CPU: these operations run in bfloat16, all others pass through
LOWER = "conv2d linear matmul mm bmm addmm baddbmm".split()


def _in_lower_precision(name: str):
    operation = getattr(aten, name).default
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def run_lower(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            dtype = torch.get_autocast_dtype(DEVICE.type)
            floats = [
                value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value for value in args
            ]
            return operation(*floats, **kwargs)

    return run_lower


for _name in LOWER:
    LIBRARY.impl(_name, _in_lower_precision(_name), "AutocastPrivateUse1")
FALLBACK = torch.library.Library("_", "IMPL")
FALLBACK.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
