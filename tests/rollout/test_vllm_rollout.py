"""Rollouts by the real vLLM, on the CPU: the policy that samples is the policy that is trained."""
import copy
import random

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("vllm", reason="vLLM is not installed")

from dataclasses import replace
from pathlib import Path

import gre.geo.point  # noqa: F401 as in training, where it loads numba, at which vLLM stumbles
from gre.models import weights
from gre.models.packing import Group, check_expanded
from gre.models.scoring import score
from gre.models.tower import processor_settings
from gre.models.vlm import banned_tokens, encode_prompt, load_model, load_processor
from gre.rollout.generate import TransformersRollout
from gre.rollout.vllm import engine as rollouts
from gre.rollout.vllm.engine import Engine, VLLMRollout
from gre.rollout.vllm.sampling import group_seed
from tests.helpers import sampling
from tests.helpers.sampling import greedy, learn, words

pytestmark = pytest.mark.slow
BASE = Path("gre/tiny/base")  # its head is tied to its embedding, its 1000 words are no multiple of 64
SIDES = [(56, 84), (300, 200), (84, 84)]
MAX_PIXELS = 20_000           # the second picture is shrunk


@pytest.fixture(scope="module")
def world():
    """(model, prompts, vLLM's rollout, transformers' rollout); one engine serves all tests."""
    import vllm.distributed

    processor, model = load_processor(BASE, max_pixels=MAX_PIXELS), load_model(BASE).eval()
    pictures = [np.random.default_rng(0).integers(0, 255, (*side, 3), dtype=np.uint8) for side in SIDES]
    prompts = [encode_prompt(processor, "where? " * (20 + number), Image.fromarray(picture))
               for number, picture in enumerate(pictures)]
    tokenizer = processor.tokenizer
    banned = banned_tokens(tokenizer, model.config.text_config.vocab_size)
    engine = Engine(BASE, processor_settings(processor), banned, max_length=512, dtype=torch.float32, sequences=16,
                    kv_cache_gib=0.25)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    yield model, prompts, VLLMRollout(engine, end, banned, 12), TransformersRollout(end, pad, banned, 12)
    vllm.distributed.cleanup_dist_env_and_memory()


@pytest.fixture
def policy(world):
    """A copy of the model, to be trained."""
    return copy.deepcopy(world[0])


@pytest.fixture
def undecided(policy):
    """A policy to which all words are about equally likely."""
    with torch.no_grad():
        policy.model.language_model.norm.weight *= 0.05
    return policy


def gap(world, model):
    """Largest difference of log-probabilities of vLLM's greedy completions from the trainer's."""
    _, prompts, rollout, _ = world
    return sampling.gap(model, prompts, rollout, greedy(rollout, model, prompts))


def test_greedy_tokens_and_log_probs_equal_the_trainers_before_and_after_updates(world, policy):
    _, prompts, engine, own = world
    before = greedy(engine, policy, prompts)
    assert words(before) == words(greedy(own, policy, prompts))
    assert gap(world, policy) < 1e-4
    first = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
    learn(world, policy)
    still = [name for name, parameter in policy.named_parameters() if torch.equal(parameter, first[name])]
    assert not still  # every weight has moved, so a stale one would show
    after = greedy(engine, policy, prompts)
    assert words(after) == words(greedy(own, policy, prompts)) != words(before)
    assert gap(world, policy) < 1e-4


@pytest.mark.parametrize("cache", ["prefix", "encoder"])
def test_without_resetting_a_cache_old_weights_show(world, policy, cache, monkeypatch):
    assert gap(world, policy) < 1e-4  # fills the caches
    learn(world, policy)
    llm = world[2].llm._llm
    monkeypatch.setattr(llm if cache == "prefix" else llm.llm_engine, f"reset_{cache}_cache", lambda: True)
    assert gap(world, policy) > 1e-3


def test_keys_that_vllm_keeps_stop_the_run(world, policy, monkeypatch):
    monkeypatch.setattr(world[2].llm._llm, "reset_prefix_cache", lambda: False)
    with pytest.raises(RuntimeError, match="kept keys and values of the old weights"):
        greedy(world[2], policy, world[1])


def without(part):
    """full_weights, but for the names that hold `part`."""
    return lambda model, dtype: ((name, tensor) for name, tensor in weights.full_weights(model, dtype)
                                 if part not in name)


@pytest.mark.parametrize("part, named", [("layers.1.self_attn.k_proj.weight", "layers.1.self_attn.qkv_proj"),
                                         ("merger.ln_q", "visual.merger.ln_q"), ("embed_tokens", "embed_tokens")])
def test_a_weight_that_was_not_sent_is_an_error(world, policy, part, named, monkeypatch):
    monkeypatch.setattr(rollouts, "trained_weights", without(part))
    with pytest.raises(RuntimeError, match=f"not sent all of its weights: .*{named}"):
        greedy(world[2], policy, world[1])
    monkeypatch.undo()
    assert gap(world, policy) < 1e-4


def test_a_weight_the_engine_does_not_know_is_an_error(world, policy, monkeypatch):
    def renamed(model, dtype):
        return ((name.replace("norm1", "norm_one"), tensor) for name, tensor in weights.full_weights(model, dtype))

    monkeypatch.setattr(rollouts, "trained_weights", renamed)
    with pytest.raises(RuntimeError, match="does not take the trainer's weights: .*norm_one"):
        greedy(world[2], policy, world[1])
    monkeypatch.undo()
    assert gap(world, policy) < 1e-4


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_log_probs_are_those_of_the_distribution_sampled_from(world, undecided, temperature):
    """Some ten of these words would be banned ones, were they not taken out; `score` refuses them."""
    model, (_, prompts, rollout, _) = undecided, world
    rollout = replace(rollout, temperature=temperature, max_new_tokens=100)
    groups = rollout.generate(model, prompts, 8, [5, 6, 7], seed=1, step=2)
    with torch.no_grad():
        scores = score(model, [Group(prompt, [one.token_ids for one in group])
                               for prompt, group in zip(prompts, groups)],
                       temperature=temperature, banned=rollout.banned)
    completions = [one for group in groups for one in group]
    assert torch.allclose(scores.log_probs, torch.cat([one.log_probs for one in completions]), atol=1e-4)
    for one in completions:
        ends = (one.token_ids == rollout.end_token_id).nonzero()[:, 0].tolist()
        assert ends == ([len(one.token_ids) - 1] if one.finished else [])
        assert one.finished or len(one.token_ids) == 100
    assert sum(len(one.token_ids) for one in completions) > 1000 and rollout.banned.sum() >= 7
    if temperature == 2.0:
        assert {one.finished for one in completions} == {True, False}


def test_randomness_depends_on_seed_step_group_and_completion_only(world, undecided):
    model, (_, prompts, rollout, _) = undecided, world
    whole = words(rollout.generate(model, prompts, 4, [5, 6, 7], seed=1, step=2))
    torch.manual_seed(123)
    alone = words(rollout.generate(model, prompts[1:2], 2, [6], seed=1, step=2))
    turned = words(rollout.generate(model, prompts[::-1], 4, [7, 6, 5], seed=1, step=2))
    assert alone[0] == whole[1][:2] and turned == whole[::-1]
    assert len({tuple(completion) for completion in whole[0]}) > 1
    for change in ({"seed": 2, "step": 2, "keys": [5, 6, 7]}, {"seed": 1, "step": 3, "keys": [5, 6, 7]},
                   {"seed": 1, "step": 2, "keys": [8, 6, 7]}):
        assert words(rollout.generate(model, prompts, 4, **change))[0] != whole[0]


def test_a_group_s_picture_is_encoded_once(world, monkeypatch):
    from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration as Served

    model, prompts, rollout, _ = world
    patches, encode = [], Served._process_image_input
    monkeypatch.setattr(Served, "_process_image_input",
                        lambda self, pictures: patches.append(len(pictures["pixel_values"])) or encode(self, pictures))
    rollout.generate(model, prompts, 8, [0, 1, 2], seed=0, step=0)
    assert sum(patches) == sum(len(prompt.pixel_values) for prompt in prompts)


def test_seeds_of_groups_leave_room_for_their_completions():
    assert group_seed(0, 0, 0) == group_seed(0, 0, 0) < 2**62
    assert len({group_seed(seed, step, key) for seed in range(3) for step in range(3) for key in range(3)}) == 27


def test_training_does_not_notice(world):
    model, prompts, rollout, _ = world
    threads = torch.set_num_threads
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    rollout.generate(model, prompts, 2, [0, 1, 2], seed=0, step=0)
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.set_num_threads is threads and threads.__module__ != "vllm.v1.worker.cpu_worker"


def test_what_is_refused(world):
    model, prompts, rollout, _ = world
    with pytest.raises(RuntimeError, match="reads a prompt of .* as another one of"):
        greedy(rollout, model, [replace(prompts[0], image=prompts[1].image)])
    with pytest.raises(RuntimeError, match="as another one"):
        check_expanded(prompts[0], prompts[0].input_ids.tolist()[:-1])
    with pytest.raises(ValueError, match="needs the photo"):
        greedy(rollout, model, [replace(prompts[0], image=None)])
    with pytest.raises(ValueError, match="do not fit into the engine's 512"):
        greedy(replace(rollout, max_new_tokens=500), model, prompts)
    with pytest.raises(ValueError, match="3 prompts and 2 keys"):
        rollout.generate(model, prompts, 2, [0, 1], seed=0, step=0)


def test_numbers_that_are_not_finite_stop(world, policy):
    with torch.no_grad():
        policy.model.language_model.norm.weight[3] = torch.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        greedy(world[2], policy, world[1])


def poison(worker):
    """What sleep of level 2 leaves of the weights' memory on a GPU: the buffers, which vLLM keeps, and else noise. Keys
    and values are another memory, of which no cell is read before it is written."""
    model = worker.model_runner.model
    kept = {id(buffer) for buffer in model.buffers()}
    found = [*model.parameters(), *(
        held for module in model.modules() for name, held in vars(module).items()
        if isinstance(held, torch.Tensor) and id(held) not in kept and name != "kv_cache")]
    with torch.no_grad():
        for tensor in found:
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)
    return len(found)


def test_all_that_sleep_loses_comes_back_with_the_weights(world, policy, monkeypatch):
    _, prompts, engine, _ = world
    before = greedy(engine, policy, prompts)
    assert engine.llm._llm.collective_rpc(poison)[0] > 50
    again = greedy(engine, policy, prompts)
    assert words(again) == words(before) and gap(world, policy) < 1e-4
    engine.llm._llm.collective_rpc(poison)
    monkeypatch.setattr(rollouts, "take", lambda worker, weights: list(weights) and None)
    with pytest.raises(FloatingPointError, match="not finite"):  # the poison works
        greedy(engine, policy, prompts)


class Recorder:
    """vLLM as far as `Engine` asks it; notes the order."""

    def __init__(self, calls):
        self.calls, self.llm_engine = calls, self

    def wake_up(self, tags):
        self.calls.append(f"wake {', '.join(tags)}")

    def sleep(self, level):
        self.calls.append(f"sleep {level}")

    def collective_rpc(self, method, args):
        self.calls.append(method.__name__)

    def reset_prefix_cache(self):
        self.calls.append("reset")
        return True

    reset_encoder_cache = reset_mm_cache = reset_prefix_cache

    def generate(self, prompts, params, use_tqdm, lora_request):
        self.calls.append("generate")
        return []


@pytest.mark.parametrize(("rank", "level"), [(0, 2), (4, 1)])
def test_where_vllm_sleeps_every_phase_is_woken_sent_and_put_to_sleep_in_one_order(world, monkeypatch, rank, level):
    """The first one too: its weights come before the cache takes its memory. Weights beside an adapter are not sent,
    and therefore kept."""
    from vllm.platforms import current_platform

    calls = []
    monkeypatch.setattr(rollouts, "start", lambda folder, **settings: calls.append(
        f"start, sleeping {settings['enable_sleep_mode']}") or Recorder(calls))
    monkeypatch.setattr(type(current_platform), "is_sleep_mode_available", lambda self: True)
    engine = Engine(BASE, world[2].llm.photos, world[2].banned, max_length=512, dtype=torch.float32, sequences=16,
                    kv_cache_gib=0.25, adapter_rank=rank)
    for _ in range(2):
        engine.answer(world[0], [], [], 12)
    sleep = f"sleep {level}"
    phase = ["wake weights", "take", "reset", "reset", "reset", "wake kv_cache", "generate", sleep]
    assert calls == ["start, sleeping True", sleep, *phase, *phase]
