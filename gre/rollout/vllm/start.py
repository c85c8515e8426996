"""How vLLM is started: the settings of our engines, the same in the training process, in evaluation and in a server,
and what keeps a process from noticing that vLLM was started inside it."""
import gc
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gre.config import UserError
from gre.models import folder as model_folder

BLOCK_TOKENS = 32  # of the KV cache; a prompt is shared up to its last whole block, and vLLM's 128 on a CPU are many
LEAST_BATCHED_TOKENS = 8192  # an engine step; a prompt is never cut in pieces, which on a CPU breaks seeded requests
ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM makes room for
ADAPTER = "adapter"  # the name of the one an engine has
UNREADABLE = "llvmlite.binding.ffi"  # numba loads it, and with it whatever measures distances by haversine


def settings(photos: dict, banned: Tensor, *, max_length: int, dtype: torch.dtype,
             adapter_rank: int = 0) -> dict:
    """vLLM's settings for prompts of one photo, as its LLM takes them.

    photos: of `gre.models.tower.processor_settings`, the stage's, whatever the folder says. banned (V,): True for
    tokens that are never drawn. max_length: tokens of the longest prompt and its completion. dtype: of weights and
    arithmetic. adapter_rank: of the adapter that stands beside the weights; 0: none. Raises UserError for a rank above
    what vLLM has room for.
    """
    if adapter_rank > ADAPTER_RANKS[-1]:
        raise UserError(f"vLLM takes adapters of rank {ADAPTER_RANKS[-1]} at most, and this one, joined with those of "
                        f"the stages before, has {adapter_rank}: merge the parent first (python -m gre.export --help), "
                        "or write rollout.engine=transformers")
    adapter = {"enable_lora": True, "max_loras": 1,
               "max_lora_rank": min(rank for rank in ADAPTER_RANKS if rank >= adapter_rank)} if adapter_rank else {}
    return {
        **adapter,
        "dtype": str(dtype).removeprefix("torch."), "max_model_len": max_length,
        "max_num_batched_tokens": max(max_length, LEAST_BATCHED_TOKENS), "enable_chunked_prefill": False,
        "block_size": BLOCK_TOKENS, "enforce_eager": not torch.cuda.is_available(),
        "enable_flashinfer_autotune": False,  # a collective of all ranks, wherever some of them have an nvcc
        "generation_config": "vllm",  # neutral: the folder's carries a repetition penalty
        "limit_mm_per_prompt": {"image": 1, "video": 0},
        "mm_processor_kwargs": photos,
        "logits_processors": ["gre.rollout.vllm.banned:BannedTokens"],
        "additional_config": {"banned": banned.nonzero()[:, 0].tolist()}}


def import_vllm():
    """vLLM, which reads its settings from the environment when it is imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in this process
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"        # the one that CPU and CUDA share, and banned.py is for
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")  # is compiled at the start, by an nvcc that many lack
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")   # nothing is sent anywhere
    import vllm

    return vllm


def start(folder: Path, **arguments):
    """vLLM's LLM of a model's folder, in this process, with these settings."""
    with unnoticed():
        vllm = import_vllm()
        with without(UNREADABLE):
            return vllm.LLM(str(model_folder.weights_folder(folder)), **arguments)


def with_adapter(folder: Path | None):
    """What a request says to be answered by the weights and the adapter beside them. folder: the adapter's, where vLLM
    loads it itself; None: it was sent."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(ADAPTER, 1, str(folder or "sent"), load_inplace=False)


@contextmanager
def unnoticed() -> Iterator[None]:
    """vLLM seeds and uses the random numbers of the whole process, and on a CPU takes torch.set_num_threads away."""
    python, numpy = random.getstate(), np.random.get_state()
    set_threads, threads = torch.set_num_threads, torch.get_num_threads()
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        gc.unfreeze()  # vLLM freezes the heap: a model that is let go of later would never be collected
        torch.set_num_threads = set_threads
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextmanager
def without(module: str) -> Iterator[None]:
    """Take a loaded module off the list of modules, all of whose objects vLLM looks at when it starts on a CPU."""
    taken = sys.modules.pop(module, None)
    try:
        yield
    finally:
        if taken is not None:
            sys.modules[module] = taken
