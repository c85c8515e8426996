"""Rollouts by transformers' generate: G completions of every prompt, reproducible token by token.

Three things differ from plain `generate`. The prompt and its photo are forwarded once per group and their cache is
copied. Sampling is ours: an inverse CDF on uniform numbers that depend on (seed, step, group, completion) alone, so
that neither batch, number of processes nor ambient random state changes a completion. And the generation config
is neutral: Qwen2.5-VL ships repetition_penalty 1.05, which would sample from another policy than the one we train.
"""
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from gre.models import zero
from gre.models.packing import Prompt, pixels, positions
from gre.models.vlm import banned_tokens, end_token_id
from gre.rollout.completion import Completion


@dataclass(frozen=True)
class TransformersRollout:
    """Samples completions with the model that is being trained.

    banned (V,): tokens never drawn. max_new_tokens: limit, end token included. batch_size: completions at a time.
    """
    end_token_id: int
    pad_token_id: int
    banned: Tensor
    max_new_tokens: int
    temperature: float = 1.0
    batch_size: int = 512
    engine = "transformers"
    version = transformers.__version__
    exact = True

    @classmethod
    def of(cls, tokenizer, vocab_size: int, max_new_tokens: int, **settings) -> "TransformersRollout":
        """One that draws neither control tokens, but the end token, nor ids the tokenizer lacks. vocab_size: V of the
        model's head. settings: temperature and batch_size."""
        return cls(end_token_id(tokenizer), tokenizer.pad_token_id, banned_tokens(tokenizer, vocab_size),
                   max_new_tokens, **settings)

    def generate(self, model: nn.Module, prompts: list[Prompt], num_generations: int, keys: list[int], *, seed: int,
                 step: int, greedy: bool = False, streamer: BaseStreamer | None = None) -> list[list[Completion]]:
        """See `Rollout`. streamer: is given the tokens of the completions of one prompt as they are drawn."""
        if len(keys) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts and {len(keys)} keys: one key per prompt is needed")
        # Not hasattr: DeepSpeed's engine answers for the module inside it, but what is set on it stays outside.
        generator = next(module for module in model.modules() if isinstance(module, GenerationMixin))
        own, was_training = generator.generation_config, generator.training
        generator.eval()  # gradient checkpointing would switch the cache off
        # generate fills every gap in the config it is given from the model's own: so the model's own is put away.
        generator.generation_config = GenerationConfig(do_sample=False, max_new_tokens=self.max_new_tokens,
                                                       eos_token_id=self.end_token_id, pad_token_id=self.pad_token_id)
        per_batch = max(1, self.batch_size // num_generations)
        completions = []
        try:
            with zero.whole(model):
                for start in range(0, len(prompts), per_batch):
                    part = slice(start, start + per_batch)
                    uniforms = _uniforms(keys[part], num_generations, seed, step, self.max_new_tokens)
                    completions += self._batch(generator, prompts[part], num_generations, uniforms, greedy, streamer)
        finally:
            generator.train(was_training)
            generator.generation_config = own
        return completions

    @torch.no_grad()
    def _batch(self, model, prompts, num_generations, uniforms, greedy, streamer) -> list[list[Completion]]:
        base = next(module for module in model.modules() if hasattr(module, "get_placeholder_mask"))
        ids, mask, cache, deltas = self._prefill(model, base, prompts)
        cache.batch_repeat_interleave(num_generations)
        if hasattr(base, "rope_deltas"):
            base.rope_deltas = deltas.repeat_interleave(num_generations, 0)  # generate continues a cache from these
        draw = _Draw(uniforms.to(ids.device), self.banned.to(ids.device), self.temperature, greedy)
        rows = model.generate(
            input_ids=ids.repeat_interleave(num_generations, 0), past_key_values=cache,
            attention_mask=mask.repeat_interleave(num_generations, 0),
            logits_processor=LogitsProcessorList([draw]), streamer=streamer,
            synced_gpus=False)[:, ids.shape[1]:].cpu()  # `whole` lets each rank stop when its own rows have ended
        if hasattr(base, "rope_deltas"):
            base.rope_deltas = None
        log_probs = torch.stack(draw.log_probs, 1).cpu()                                 # (rows, steps)
        ended = (rows == self.end_token_id).int()
        finished = ended.any(1).tolist()
        lengths = torch.where(ended.any(1), ended.argmax(1) + 1, rows.shape[1]).tolist()
        flat = [Completion(rows[i, :length], finished[i], log_probs[i, :length]) for i, length in enumerate(lengths)]
        return [flat[i:i + num_generations] for i in range(0, len(flat), num_generations)]

    def _prefill(self, model, base, prompts):
        """Left-padded ids and mask (n, P), the cache of all but the last token, and MRoPE's deltas (n, 1)."""
        device = base.device
        width = max(len(prompt.input_ids) for prompt in prompts)
        ids = torch.full((len(prompts), width), self.pad_token_id)
        mask = torch.zeros(len(prompts), width, dtype=torch.long)
        rope_index = getattr(base, "get_rope_index", None)
        places = torch.zeros(3 if rope_index else 1, len(prompts), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            start = width - len(prompt.input_ids)
            ids[row, start:], mask[row, start:] = prompt.input_ids, 1
            places[:, row, start:] = positions(prompt, rope_index)
        ids, mask, places = ids.to(device), mask.to(device), places.to(device)
        photos = {name: tensor.to(device) for name, tensor in pixels(prompts).items() if tensor is not None}
        cache = model(input_ids=ids[:, :-1], attention_mask=mask[:, :-1],
                      position_ids=places[:, :, :-1] if rope_index else places[0, :, :-1], use_cache=True,
                      logits_to_keep=1, **photos).past_key_values
        return ids, mask, cache, places[0, :, -1:] + 1 - mask.sum(1, keepdim=True)


class _Draw(LogitsProcessor):
    """Chooses the next token of every row and leaves it as the only one possible."""

    def __init__(self, uniforms: Tensor, banned: Tensor, temperature: float, greedy: bool):
        self.uniforms, self.banned, self.temperature, self.greedy = uniforms, banned, temperature, greedy
        self.log_probs = []                                                              # per step (rows,)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        log_softmax = (scores.float() / self.temperature).masked_fill(self.banned, -torch.inf).log_softmax(-1)
        if self.greedy:
            words = log_softmax.argmax(-1, keepdim=True)
            self._check(log_softmax.amax(-1))
        else:
            cdf = log_softmax.double().exp().cumsum(-1)
            self._check(cdf[:, -1])
            at = self.uniforms[:, len(self.log_probs), None].double() * cdf[:, -1:]
            words = torch.searchsorted(cdf, at, right=True)  # cdf[w - 1] <= at < cdf[w]: never a token of probability 0
        self.log_probs.append(log_softmax.gather(1, words)[:, 0])
        return torch.full_like(scores, -torch.inf).scatter_(1, words, 0.0)

    def _check(self, totals: Tensor) -> None:
        """totals (rows,): not finite where a logit is NaN or infinite, or all are minus infinity."""
        if not totals.isfinite().all():
            raise FloatingPointError(f"the logits of {int((~totals.isfinite()).sum())} completions are not finite at "
                                     f"token {len(self.log_probs) + 1}")


def _uniforms(keys: list[int], num_generations: int, seed: int, step: int, length: int) -> Tensor:
    """(len(keys) * num_generations, length) numbers in [0, 1), a row for every (seed, step, group, completion)."""
    rows = [np.random.default_rng([seed, step, key, completion]).random(length, dtype=np.float32)
            for key in keys for completion in range(num_generations)]
    return torch.from_numpy(np.stack(rows))
