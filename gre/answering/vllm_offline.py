"""Answers by vLLM in this process: all photos of a chunk in one call, batched continuously.

vLLM is told what transformers is: the dtype, the pixel budget, which tokens are banned, and a neutral generation config
(a folder's own carries a repetition penalty). It expands the photo's place in a prompt itself; that it reads every
prompt token by token as the model was trained on is checked.
"""
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig

from gre.answering.engines import Answer, Decoding, Said
from gre.config import UserError
from gre.models import adapter, tower, vlm
from gre.rollout.vllm.start import settings, start, unnoticed, with_adapter

CPU_KV_CACHE_GIB = 1


def engine_settings(folder: Path, processor, max_new_tokens: int, dtype: str, instructions: Collection[str]) -> dict:
    """vLLM's settings, in this process and in a server, with room for the longest of `instructions`, the largest photo
    of the processor's budget and an answer."""
    longest = max(len(vlm.prompt_ids(processor, text, 64, 64)[0]) for text in instructions)
    banned = vlm.banned_tokens(processor.tokenizer, AutoConfig.from_pretrained(folder).get_text_config().vocab_size)
    memory = {} if torch.cuda.is_available() else {"kv_cache_memory_bytes": CPU_KV_CACHE_GIB * 2**30}
    return {**settings(tower.processor_settings(processor), banned,
                       max_length=longest + tower.most_tokens(processor) + max_new_tokens, dtype=getattr(torch, dtype),
                       adapter_rank=adapter.rank(folder)), **memory}


def by_vllm(folder: Path, budget: vlm.PixelBudget, decoding: Decoding, dtype: str,
            instructions: Collection[str]) -> Answer:
    """instructions: all that will be asked, so that the longest prompt fits. Raises UserError for one with control
    tokens."""
    processor = vlm.load_processor(folder, budget.min_pixels, budget.max_pixels)
    tokenizer = processor.tokenizer
    engine = start(folder, **engine_settings(folder, processor, decoding.max_new_tokens, dtype, instructions))
    beside = with_adapter(folder) if adapter.rank(folder) else None
    from vllm import SamplingParams

    common = {"max_tokens": decoding.max_new_tokens, "stop_token_ids": [vlm.end_token_id(tokenizer)],
              "ignore_eos": True, "detokenize": False}

    def params(key: int) -> SamplingParams:
        if decoding.temperature == 0:
            return SamplingParams(temperature=0.0, **common)
        seed = int(np.random.SeedSequence([decoding.seed, key]).generate_state(1)[0])
        return SamplingParams(n=decoding.samples, temperature=decoding.temperature, seed=seed, **common)

    def answer(instructions: Sequence[str], images: Sequence[Image.Image], keys: Sequence[int]) -> list[list[Said]]:
        ids = [vlm.prompt_ids(processor, text, *image.size) for text, image in zip(instructions, images)]
        requests = [{"prompt_token_ids": short, "multi_modal_data": {"image": image}}
                    for (short, _), image in zip(ids, images)]
        with unnoticed():
            outputs = engine.generate(requests, [params(key) for key in keys], use_tqdm=False,
                                      lora_request=beside)
        for (_, full), output in zip(ids, outputs, strict=True):
            if list(output.prompt_token_ids) != full:
                raise UserError(f"vLLM reads a prompt of {len(full)} tokens as another one of "
                                f"{len(output.prompt_token_ids)}: it would answer another question. Write "
                                "engine=transformers")
        return [[Said(tokenizer.decode(one.token_ids, skip_special_tokens=True), one.finish_reason == "stop")
                 for one in sorted(output.outputs, key=lambda one: one.index)] for output in outputs]

    return answer
