"""Rollouts by the real vLLM of a policy that trains an adapter: it is sent the adapter alone, as an adapter."""
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("vllm", reason="vLLM is not installed")

from gre.config import UserError
from gre.models import adapter, lora
from gre.models.tower import processor_settings
from gre.models.vlm import banned_tokens, encode_prompt, load_model, load_processor
from gre.models.weights import trained_weights
from gre.rollout.generate import TransformersRollout
from gre.rollout.vllm import engine as rollouts
from gre.rollout.vllm.engine import Engine, VLLMRollout
from gre.rollout.vllm.start import settings
from tests.helpers.sampling import gap, greedy, learn, words

pytestmark = pytest.mark.slow
BASE = Path("gre/tiny/base")


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A folder that a stage with an adapter of rank 4 has handed on."""
    folder = tmp_path_factory.mktemp("parent")
    model = changed(load_model(BASE), rank=4, size=0.01)
    load_model(BASE).save_pretrained(folder / "base")
    load_processor(BASE).save_pretrained(folder / "base")
    adapter.write(dict(lora.weights(model)), folder)
    return folder


def changed(model, rank, size):
    """`model` with an adapter that is not zero."""
    lora.adapt(model, lora.LoraConfig(r=rank, alpha=2 * rank), seed=rank)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=size, generator=torch.Generator().manual_seed(len(name)))
    return model


@pytest.fixture(scope="module")
def world(parent):
    """(a policy that goes on from the parent by an adapter of rank 3, prompts, vLLM's rollout, transformers')."""
    import vllm.distributed

    processor, model = load_processor(BASE, max_pixels=20_000), load_model(parent).eval()
    lora.adapt(model, lora.LoraConfig(r=3, alpha=3), seed=0)
    pictures = [np.random.default_rng(0).integers(0, 255, (*side, 3), dtype=np.uint8) for side in ((56, 84), (84, 84))]
    prompts = [encode_prompt(processor, "where? " * (20 + number), Image.fromarray(picture))
               for number, picture in enumerate(pictures)]
    tokenizer = processor.tokenizer
    banned = banned_tokens(tokenizer, model.config.text_config.vocab_size)
    engine = Engine(parent, processor_settings(processor), banned, max_length=512, dtype=torch.float32, sequences=16,
                    kv_cache_gib=0.25, adapter_rank=4 + 3)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    yield model, prompts, VLLMRollout(engine, end, banned, 12), TransformersRollout(end, pad, banned, 12)
    vllm.distributed.cleanup_dist_env_and_memory()


def test_tokens_and_log_probs_equal_the_trainers_before_and_after_updates(world, parent):
    model, prompts, rollout, own = copy.deepcopy(world[0]), *world[1:]
    before = greedy(rollout, model, prompts)
    assert words(before) == words(greedy(own, load_model(parent).eval(), prompts))
    assert gap(model, prompts, rollout, before) < 1e-4
    learn(world, model, lr=3e-2)
    after = greedy(rollout, model, prompts)
    assert words(after) == words(greedy(own, model, prompts)) != words(before)
    assert gap(model, prompts, rollout, after) < 1e-4
    drawn = rollout.generate(model, prompts, 4, [5, 6], seed=1, step=2)
    assert gap(model, prompts, rollout, drawn) < 1e-4
    with lora.off(model):  # what was sent is no longer what the trainer asks
        assert gap(model, prompts, rollout, after) > 1e-3


@pytest.mark.parametrize("missing", ["layers.1.self_attn.k_proj", "layers.0.mlp.down_proj"])
def test_a_factor_that_was_not_sent_is_an_error(world, monkeypatch, missing):
    model, prompts, rollout, _ = world
    monkeypatch.setattr(rollouts, "trained_weights", lambda model, dtype: (
        (name, tensor) for name, tensor in trained_weights(model, dtype) if missing not in name))
    with pytest.raises(RuntimeError, match="not sent an adapter for all of its layers: .*layers"):
        greedy(rollout, model, prompts)
    monkeypatch.undo()
    assert gap(model, prompts, rollout, greedy(rollout, model, prompts)) < 1e-4


def test_a_rank_vllm_has_no_room_for_is_refused(world):
    _, _, rollout, _ = world
    common = {"max_length": 512, "dtype": torch.float32}
    assert settings(rollout.llm.photos, rollout.banned, **common, adapter_rank=33)["max_lora_rank"] == 64
    with pytest.raises(UserError, match="adapters of rank 512 at most, and this one, .*, has 520: merge the parent"):
        settings(rollout.llm.photos, rollout.banned, **common, adapter_rank=520)
