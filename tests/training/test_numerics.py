"""Whatever stops being finite first, the run ends there: one line, and the batch on disk to look into."""
import copy
import json
from functools import partial

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gre.config import UserError
from gre.models.attention import shared_prefix
from gre.training.sft import lazy_dataset
from gre.training.trainer.broken import not_finite
from tests.helpers import grpo as grpo_trainer
from tests.helpers import sft as sft_trainer

NAN, INF = float("nan"), float("inf")


def dumped(folder):
    """(the JSON, the tensors) of the broken batch."""
    content = json.loads((folder / "broken_batch/rank0.json").read_text(), parse_constant=pytest.fail)
    return content, load_file(folder / "broken_batch/rank0.safetensors")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imgs")
    for i in range(4):
        Image.new("RGB", (56 + 28 * (i % 3), 56), (60 * i, 200 - 40 * i, 90)).save(folder / f"{i}.png")
    return [sft_trainer.Row(f"row:{i}", folder / f"{i}.png", "Where?", f"<think>So.</think><answer>4{i}, {i}</answer>")
            for i in range(4)]


def sft(tiny_vlm, rows, folder, **train):
    model = copy.deepcopy(tiny_vlm[0])
    shared_prefix.install(model)
    return sft_trainer.trainer_of(model, tiny_vlm[1], rows, folder, max_steps=1, **train)


def poison_gradient(trainer, name="model.language_model.norm.weight"):
    """Make one gradient infinite in every backward pass; the forward pass stays sound."""
    parameter = dict(trainer.model.named_parameters())[name]
    parameter.register_hook(lambda gradient: torch.full_like(gradient, INF))
    return parameter.detach().clone(), parameter


@pytest.mark.slow
@pytest.mark.parametrize("value", [NAN, INF])
def test_sft_stops_at_a_picture_that_is_not_finite_and_names_its_row(tiny_vlm, rows, tmp_path, value):
    trainer = sft(tiny_vlm, rows, tmp_path, per_device_batch_size=4)
    encode = partial(sft_trainer.encode, tiny_vlm[1])

    def poisoned(row):
        group = encode(row)
        if row.id == "row:3":
            group.prompt.pixel_values[0, 0] = value
        return group

    trainer.train_dataset = lazy_dataset(rows, poisoned)
    with pytest.raises(UserError, match=r"step 1: the loss is nan, and \d+ of \d+ log-prob.* \(rows: row:3; the batch"):
        trainer.train()
    content, tensors = dumped(tmp_path)
    assert content["step"] == 1 and {row["id"] for row in content["rows"]} == {row.id for row in rows}
    place = [row["id"] for row in content["rows"]].index("row:3")
    assert "<answer>43, 3</answer>" in content["rows"][place]["response"]
    assert not tensors[f"{place}.pixel_values"][0, 0].isfinite()
    assert not tensors["log_probs"].isfinite().all() and len(content["rows"][place]["token_ids"]) > 10


@pytest.mark.slow
def test_sft_stops_before_a_broken_gradient_reaches_a_weight(tiny_vlm, rows, tmp_path):
    trainer = sft(tiny_vlm, rows, tmp_path, per_device_batch_size=2, gradient_accumulation_steps=2)
    before, parameter = poison_gradient(trainer)
    with pytest.raises(UserError, match=r"step 1: the norm of the gradient is (inf|nan) \(rows: (row:\d,? ?){4};"):
        trainer.train()
    assert torch.equal(parameter, before)
    assert len(dumped(tmp_path)[0]["rows"]) == 4


def grpo(tiny_vlm, rows, folder, **keys):
    return grpo_trainer.trainer_of(tiny_vlm, rows, folder, per_device_batch_size=4, gradient_accumulation_steps=1,
                                   **keys)


@pytest.mark.slow
def test_grpo_stops_at_a_reward_that_is_not_finite_and_names_its_row(tiny_vlm, rows, tmp_path):
    def bad(groups):
        return [[INF if group.row.id == "row:2" and i == 1 else 1.0 for i in range(3)] for group in groups]

    with pytest.raises(UserError, match=r"step 1: the reward 'bad' is not finite for 1 of 12 .*\(rows: row:2; "):
        grpo(tiny_vlm, rows, tmp_path, rewards={"short": grpo_trainer.short, "bad": bad}).train()
    content, tensors = dumped(tmp_path)
    one, = [row for row in content["rows"] if row["id"] == "row:2"]
    assert [completion["rewards"]["bad"] for completion in one["completions"]] == [1.0, "inf", 1.0]
    completion = one["completions"][0]
    assert completion.keys() == {"text", "finished", "token_ids", "log_probs", "rewards"}
    assert len(completion["token_ids"]) == len(completion["log_probs"])
    assert completion["rewards"].keys() == {"short", "bad"}
    assert len(content["rows"]) == 4 and "3.pixel_values" in tensors


@pytest.mark.slow
def test_grpo_stops_where_no_word_can_be_drawn(tiny_vlm, rows, tmp_path):
    trainer = grpo(tiny_vlm, rows, tmp_path)
    with torch.no_grad():
        trainer.model.model.language_model.norm.weight[0] = NAN
    with pytest.raises(UserError, match=r"step 1: the logits of 12 completions are not finite at token 1"):
        trainer.train()
    assert len(dumped(tmp_path)[0]["rows"]) == 4


@pytest.mark.slow
def test_grpo_stops_at_a_reference_and_at_a_loss_that_are_not_finite(tiny_vlm, rows, tmp_path):
    trainer = grpo(tiny_vlm, rows, tmp_path / "reference")
    with torch.no_grad():
        trainer.reference.lm_head.weight[:] = NAN
    with pytest.raises(UserError, match=r"step 1: (\d+) of \1 reference log-probabilities are not finite"):
        trainer.train()

    trainer = grpo(tiny_vlm, rows, tmp_path / "loss")
    answer = trainer._roll_out

    def then_poison(*arguments):  # the rollout is sound, the policy that is trained on it is not
        step = answer(*arguments)
        step[0][0][0]["batch"].groups[2].prompt.pixel_values[0, 0] = NAN
        return step

    trainer._roll_out = then_poison
    with pytest.raises(UserError, match=r"step 1: the loss is nan, and \d+ of \d+ log-prob") as stopped:
        trainer.train()
    content, tensors = dumped(tmp_path / "loss")
    assert f"(rows: {content['rows'][2]['id']};" in str(stopped.value)
    assert {"log_probs", "sampled", "reference", "advantages"} <= tensors.keys() and "old" not in tensors
    assert len(tensors["log_probs"]) == sum(len(one["token_ids"]) for row in content["rows"]
                                            for one in row["completions"])


@pytest.mark.parametrize("max_grad_norm", [0, 1.0])
def test_grpo_stops_before_a_broken_gradient_reaches_a_weight(tiny_vlm, rows, tmp_path, max_grad_norm):
    trainer = grpo(tiny_vlm, rows, tmp_path, max_grad_norm=max_grad_norm)
    before, parameter = poison_gradient(trainer)
    with pytest.raises(UserError, match=r"step 1: the norm of the gradient is (inf|nan) \(rows: row:"):
        trainer.train()
    assert torch.equal(parameter, before)
    content, tensors = dumped(tmp_path)
    assert content["rows"][0]["completions"][0].keys() >= {"text", "rewards"} and tensors["sampled"].isfinite().all()


def test_norms():
    assert [not_finite(norm) for norm in (0.0, 3.5, torch.tensor(2.0), None)] == [False] * 4
    assert [not_finite(norm) for norm in (NAN, INF, -1.0, torch.tensor(NAN))] == [True] * 4
