"""SFT through Trainer: the right loss, the right gradients, on every weight it should train and on no other."""
import copy
import json
from functools import partial

import pytest
import torch
from PIL import Image

from gre.config import UserError
from gre.models.attention import shared_prefix
from gre.models.vlm import banned_tokens, encode_prompt, encode_response, encode_text, freeze_vision, prompt_length
from gre.training.arguments import TrainConfig, check_weights, training_arguments
from gre.training.data import fitting_rows, response_length
from gre.training.sft import SFTTrainer
from gre.training.trainer.balance import spread
from gre.training.trainer.passes import fewest_passes, forwarded_tokens
from tests.helpers.sft import Row, encode, trainer_of


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Eight rows of different picture sizes and response lengths."""
    folder = tmp_path_factory.mktemp("imgs")
    made = []
    for i in range(8):
        Image.new("RGB", (56 + 28 * (i % 3), 56), (30 * i, 200 - 20 * i, 90)).save(folder / f"{i}.png")
        made.append(Row(f"cot:{i}", folder / f"{i}.png", "Where is this?",
                        f"<think>{'The sign is French. ' * (1 + i % 4)}</think><answer>4{i}.1, {i}.5</answer>"))
    return made


@pytest.fixture
def model(tiny_vlm):
    made = copy.deepcopy(tiny_vlm[0])
    shared_prefix.install(made)
    return made


def gradients_of_one_step(model, processor, rows, folder, **train):
    """The gradient Trainer hands to the optimiser in its first step."""
    model, seen = copy.deepcopy(model), {}
    trainer = trainer_of(model, processor, rows, folder, max_steps=1, max_grad_norm=1e9, **train)
    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(
        lambda *_: seen.update({name: p.grad.clone() for name, p in model.named_parameters()}))
    trainer.train()
    return seen, trainer.state.log_history[0]["loss"]


def assert_same_gradients(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        tolerance = 1e-5 * max(gradient.abs().max().item(), 1e-3)
        torch.testing.assert_close(ours[name], gradient, rtol=0, atol=tolerance, msg=name)


@pytest.mark.slow
def test_loss_falls_and_every_parameter_moves(model, tiny_vlm, rows, tmp_path):
    trainer_of(model, tiny_vlm[1], rows, tmp_path, max_steps=12).train()
    logs = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [log["step"] for log in logs if "loss" in log] == list(range(1, 13))
    assert logs[11]["loss"] < 0.8 * logs[0]["loss"]
    still = [name for (name, new), old in zip(model.named_parameters(), tiny_vlm[0].parameters(), strict=True)
             if torch.equal(new, old)]
    assert not still
    assert not list(tmp_path.rglob("*.bin"))


def test_loss_and_gradients_equal_the_stock_models(model, tiny_vlm, rows, tmp_path):
    stock, processor = copy.deepcopy(tiny_vlm[0]), tiny_vlm[1]
    ours, loss = gradients_of_one_step(model, processor, rows, tmp_path, per_device_batch_size=8)
    groups = [encode(processor, row) for row in rows]
    tokens = sum(len(group.completions[0]) for group in groups)
    total = 0.0
    for group in groups:
        prompt, response = group.prompt, group.completions[0]
        ids = torch.cat([prompt.input_ids, response])[None]
        labels = torch.cat([torch.full_like(prompt.input_ids, -100), response])[None]
        kinds = torch.cat([prompt.mm_token_type_ids, torch.zeros_like(response)])[None]
        output = stock(input_ids=ids, labels=labels, mm_token_type_ids=kinds, pixel_values=prompt.pixel_values,
                       image_grid_thw=prompt.image_grid_thw)
        share = output.loss * len(response) / tokens
        share.backward()
        total += share.item()
    assert loss == pytest.approx(total, abs=1e-5)
    assert_same_gradients(ours, {name: p.grad for name, p in stock.named_parameters()})


@pytest.mark.slow
def test_accumulation_changes_no_gradient(model, tiny_vlm, rows, tmp_path):
    one, loss_1 = gradients_of_one_step(model, tiny_vlm[1], rows, tmp_path, per_device_batch_size=8)
    two, loss_2 = gradients_of_one_step(model, tiny_vlm[1], rows, tmp_path, per_device_batch_size=4,
                                        gradient_accumulation_steps=2)
    assert loss_1 == pytest.approx(loss_2, abs=1e-5)
    assert_same_gradients(two, one)


@pytest.mark.slow
def test_pictures_made_ready_by_other_processes_change_no_gradient(model, tiny_vlm, rows, tmp_path):
    """While a step is computed, those of the next are decoded."""
    own, others = (gradients_of_one_step(model, tiny_vlm[1], rows, tmp_path, per_device_batch_size=4,
                                         gradient_accumulation_steps=2, dataloader_num_workers=count)
                   for count in (0, 2))
    assert own[1] == others[1] and all(torch.equal(own[0][name], others[0][name]) for name in own[0])


@pytest.mark.slow
def test_a_budget_of_tokens_changes_no_gradient(model, tiny_vlm, rows, tmp_path, monkeypatch):
    """Eight rows in one pass, in as few as hold 200 tokens each, and in seven, because another process needs them."""
    one, loss = gradients_of_one_step(model, tiny_vlm[1], rows, tmp_path, per_device_batch_size=8)
    step = SFTTrainer.training_step
    for others in (1, 7):
        seen = []
        monkeypatch.setattr("gre.training.trainer.passes.most", lambda _, needed, others=others: max(needed, others))
        monkeypatch.setattr(SFTTrainer, "training_step", lambda self, model, inputs, *rest, seen=seen: seen.append(
            inputs) or step(self, model, inputs, *rest))
        other, same_loss = gradients_of_one_step(model, tiny_vlm[1], rows, tmp_path, per_device_batch_size=8,
                                                 tokens_per_pass=200)
        assert same_loss == pytest.approx(loss, abs=1e-5)
        assert_same_gradients(other, one)
        (made,) = seen
        assert len(made) == 7 if others == 7 else 1 < len(made) < 7
        assert all(sum(map(forwarded_tokens, each["groups"])) <= 200 for each in made)
        assert sorted(row for each in made for row in each["ids"]) == [row.id for row in rows]


def test_passes_by_hand():
    """7, 4 and 2 beside 6 and 5; one longer than the budget goes alone."""
    assert spread([7, 6, 5, 4, 2], 2) == [[0, 3, 4], [1, 2]]
    assert [fewest_passes([7, 6, 5, 4, 2], budget) for budget in (24, 23, 13, 12, 1)] == [1, 2, 2, 3, 5]
    assert fewest_passes([20, 3, 4], 7) == 2


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_gradient(model, tiny_vlm, rows, tmp_path):
    plain, _ = gradients_of_one_step(model, tiny_vlm[1], rows, tmp_path, per_device_batch_size=8)
    saved, _ = gradients_of_one_step(model, tiny_vlm[1], rows, tmp_path, per_device_batch_size=8,
                                     gradient_checkpointing=True)
    assert_same_gradients(saved, plain)


def test_a_frozen_vision_tower_does_not_move(model, tiny_vlm, rows, tmp_path):
    freeze_vision(model)
    trainer_of(model, tiny_vlm[1], rows, tmp_path, max_steps=2).train()
    for (name, new), old in zip(model.named_parameters(), tiny_vlm[0].parameters(), strict=True):
        assert torch.equal(new, old) == ("visual" in name), name


def test_bfloat16_weights_need_deepspeed(model, tiny_vlm, rows, tmp_path):
    with pytest.raises(UserError, match="float32"):
        trainer_of(model.to(torch.bfloat16), tiny_vlm[1], rows, tmp_path, bf16=True)
    args = training_arguments(TrainConfig(bf16=True), tmp_path, seed=0)
    args.deepspeed = "zero2.json"
    check_weights(model, args)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_rows(model, tiny_vlm, rows, tmp_path):
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    with pytest.raises(UserError, match="cot:"):
        trainer_of(model, tiny_vlm[1], rows, tmp_path, max_steps=1).train()


def test_lengths_are_exact_and_long_rows_are_never_cut(tiny_vlm, rows):
    processor = tiny_vlm[1]
    length = partial(response_length, processor)
    for row in rows:
        group = encode(processor, row)
        assert length(row) == len(group.prompt.input_ids) + len(group.completions[0])
    longest = max(map(length, rows))
    assert fitting_rows(rows, length, longest, drop=False) == rows
    with pytest.raises(UserError, match=r"row cot:7 has .*on_bad_row=drop"):
        fitting_rows(rows, length, longest - 1, drop=False)
    assert len(fitting_rows(rows, length, longest - 1, drop=True)) < len(rows)
    with pytest.raises(UserError, match="8 of 8 rows"):
        fitting_rows(rows, length, 1, drop=True)


@pytest.mark.parametrize("size", [(28, 28), (640, 480), (3000, 20), (4000, 3000)])
def test_a_prompts_length_needs_no_pixels(tiny_vlm, size):
    prompt = encode_prompt(tiny_vlm[1], "Where is this?", Image.new("RGB", size))
    assert prompt_length(tiny_vlm[1], "Where is this?", *size) == len(prompt.input_ids)


def test_text_never_becomes_a_control_token(tiny_vlm):
    model, processor = tiny_vlm
    text = "x<|im_end|><|image_pad|>"
    ids = encode_text(processor, text)
    assert processor.tokenizer.decode(ids) == text
    assert not set(ids.tolist()) & set(processor.tokenizer.all_special_ids)
    assert encode_response(processor, "x").tolist()[-1] == processor.tokenizer.eos_token_id
    with pytest.raises(UserError, match="im_end"):
        encode_prompt(processor, "where<|im_end|>", Image.new("RGB", (28, 28)))


def test_banned_tokens(tiny_vlm):
    tokenizer = tiny_vlm[1].tokenizer
    banned = banned_tokens(tokenizer, len(tokenizer) + 3)
    assert banned[-3:].all() and not banned[tokenizer.eos_token_id]
    assert {tokenizer.decode([i]) for i in banned[:-3].nonzero()[:, 0]} == {
        token.content for token in tokenizer.added_tokens_decoder.values()} - {tokenizer.eos_token}


def test_an_ordinary_added_word_stays_and_a_control_token_goes(tiny_vlm):
    """Qwen3-VL's `<think>` is an added token that a policy must be able to write."""
    tokenizer = copy.deepcopy(tiny_vlm[1].tokenizer)
    tokenizer.add_tokens(["<think>"])
    tokenizer.add_tokens(["<|video_end|>"], special_tokens=True)
    banned = banned_tokens(tokenizer, len(tokenizer))
    assert not banned[tokenizer.convert_tokens_to_ids("<think>")]
    assert banned[tokenizer.convert_tokens_to_ids("<|video_end|>")]
