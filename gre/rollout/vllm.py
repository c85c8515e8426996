"""Rollouts by vLLM in the training process: one engine a process, on the device that trains.

Before every phase the engine is sent the policy's weights as they are then, one at a time, and forgets what it computed
with the ones before; where vLLM can sleep (CUDA), it gives back all its memory after the phase. What could part the
sampled policy from the trained one is stated or checked: the dtype, the pixel budget, the tokens of every prompt, the
name of every weight, banned words, a neutral generation config, and log-probabilities of what was really sampled from.

A completion's seed depends on (seed, step, group, completion) alone, not on batch or process. Its last bits may depend
on its batch, so a word can differ where two are equally likely.
"""
import gc
import os
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn

from gre.models.packing import Prompt
from gre.models.vlm import PixelBudget
from gre.models.weights import full_weights
from gre.rollout.rollout import Completion

BLOCK_TOKENS = 32  # of the KV cache; a prompt is shared up to its last whole block, and vLLM's 128 on a CPU are many
LEAST_BATCHED_TOKENS = 8192  # an engine step; a prompt is never cut in pieces, which on a CPU breaks seeded requests
NAMED = 4  # weights named in a message
UNREADABLE = "llvmlite.binding.ffi"  # numba loads it, and with it whatever measures distances by haversine


@dataclass(frozen=True)
class VLLMRollout:
    """Samples completions with an `Engine` that is sent the weights of the model that is being trained.

    banned (V,): words never drawn; they are the engine's too. max_new_tokens: limit, end token included.
    """

    llm: "Engine"
    end_token_id: int
    banned: Tensor
    max_new_tokens: int
    temperature: float = 1.0
    batch_size: int = 512
    engine = "vllm"
    exact = False

    @property
    def version(self) -> str:
        return _vllm().__version__

    def generate(self, model: nn.Module, prompts: list[Prompt], num_generations: int, keys: list[int], *, seed: int,
                 step: int, greedy: bool = False) -> list[list[Completion]]:
        """See `Rollout`. Every process must call it, with one prompt or more. Greedy log-probabilities are those at
        temperature 1."""
        if len(keys) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts and {len(keys)} keys: one key per prompt is needed")
        with unnoticed():
            vllm = _vllm()
        common = {"max_tokens": self.max_new_tokens, "stop_token_ids": [self.end_token_id], "ignore_eos": True,
                  "logprobs": 0, "flat_logprobs": True, "detokenize": False}
        if greedy:
            params = [vllm.SamplingParams(temperature=0.0, **common)] * len(prompts)
        else:  # completion i of a group gets its seed + i
            params = [vllm.SamplingParams(n=num_generations, temperature=self.temperature,
                                          seed=group_seed(seed, step, key), **common) for key in keys]
        groups = [[_completion(one) for one in sorted(group, key=lambda one: one.index)]
                  for group in self.llm.answer(model, prompts, params, self.max_new_tokens)]
        broken = sum(not bool(one.log_probs.isfinite().all()) for group in groups for one in group)
        if broken:
            raise FloatingPointError(f"the log-probabilities of {broken} completions are not finite")
        return [group * num_generations for group in groups] if greedy else groups


class Engine:
    """vLLM, started when it is first asked.

    folder: the model's; before it answers, the engine is sent the weights of the model that is trained. budget: the
    stage's. max_length: tokens of the longest prompt and its completion. dtype: of weights and arithmetic. sequences:
    completions at a time. kv_cache_gib: memory of keys and values.
    """

    def __init__(self, folder: Path, budget: PixelBudget, banned: Tensor, *, max_length: int, dtype: torch.dtype,
                 sequences: int, kv_cache_gib: float):
        self.folder, self.budget, self.banned, self.max_length = folder, budget, banned, max_length
        self.dtype, self.sequences, self.kv_cache_gib = dtype, sequences, kv_cache_gib
        self._llm = None
        self._sleeps = False

    def answer(self, model: nn.Module, prompts: list[Prompt], params: list, max_new_tokens: int) -> list[list]:
        """vLLM's outputs for every prompt, by the weights `model` has now. Raises ValueError for a prompt too long for
        the engine, RuntimeError when the engine does not read a prompt as the trainer does, or lacks a weight."""
        for prompt in prompts:
            if len(prompt.input_ids) + max_new_tokens > self.max_length:
                raise ValueError(f"a prompt of {len(prompt.input_ids)} tokens and {max_new_tokens} of a completion do "
                                 f"not fit into the engine's {self.max_length}")
        stance = "default" if torch.cuda.is_available() else "force_eager"  # a CPU compiles longer than it then saves
        with unnoticed(), torch.compiler.set_stance(stance):
            if self._llm is None:
                with without(UNREADABLE):
                    self._start()
            elif self._sleeps:
                _free_memory()
                self._llm.wake_up(tags=["weights"])
            self._send(full_weights(model, self.dtype))
            if self._sleeps:
                self._llm.wake_up(tags=["kv_cache"])
            outputs = self._llm.generate([_request(prompt) for prompt in prompts], params, use_tqdm=False)
            if self._sleeps:
                self._llm.sleep(level=2)  # weights and cache are dropped; the next phase sends new ones
        for prompt, output in zip(prompts, outputs, strict=True):
            check_prompt(prompt, list(output.prompt_token_ids))
        return [output.outputs for output in outputs]

    def _start(self) -> None:
        vllm = _vllm()
        from vllm.platforms import current_platform

        self._sleeps = current_platform.is_sleep_mode_available()
        _free_memory()
        # The folder's weights are read, though others are sent at once: with dummy ones vLLM puts noise where it keeps
        # the mean and the spread of pixels.
        self._llm = vllm.LLM(
            str(self.folder), dtype=str(self.dtype).removeprefix("torch."),
            max_model_len=self.max_length, max_num_seqs=self.sequences, block_size=BLOCK_TOKENS,
            max_num_batched_tokens=max(self.max_length, LEAST_BATCHED_TOKENS), enable_chunked_prefill=False,
            kv_cache_memory_bytes=int(self.kv_cache_gib * 2**30),
            gpu_memory_utilization=0.01,  # only has to be free; the line above decides
            limit_mm_per_prompt={"image": 1, "video": 0},
            mm_processor_kwargs={"size": {"shortest_edge": self.budget.min_pixels,
                                          "longest_edge": self.budget.max_pixels}},
            generation_config="vllm",     # neutral: the folder's carries a repetition penalty
            logprobs_mode="processed_logprobs", logits_processors=["gre.rollout.banned:BannedWords"],
            additional_config={"banned": self.banned.nonzero()[:, 0].tolist()},
            enable_sleep_mode=self._sleeps, enforce_eager=current_platform.is_cpu(),
            distributed_executor_backend="external_launcher" if PartialState().num_processes > 1 else "uni")
        if PartialState().is_main_process:
            print(f"rollouts: vLLM {vllm.__version__} in the training process, on {current_platform.device_type} in "
                  f"{self.dtype}, {self.kv_cache_gib:g} GiB of KV cache" + ", asleep between phases" * self._sleeps,
                  flush=True)

    def _send(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Let the engine have these weights and forget all it computed with others."""
        self._llm.collective_rpc(_load, args=(weights,))
        self._llm.reset_prefix_cache()
        self._llm.llm_engine.reset_encoder_cache()  # pictures seen by the old vision tower
        self._llm.llm_engine.reset_mm_cache()


def _vllm():
    """vLLM, which reads its settings from the environment when it is imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in this process
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"        # the one that CPU and CUDA share, and banned.py is for
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")   # nothing is sent anywhere
    import vllm

    return vllm


def group_seed(seed: int, step: int, key: int) -> int:
    """The seed of a group's first completion, below 2^62."""
    return int(np.random.SeedSequence([seed, step, key]).generate_state(1, np.uint64)[0] >> np.uint64(2))


def check_prompt(prompt: Prompt, engine_ids: list[int]) -> None:
    """Raise RuntimeError unless the engine read a prompt token by token as the trainer does."""
    own = prompt.input_ids.tolist()
    if own != engine_ids:
        raise RuntimeError(f"vLLM reads a prompt of {len(own)} tokens as another one of {len(engine_ids)}: the policy "
                           "would answer a prompt that it is not trained on")


def _request(prompt: Prompt) -> dict:
    """What vLLM takes: the picture, and the tokens with one placeholder for it, which vLLM expands itself."""
    if prompt.image is None:
        raise ValueError("vLLM needs the picture of a prompt: make prompts with gre.models.vlm.encode_prompt")
    visual = prompt.mm_token_type_ids != 0
    first = visual & ~visual.roll(1)
    return {"prompt_token_ids": prompt.input_ids[first | ~visual].tolist(), "multi_modal_data": {"image": prompt.image}}


def _completion(output) -> Completion:
    """vLLM's output, whose `logprobs` hold one number a token."""
    return Completion(torch.tensor(list(output.token_ids)), output.finish_reason == "stop",
                      torch.tensor(output.logprobs.logprobs))


@torch.no_grad()
def _load(worker, weights: Iterable[tuple[str, Tensor]]) -> None:
    """In vLLM's worker: load all weights, or raise RuntimeError. vLLM itself only warns and keeps the old ones."""
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    model = worker.model_runner.get_model()
    with set_current_vllm_config(worker.vllm_config):
        initialize_layerwise_reload(model)
        try:
            model.load_weights(weights)
            missing = unfilled(model)
        except ValueError as error:  # a name or a shape it does not know
            raise RuntimeError(f"vLLM does not take the trainer's weights: {error}") from error
        finally:
            finalize_layerwise_reload(model, worker.model_config)
    if missing:
        raise RuntimeError(f"vLLM was not sent all of its weights: {', '.join(missing[:NAMED])}"
                           + (f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""))


def unfilled(model: nn.Module) -> list[str]:
    """Modules of vLLM's model, in the midst of a reload, that have not been sent as many elements as they hold. (vLLM
    joins some weights, q, k and v for instance: a name that arrived does not mean that all of it did.)"""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
    from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

    names = []
    for name, module in model.named_modules():
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        if isinstance(module, VocabParallelEmbedding):
            own = module.org_vocab_size * module.embedding_dim  # without the rows that pad it
        info = get_layerwise_info(module)
        if own and info.can_load() and info.load_numel < own:  # a module that is complete can load no more
            names.append(name)
    return names


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


def _free_memory() -> None:
    """Give back what torch keeps for later: vLLM takes its memory from the device itself."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
