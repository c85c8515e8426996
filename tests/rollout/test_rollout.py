"""Rollouts: drawn from the softmax that is trained, reproducible, never a banned word."""
import copy

import numpy as np
import pytest
import torch
from PIL import Image

from gre.models.attention import shared_prefix
from gre.models.packing import Group
from gre.models.scoring import packed_logits, score
from gre.models.vlm import banned_tokens, encode_prompt
from gre.rollout.generate import TransformersRollout

SIDES = [(56, 84), (112, 56), (84, 84)]


@pytest.fixture(scope="module")
def world(tiny_vlm):
    """(model, prompts, banned, tokenizer); the model's generation config carries a repetition penalty."""
    model, processor = copy.deepcopy(tiny_vlm[0]), tiny_vlm[1]
    shared_prefix.install(model)
    assert model.generation_config.repetition_penalty == 1.05
    pictures = [np.random.default_rng(0).integers(0, 255, (*side, 3), dtype=np.uint8) for side in SIDES]
    prompts = [encode_prompt(processor, "where? " * (1 + number), Image.fromarray(picture))
               for number, picture in enumerate(pictures)]
    banned = banned_tokens(processor.tokenizer, model.config.text_config.vocab_size)
    return model, prompts, banned, processor.tokenizer


def rollout(world, **changes) -> TransformersRollout:
    tokenizer = world[3]
    return TransformersRollout(**{"end_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
                                  "banned": world[2], "max_new_tokens": 12, **changes})


def words(groups):
    return [[completion.token_ids.tolist() for completion in group] for group in groups]


def test_frequencies_equal_the_softmax(world):
    """4,000 first words against softmax(logits / 0.05) without banned tokens; a repetition penalty of 3, which would
    favour words that the prompt does not hold, is ignored. The model is random, so its logits are close together."""
    model, prompts, banned, _ = world
    model.generation_config.repetition_penalty = 3.0
    groups = rollout(world, max_new_tokens=1, temperature=0.05).generate(model, prompts[:1], 4000, [0], seed=0, step=1)
    model.generation_config.repetition_penalty = 1.05
    logits = packed_logits(model, [Group(prompts[0], [torch.tensor([50])])])[0]
    expected = (logits / 0.05).masked_fill(banned, -torch.inf).softmax(-1)
    drawn = torch.tensor([completion.token_ids[0] for completion in groups[0]]).bincount(minlength=len(expected)) / 4000
    deviation = (expected * (1 - expected) / 4000).sqrt()
    assert expected.max() > 0.02  # peaked enough that a penalty would show
    assert ((drawn - expected).abs() <= 5 * deviation + 1e-3).all()
    assert (drawn - expected).abs().sum() < 0.5


def test_log_probs_equal_the_scoring_pass(world):
    model, prompts, banned, _ = world
    groups = rollout(world, temperature=0.8).generate(model, prompts, 4, [5, 6, 7], seed=1, step=2)
    packed = [Group(prompt, [completion.token_ids for completion in group]) for prompt, group in zip(prompts, groups)]
    scores = score(model, packed, temperature=0.8, banned=banned)
    sampled = torch.cat([completion.log_probs for group in groups for completion in group])
    assert torch.allclose(scores.log_probs, sampled, atol=1e-5)


def test_randomness_depends_on_seed_step_group_and_completion_only(world):
    model, prompts, _, _ = world
    whole = words(rollout(world).generate(model, prompts, 4, [5, 6, 7], seed=1, step=2))
    torch.manual_seed(123)
    batched = words(rollout(world, batch_size=1).generate(model, prompts, 4, [5, 6, 7], seed=1, step=2))
    alone = words(rollout(world).generate(model, prompts[1:2], 2, [6], seed=1, step=2))
    assert batched == whole
    assert alone[0] == whole[1][:2]
    assert len({tuple(completion) for completion in whole[0]}) > 1
    for change in ({"seed": 2, "step": 2, "keys": [5, 6, 7]}, {"seed": 1, "step": 3, "keys": [5, 6, 7]},
                   {"seed": 1, "step": 2, "keys": [8, 6, 7]}):
        assert words(rollout(world).generate(model, prompts, 4, **change))[0] != whole[0]


def test_finished_means_an_end_token_within_the_limit(world):
    model, prompts, _, tokenizer = world
    longer = rollout(world, max_new_tokens=300, temperature=100.0)  # the end comes as often as any other word
    groups = longer.generate(model, prompts, 4, [0, 1, 2], seed=0, step=0)
    completions = [completion for group in groups for completion in group]
    assert {completion.finished for completion in completions} == {True, False}
    for completion in completions:
        ends = (completion.token_ids == tokenizer.eos_token_id).nonzero().flatten().tolist()
        assert ends == ([len(completion.token_ids) - 1] if completion.finished else [])
        assert completion.finished or len(completion.token_ids) == 300
        assert len(completion.log_probs) == len(completion.token_ids)
        assert not world[2][completion.token_ids].any()


def test_banned_words_are_never_drawn(world):
    model, prompts, banned, _ = world
    only = torch.ones_like(banned)
    only[[40, 41]] = False
    drawn = words(rollout(world, banned=only).generate(model, prompts, 4, [0, 1, 2], seed=0, step=0))
    assert {word for group in drawn for completion in group for word in completion} == {40, 41}


def test_greedy_equals_stock_greedy(world, tiny_vlm):
    """Against generate of the untouched model, one prompt at a time, its repetition penalty off."""
    model, prompts, banned, tokenizer = world
    ours = words(rollout(world).generate(model, prompts, 1, [0, 1, 2], seed=0, step=0, greedy=True))
    for prompt, completions in zip(prompts, ours):
        stock = tiny_vlm[0].generate(
            input_ids=prompt.input_ids[None], mm_token_type_ids=prompt.mm_token_type_ids[None],
            attention_mask=torch.ones_like(prompt.input_ids)[None], pixel_values=prompt.pixel_values,
            image_grid_thw=prompt.image_grid_thw, do_sample=False, repetition_penalty=1.0, max_new_tokens=12,
            suppress_tokens=banned.nonzero().flatten().tolist())
        assert stock[0, len(prompt.input_ids):].tolist() == completions[0]


def test_the_model_is_left_as_it_was(world):
    model, prompts, _, _ = world
    model.train()
    config = model.generation_config
    rollout(world).generate(model, prompts[:1], 2, [0], seed=0, step=0)
    assert model.training and model.generation_config is config and model.model.rope_deltas is None
    model.eval()


def test_one_key_per_prompt(world):
    with pytest.raises(ValueError, match="3 prompts and 2 keys"):
        rollout(world).generate(world[0], world[1], 2, [0, 1], seed=0, step=0)
