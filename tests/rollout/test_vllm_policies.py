"""Rollouts by the real vLLM of every architecture a policy may have: tokens and log-probabilities are the trainer's."""
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("vllm", reason="vLLM is not installed")

import gre.geo.point  # noqa: F401 as in training, where it loads numba, at which vLLM stumbles
from gre.models import lora
from gre.models.tower import processor_settings
from gre.models.vlm import banned_tokens, encode_prompt, load_model, load_processor
from gre.rollout.generate import TransformersRollout
from gre.rollout.vllm.engine import Engine, VLLMRollout
from tests.helpers.policies import POLICIES, make_policy
from tests.helpers.sampling import gap, greedy, learn, words

pytestmark = pytest.mark.slow
SIDES = [(56, 84), (300, 200), (96, 96)]  # the second photo is shrunk
OTHERS = sorted(set(POLICIES) - {"qwen2_5_vl"})  # tests/rollout/test_vllm_rollout.py and test_vllm_adapter.py have that


@pytest.mark.parametrize(("name", "rank"), [*((name, 0) for name in OTHERS), ("qwen3_vl", 4)])
def test_tokens_and_log_probs_equal_the_trainers_before_and_after_updates(name, rank, tmp_path):
    """Weights or, with a rank, an adapter beside them are sent anew after each update; all of them move."""
    import vllm.distributed

    random_model, processor = make_policy(name)
    with torch.no_grad():  # less sure of one token, which it would repeat
        random_model.model.language_model.norm.weight *= 0.3
    for part in (random_model, processor):
        part.save_pretrained(tmp_path)
    processor, model = load_processor(tmp_path, max_pixels=20_000), load_model(tmp_path).eval()
    if rank:
        lora.adapt(model, lora.LoraConfig(r=rank, alpha=rank), seed=0)
    photos = [np.random.default_rng(0).integers(0, 255, (*side, 3), dtype=np.uint8) for side in SIDES]
    prompts = [encode_prompt(processor, "where? " * (20 + number), Image.fromarray(photo))
               for number, photo in enumerate(photos)]
    tokenizer = processor.tokenizer
    banned = banned_tokens(tokenizer, model.config.text_config.vocab_size)
    engine = Engine(tmp_path, processor_settings(processor), banned, max_length=512, dtype=torch.float32, sequences=16,
                    kv_cache_gib=0.25, adapter_rank=rank)
    rollout = VLLMRollout(engine, tokenizer.eos_token_id, banned, 12)
    own = TransformersRollout(tokenizer.eos_token_id, tokenizer.pad_token_id, banned, 12)
    try:
        seen = []
        for _ in range(2):
            seen.append(words(greedy(rollout, model, prompts)))
            assert seen[-1] == words(greedy(own, model, prompts))
            drawn = rollout.generate(model, prompts, 4, [5, 6, 7], seed=1, step=len(seen))
            assert gap(model, prompts, rollout, drawn) < 1e-4
            assert len({token for group in words(drawn) for one in group for token in one}) > 50
            learn((None, prompts, rollout, None), model, lr=3e-2 if rank else 3e-3)
        assert seen[0] != seen[1]
    finally:
        vllm.distributed.cleanup_dist_env_and_memory()
