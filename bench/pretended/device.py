"""A GPU where there is none: tensors that say they are on `cuda`, so that the code for GPUs is executed at full size.

Integers and booleans made of them hold real values on the CPU, so that code which looks at them runs on; floating-point
tensors are shapes alone (meta), so that a model of any size costs nothing.

What it finds: a tensor left on the CPU (RuntimeError, as on a GPU), a kernel called with wrong arguments, a branch that
CUDA alone takes, every read of a GPU's value by Python (`reads`), and bytes alive (`Live`). What it cannot find: wrong
numbers, a kernel that fails, time.
"""
import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import weakref
from collections import Counter
from pathlib import Path

import torch
import torch.utils.checkpoint
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GUARD = Path(__file__).with_name("guard.cpp")
LIBRARY = "PRETENDED_CUDA"  # the variable that says where the guard lies
NEEDS = "a pretended GPU is built by g++, which is not installed"
SDPA = torch.nn.functional.scaled_dot_product_attention
NEW = ("aten::nonzero", "aten::masked_select")  # their result's size is read from the GPU

reads: Counter[str] = Counter()  # "file function" -> how often Python read a value of the GPU there


class Live:
    """Bytes of all pretended tensors: alive now, and at most since `peak` was set."""

    now = peak = 0

    @classmethod
    def add(cls, size: int) -> None:
        cls.now += size
        cls.peak = max(cls.peak, cls.now)


def environment() -> dict[str, str]:
    """This process's environment for one that pretends. Builds the guard (ten seconds, once a machine and torch)."""
    package = Path(torch.__file__).parent
    made_of = hashlib.sha256(GUARD.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"pretended-cuda-{os.getuid()}" / f"{made_of}.so"
    if not library.exists():
        library.parent.mkdir(mode=0o700, exist_ok=True)
        unready = library.with_suffix(f".{os.getpid()}")
        subprocess.run(["g++", "-O0", "-shared", "-fPIC", "-std=c++20", f"-I{package / 'include'}",
                        f"-I{package / 'include/torch/csrc/api/include'}", f"-L{package / 'lib'}", str(GUARD),
                        "-lc10", "-ltorch_cpu", "-o", str(unready)], check=True)
        unready.rename(library)
    return {**os.environ, LIBRARY: str(library), "LD_PRELOAD": str(library), "LD_LIBRARY_PATH": str(package / "lib")}


def start_again() -> None:
    """Become a process that pretends, if this one does not. To be called before the code for GPUs is imported."""
    if LIBRARY not in os.environ:
        if shutil.which("g++") is None:
            sys.exit(f"error: {NEEDS}")
        os.execve(sys.executable, [*sys.orig_argv], environment())
    torch.nn.functional.scaled_dot_product_attention = _attention


def turn_on(capability: tuple[int, int] = (9, 0)) -> None:
    """Make torch believe in one GPU of this compute capability."""
    ctypes.CDLL(os.environ[LIBRARY]).pretend_cuda()
    torch.autograd.set_multithreading_enabled(False)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device="cuda") goes through the mode
    torch.__future__.set_swap_module_params_on_conversion(True)  # a parameter that moves here becomes a pretended one
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 1
    torch.cuda.current_device = lambda: 0
    torch.cuda.is_bf16_supported = lambda *_, **__: capability >= (8, 0)
    torch.cuda.get_device_capability = lambda *_: capability
    for name in ("set_device", "empty_cache", "synchronize", "reset_peak_memory_stats"):
        setattr(torch.cuda, name, lambda *_: None)
    torch.utils.checkpoint.get_device_states = lambda *_: ([], [])


class Pretended(torch.Tensor):
    """inner: the values, on the CPU, or a meta tensor, a shape alone."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device="cuda:0", requires_grad=False)

    def __init__(self, inner):
        self.inner = inner

    @property
    def known(self) -> bool:
        return self.inner.device.type == "cpu"

    @property
    def data(self):
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, value):
        torch.Tensor.data.__set__(self, value)
        self.inner = value.inner

    def __repr__(self, **_):
        return f"Pretended({tuple(self.shape)}, {self.dtype}, {'known' if self.known else 'a shape'})"

    def tolist(self):
        reads[_caller()] += 1
        return self.inner.tolist() if self.known else torch.ones(self.shape, dtype=self.dtype).tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _dispatch(func, args, kwargs or {})


class Mode(TorchDispatchMode):
    """While it is on, whatever is made on `cuda` is pretended."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if any(isinstance(x, Pretended) for x in tree_leaves((args, kwargs))) or (
                device is not None and torch.device(device).type == "cuda"):
            return _dispatch(func, args, kwargs)
        return func(*args, **kwargs)


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """SDPA by its memory-efficient kernel, the one that takes masks and float32; torch would ask a driver which."""
    if not isinstance(query, Pretended):
        return SDPA(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    bias = None
    if attn_mask is not None:  # it wants numbers, for every head
        bias = torch.where(attn_mask, 0.0, -torch.inf).to(query.dtype).expand(*query.shape[:3], -1)
    return torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, bias, True, dropout_p, is_causal,
                                                                  scale=scale)[0]


_counted = weakref.WeakKeyDictionary()


def _wrapped(x):
    if not isinstance(x, torch.Tensor) or isinstance(x, Pretended):
        return x
    storage = x.untyped_storage()
    if storage not in _counted:
        _counted[storage] = storage.nbytes()
        Live.add(storage.nbytes())
        weakref.finalize(storage, Live.add, -storage.nbytes())
    return Pretended(x)


def _caller() -> str:
    for frame in reversed(traceback.extract_stack()[:-2]):
        if "/torch/" not in frame.filename and frame.filename != __file__:
            file = frame.filename.split("site-packages/")[-1]
            root = str(Path(__file__).parents[2]) + "/"
            return f"{file.removeprefix(root)} {frame.name}"
    return "?"


def _dispatch(func, args, kwargs):
    name, leaves = func.name(), tree_leaves((args, kwargs))
    pretended = [x for x in leaves if isinstance(x, Pretended)]
    plain = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, Pretended)]
    if name == "aten::_local_scalar_dense":
        reads[_caller()] += 1
        if pretended[0].known:
            return func(pretended[0].inner)
        return True if pretended[0].dtype == torch.bool else 1.0  # nobody knows it: all is finite, say
    if name == "aten::copy_" and plain and args[0] is plain[0]:  # from the GPU to the CPU
        reads[_caller()] += 1
        return args[0].copy_(args[1].inner) if args[1].known else args[0]
    device = kwargs.get("device")
    to_cpu = name == "aten::_to_copy" and device is not None and torch.device(device).type == "cpu"
    copies = name in ("aten::_to_copy", "aten::copy_")
    indexes = name.startswith(("aten::index.Tensor", "aten::index_put"))  # they take indices from the CPU
    if pretended and not copies and not indexes and (stray := [x for x in plain if x.dim()]):
        raise RuntimeError(f"{name} on cuda is given {[(*x.shape, x.dtype) for x in stray]} on the CPU, at {_caller()}")
    if name in NEW or to_cpu:
        reads[_caller()] += 1
    if to_cpu and not pretended[0].known:
        return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
    known = all(x.known for x in pretended)
    if name == "aten::copy_" and not args[0].known:
        return args[0]

    def inside(x):
        if isinstance(x, Pretended):
            return x.inner if known or not x.known else x.inner.to("meta")
        if isinstance(x, torch.Tensor):
            return x if known else x.to("meta")
        if isinstance(x, torch.device) and x.type == "cuda":
            return torch.device("cpu" if known else "meta")
        return x

    inner_args, inner_kwargs = tree_map(inside, (args, kwargs))
    if not known and inner_kwargs.get("device") is not None:
        inner_kwargs["device"] = torch.device("meta")
    elif isinstance(inner_kwargs.get("device"), str):
        inner_kwargs["device"] = torch.device("cpu")
    out = func(*inner_args, **inner_kwargs)
    if to_cpu:
        return out
    if func._schema.is_mutable and name.split(".")[0].endswith("_") and isinstance(args[0], Pretended):
        return args[0]
    if known and not any(result.alias_info is not None for result in func._schema.returns):
        out = tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) and x.is_floating_point() else x, out)
    return tree_map(_wrapped, out)
