"""Variable-length attention on CUDA: flash-attn's kernel where it is installed, else torch's own.

Both are called alike. A Kernel takes query (Tq, heads, d), key and value (Tk, kv_heads, d) as segments that follow each
other: segment s of the queries ends before query_ends[s + 1] and sees segment s of the keys, which ends before
key_ends[s + 1]. causal: its last query sees all its keys, the one before all but the last, and so on.
"""
import inspect
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

# (query, key, value, query_ends, key_ends, longest_query, longest_key, *, causal, scale) -> (Tq, heads, d)
Kernel = Callable[..., Tensor]
OLDEST_GPU = (8, 0)  # compute capability both kernels are written for: Ampere


def kernel_for(query: Tensor) -> Kernel | None:
    """What serves this query; None where SDPA has to: on the CPU, in float32, and on GPUs older than Ampere."""
    if not query.is_cuda or computed_in(query) not in (torch.bfloat16, torch.float16):
        return None
    return _chosen()


def computed_in(states: Tensor) -> torch.dtype:
    """The type attention computes in: autocast's where it is on, else that of `states`."""
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype


def flash_attn() -> Kernel:
    """flash-attn's. Raises ImportError where it is not installed or was built for another torch."""
    from flash_attn import flash_attn_varlen_func

    def kernel(*states_and_segments, causal: bool, scale: float | None) -> Tensor:
        return flash_attn_varlen_func(*states_and_segments, softmax_scale=scale, causal=causal,
                                      deterministic=torch.are_deterministic_algorithms_enabled())

    return kernel


def torch_varlen() -> Kernel:
    """torch's own. Raises ImportError before torch 2.11."""
    from torch.nn.attention.varlen import varlen_attn

    accepted = inspect.signature(varlen_attn).parameters
    if not {"scale", "window_size"} <= accepted.keys():
        raise ImportError(f"varlen_attn of torch {torch.__version__} takes no scale")
    options = {"enable_gqa": True} if "enable_gqa" in accepted else {}

    def kernel(query: Tensor, key: Tensor, value: Tensor, *segments, causal: bool, scale: float | None) -> Tensor:
        if not options:  # torch 2.11 wants as many heads of keys as of queries
            key, value = (states.repeat_interleave(query.shape[1] // states.shape[1], 1) for states in (key, value))
        return varlen_attn(query, key, value, *segments, scale=scale, window_size=(-1, 0 if causal else -1), **options)

    return kernel


PROVIDERS = {"flash-attn": flash_attn, "torch's varlen_attn": torch_varlen}  # the first that imports serves


def plain(query: Tensor, key: Tensor, value: Tensor, query_ends: Tensor, key_ends: Tensor, longest_query: int,
          longest_key: int, *, causal: bool, scale: float | None) -> Tensor:
    """The same in plain torch, one segment after the other: what the kernels are checked against."""
    shared = query.shape[1] // key.shape[1]
    outputs = []
    for queries, keys in zip(pairwise(query_ends.tolist()), pairwise(key_ends.tolist()), strict=True):
        q = query[slice(*queries)]                                                       # (Lq, heads, d)
        k, v = (states[slice(*keys)].repeat_interleave(shared, 1) for states in (key, value))
        logits = torch.einsum("qhd,khd->hqk", q, k) * (q.shape[-1]**-0.5 if scale is None else scale)
        if causal:
            hidden = torch.ones(logits.shape[1:], dtype=torch.bool, device=q.device).triu(len(k) - len(q) + 1)
            logits = logits.masked_fill(hidden, -torch.inf)
        outputs.append(torch.einsum("hqk,khd->qhd", logits.softmax(-1), v))
    return torch.cat(outputs)


@cache
def _chosen() -> Kernel | None:
    """The provider of this process, told in one line of the log."""
    kernel, name, missing = None, "scaled_dot_product_attention", []
    if torch.cuda.get_device_capability() < OLDEST_GPU:
        missing.append("the GPU is older than Ampere")
    else:
        for provider, find in PROVIDERS.items():
            try:
                kernel, name = find(), provider
                break
            except ImportError as error:
                missing.append(f"{provider}: {error}")
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        print(f"attention: {name}" + (f" ({'; '.join(missing)})" if missing else ""), flush=True)
    return kernel
