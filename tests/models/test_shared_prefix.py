"""One packed row gives what the stock model gives on plain rows: log-probs, entropies, every parameter's gradient."""
import copy

import numpy as np
import pytest
import torch
from PIL import Image

from gre.models import scoring
from gre.models.attention import shared_prefix
from gre.models.attention.segments import segment_attention
from gre.models.packing import Group, pack
from gre.models.scoring import packed_logits, score
from tests.helpers.plain_rows import (
    LENGTHS,
    SIDES,
    assert_close,
    assert_same_gradients,
    make_groups,
    make_prompt,
    plain_scores,
)


@pytest.fixture(scope="module")
def pair(tiny_vlm):
    """(the stock model, the same weights with shared-prefix attention, processor)."""
    model, processor = tiny_vlm
    stock, shared = copy.deepcopy(model), copy.deepcopy(model)
    shared_prefix.install(shared)
    assert stock.config.text_config._attn_implementation == "sdpa"
    return stock, shared, processor


@pytest.fixture(autouse=True)
def fresh(pair):
    for model in pair[:2]:
        model.zero_grad()
        model.eval()
        model.gradient_checkpointing_disable()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_equals_plain_rows(pair, checkpointing):
    stock, shared, processor = pair
    groups = make_groups(processor)
    if checkpointing:
        shared.train().gradient_checkpointing_enable({"use_reentrant": False})
    log_probs, entropies = plain_scores(stock, groups)
    ours = score(shared, groups)
    assert_close(ours.log_probs, log_probs)
    assert_close(ours.entropies, entropies)
    weights = torch.linspace(-1, 1, len(log_probs))
    (log_probs * weights).sum().backward()
    (ours.log_probs * weights).sum().backward()
    assert any(name.startswith("model.visual") for name, _ in shared.named_parameters())
    assert_same_gradients(shared, stock)
    assert ours.group.tolist() == [0] * 8 + [1] * 18 + [2] * 3
    assert ours.completion.tolist() == [0] * 7 + [2] + [3] + [4] * 12 + [5] * 5 + [8] * 3


def test_temperature_and_banned_words(pair):
    stock, shared, processor = pair
    groups = make_groups(processor, [[4, 2]])
    banned = torch.zeros(shared.config.text_config.vocab_size, dtype=torch.bool)
    banned[:8] = True
    log_probs, _ = plain_scores(stock, groups, temperature=0.7, banned=banned)
    ours = score(shared, groups, temperature=0.7, banned=banned)
    assert_close(ours.log_probs, log_probs)
    assert ours.entropies.isfinite().all()
    groups[0].completions[1][0] = 3
    with pytest.raises(ValueError, match="group 0, completion 1: token 3 is banned"):
        score(shared, groups, banned=banned)


@pytest.mark.parametrize("rows_a_chunk", [1, 3, 100])
def test_chunks_give_what_autograd_gives_on_all_rows_at_once(monkeypatch, rows_a_chunk):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(7, 50, generator=generator).mul_(5).requires_grad_()
    labels, banned = torch.arange(7) * 3, torch.arange(50) > 40
    towards = torch.randn(7, generator=generator)
    monkeypatch.setattr(scoring, "CHUNK_ENTRIES", rows_a_chunk * 50)
    log_probs, entropies = scoring._TokenScores.apply(logits, labels, banned, 0.7)
    (gradient,) = torch.autograd.grad((log_probs * towards).sum(), logits)

    whole = (logits / 0.7).masked_fill(banned, -torch.inf).log_softmax(-1)
    expected = whole[torch.arange(7), labels]
    (expected_gradient,) = torch.autograd.grad((expected * towards).sum(), logits)
    torch.testing.assert_close(log_probs, expected)
    torch.testing.assert_close(entropies, -(whole.exp() * whole.masked_fill(banned, 0)).sum(-1))
    torch.testing.assert_close(gradient, expected_gradient)
    assert not entropies.requires_grad and not gradient[:, 41:].any()


def test_masks_choose_the_counted_tokens(pair):
    _, shared, processor = pair
    groups = make_groups(processor, [[5, 3], [4]])
    every = score(shared, groups)
    groups[0].scored = [torch.tensor([False, True, False, False, True]), torch.zeros(3, dtype=torch.bool)]
    some = score(shared, groups)
    assert_close(some.log_probs, every.log_probs[[1, 4, 8, 9, 10, 11]])
    assert some.completion.tolist() == [0, 0, 2, 2, 2, 2]
    assert packed_logits(shared, groups).shape == (6, shared.config.text_config.vocab_size)


def test_groups_of_one_size_and_instruction_stay_apart(pair):
    """Two pictures of one size under one instruction have equal ids; and one Prompt may serve two groups."""
    stock, shared, processor = pair
    first, second = (make_prompt(processor, 1, 56, 56) for _ in range(2))
    second.pixel_values = second.pixel_values.flip(0)
    groups = [Group(prompt, [torch.arange(30, 36)]) for prompt in (first, second, first)]
    assert torch.equal(first.input_ids, second.input_ids)
    ours = score(shared, groups).log_probs.view(3, 6)
    assert_close(ours.flatten(), plain_scores(stock, groups)[0])
    assert torch.allclose(ours[0], ours[2], atol=1e-6) and not torch.allclose(ours[0], ours[1], atol=1e-6)


def test_only_empty_completions_give_zero_gradients(pair):
    """Ranks without work still run the model: nothing is scored and every gradient is zero, not missing."""
    _, shared, processor = pair
    scores = score(shared, make_groups(processor, [[0, 0]]))
    assert scores.log_probs.shape == (0,)
    scores.log_probs.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in shared.parameters())


def test_left_padded_generate_equals_sdpa(pair):
    stock, shared, processor = pair
    images = [Image.fromarray(np.full((*side, 3), 50 * i, dtype=np.uint8)) for i, side in enumerate(SIDES)]
    turns = [[{"role": "user", "content": [{"type": "image", "image": image},
                                           {"type": "text", "text": "where? " * (1 + i)}]}]
             for i, image in enumerate(images)]
    batch = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=True,
                                          return_tensors="pt", padding=True, padding_side="left")
    assert not batch["attention_mask"].all()
    options = {"max_new_tokens": 8, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    ours, reference = shared.generate(**batch, **options), stock.generate(**batch, **options)
    assert torch.equal(ours.sequences, reference.sequences)
    for left, right in zip(ours.logits, reference.logits, strict=True):
        assert_close(left, right)


def test_padded_attention_and_that_by_segments_agree(pair):
    """What GPUs and what CPUs do: the same outputs and gradients; 4 heads share 2 of keys and values."""
    _, shared, processor = pair
    layout = pack(make_groups(processor), shared.model.get_rope_index).layout
    generator, found = torch.Generator().manual_seed(0), []
    states = [torch.randn(1, heads, len(layout.back), 8, generator=generator, requires_grad=True)
              for heads in (4, 2, 2)]
    weights = torch.randn(1, len(layout.back), 4, 8, generator=generator)
    n = len(layout.lengths) - len(layout.owners)
    for output in (shared_prefix.padded(*states, layout),
                   segment_attention(*states, layout.lengths[:n], layout.lengths[n:], layout.owners)):
        found.append((output, *torch.autograd.grad((output * weights).sum(), states)))
    for ours, reference in zip(*found, strict=True):
        assert_close(ours, reference)


def test_a_prompt_is_forwarded_once(pair):
    _, shared, processor = pair
    groups = make_groups(processor)
    row = pack(groups, shared.model.get_rope_index)
    prefixes = sum(len(group.prompt.input_ids) - 1 for group in groups)
    assert row.input_ids.shape == (1, prefixes + sum(sum(lengths) for lengths in LENGTHS))
    assert len(row.image_grid_thw) == len(groups)
    assert row.position_ids.shape[0] == 3


def test_what_cannot_be_scored_is_refused(pair):
    stock, shared, processor = pair
    groups = make_groups(processor, [[3]])
    with pytest.raises(ValueError, match="install"):
        score(stock, groups)
    with pytest.raises(ValueError, match="nothing to pack"):
        score(shared, [])
    groups[0].completions[0][1] = shared.config.image_token_id
    with pytest.raises(ValueError, match="group 0: a completion holds a image token"):
        score(shared, groups)
    groups = make_groups(processor, [[3]])
    groups[0].scored = [torch.ones(2, dtype=torch.bool)]
    with pytest.raises(ValueError, match="group 0: one mask per completion"):
        score(shared, groups)
