"""Rollouts by vLLM in the training process: one engine a process, on the device that trains.

Before every phase the engine is sent the policy's weights as they are then, one at a time, and forgets what it computed
with the ones before; where vLLM can sleep (CUDA), it gives back all its memory after the phase. What could part the
sampled policy from the trained one is stated or checked: the dtype, the pixel budget, the tokens of every prompt, the
name of every weight, banned tokens, a neutral generation config, and log-probabilities of what was really sampled from.

A completion's seed depends on (seed, step, group, completion) alone, not on batch or process. Its last bits may depend
on its batch, so a token can differ where two are equally likely.
"""
import gc
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor, nn

from gre.models.packing import Prompt, check_expanded, unexpanded
from gre.models.weights import trained_weights
from gre.rollout.completion import Completion
from gre.rollout.vllm.sampling import sampling_params
from gre.rollout.vllm.start import import_vllm, settings, start, unnoticed, with_adapter
from gre.rollout.vllm.worker import take


@dataclass(frozen=True)
class VLLMRollout:
    """Samples completions with an `Engine` that is sent the weights of the model that is being trained.

    banned (V,): tokens never drawn; they are the engine's too. max_new_tokens: limit, end token included.
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
        return import_vllm().__version__

    def generate(self, model: nn.Module, prompts: list[Prompt], num_generations: int, keys: list[int], *, seed: int,
                 step: int, greedy: bool = False) -> list[list[Completion]]:
        """See `Rollout`. Every process must call it, with one prompt or more. Greedy log-probabilities are those at
        temperature 1."""
        if len(keys) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts and {len(keys)} keys: one key per prompt is needed")
        with unnoticed():
            vllm = import_vllm()
        params = [vllm.SamplingParams(flat_logprobs=True, **fields) for fields in sampling_params(
            keys, num_generations, seed=seed, step=step, temperature=self.temperature,
            max_new_tokens=self.max_new_tokens, end_token_id=self.end_token_id, greedy=greedy)]
        groups = [[_completion(one) for one in sorted(group, key=lambda one: one.index)]
                  for group in self.llm.answer(model, prompts, params, self.max_new_tokens)]
        broken = sum(not bool(one.log_probs.isfinite().all()) for group in groups for one in group)
        if broken:
            raise FloatingPointError(f"the log-probabilities of {broken} completions are not finite")
        return [group * num_generations for group in groups] if greedy else groups


class Engine:
    """vLLM, started when it is first asked.

    folder: the model's; before it answers, the engine is sent the weights of the model that is trained. photos: of
    `gre.models.tower.processor_settings`. max_length: tokens of the longest prompt and its completion. dtype: of
    weights and arithmetic. sequences: completions at a time. kv_cache_gib: memory of keys and values. adapter_rank: of
    all adapters the model carries; it is then sent these alone, and the weights beside them stay the folder's. 0: none.
    """

    def __init__(self, folder: Path, photos: dict, banned: Tensor, *, max_length: int, dtype: torch.dtype,
                 sequences: int, kv_cache_gib: float, adapter_rank: int = 0):
        self.folder, self.photos, self.banned, self.max_length = folder, photos, banned, max_length
        self.dtype, self.sequences, self.kv_cache_gib = dtype, sequences, kv_cache_gib
        self.adapter_rank = adapter_rank
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
                self._start()
            if self._sleeps:
                _free_memory()
                self._llm.wake_up(tags=["weights"])
            self._send(trained_weights(model, self.dtype))
            if self._sleeps:
                self._llm.wake_up(tags=["kv_cache"])
            outputs = self._llm.generate([{"prompt_token_ids": unexpanded(prompt),
                                           "multi_modal_data": {"image": prompt.image}} for prompt in prompts],
                                         params, use_tqdm=False,
                                         lora_request=with_adapter(None) if self.adapter_rank else None)
            if self._sleeps:
                self._sleep()
        for prompt, output in zip(prompts, outputs, strict=True):
            check_expanded(prompt, list(output.prompt_token_ids))
        return [output.outputs for output in outputs]

    def _start(self) -> None:
        vllm = import_vllm()
        from vllm.platforms import current_platform

        self._sleeps = current_platform.is_sleep_mode_available()
        _free_memory()
        # The folder's weights are read, though others are sent at once: with dummy ones vLLM puts noise where it keeps
        # the mean and the spread of pixels.
        self._llm = start(
            self.folder, **settings(self.photos, self.banned, max_length=self.max_length, dtype=self.dtype,
                                    adapter_rank=self.adapter_rank),
            max_num_seqs=self.sequences, kv_cache_memory_bytes=int(self.kv_cache_gib * 2**30),
            gpu_memory_utilization=0.01,  # only has to be free; the line above decides
            logprobs_mode="processed_logprobs", enable_sleep_mode=self._sleeps,
            distributed_executor_backend="external_launcher" if PartialState().num_processes > 1 else "uni")
        if PartialState().is_main_process:
            print(f"rollouts: vLLM {vllm.__version__} in the training process, on {current_platform.device_type} in "
                  f"{self.dtype}, {self.kv_cache_gib:g} GiB of KV cache" + ", asleep between phases" * self._sleeps,
                  flush=True)
        if self._sleeps:  # the first weights come as all others do: while the cache's memory is free
            self._sleep()

    def _sleep(self) -> None:
        """Drop weights and cache: the next phase sends new ones. Beside an adapter the weights are the same for ever,
        and wait in the host's memory."""
        self._llm.sleep(level=1 if self.adapter_rank else 2)

    def _send(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Let the engine have these weights and forget all it computed with others."""
        self._llm.collective_rpc(take, args=(weights,))
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM kept keys and values of the old weights: requests are still running in it")
        self._llm.llm_engine.reset_encoder_cache()  # photos seen by the old vision tower
        self._llm.llm_engine.reset_mm_cache()


def _completion(output) -> Completion:
    """vLLM's output, whose `logprobs` hold one number a token."""
    return Completion(torch.tensor(list(output.token_ids)), output.finish_reason == "stop",
                      torch.tensor(output.logprobs.logprobs))


def _free_memory() -> None:
    """Give back what torch keeps for later: vLLM takes its memory from the device itself."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
