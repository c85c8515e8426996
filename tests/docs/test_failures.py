"""Failures that users of other projects hit and no other test covers, and that docs/failures.md names real tests."""
import copy
import json
import re

import pytest
import torch

from eval import predict
from gre.config import UserError
from gre.models.vlm import banned_tokens
from tests.helpers.paths import ROOT
from tests.test_manifest import stage1  # noqa: F401 a fixture
from tests.training.test_grpo import rows, trainer_of  # noqa: F401 rows is a fixture

NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/failures.md").read_text())))


def test_an_ordinary_added_word_stays_and_a_control_token_goes(tiny_vlm):
    """Qwen3-VL's `<think>` is an added token that a policy must be able to write."""
    tokenizer = copy.deepcopy(tiny_vlm[1].tokenizer)
    tokenizer.add_tokens(["<think>"])
    tokenizer.add_tokens(["<|video_end|>"], special_tokens=True)
    banned = banned_tokens(tokenizer, len(tokenizer))
    assert not banned[tokenizer.convert_tokens_to_ids("<think>")]
    assert banned[tokenizer.convert_tokens_to_ids("<|video_end|>")]


def test_the_share_of_groups_without_spread_is_logged(tiny_vlm, rows, tmp_path):  # noqa: F811
    """Three of a step's four groups are paid alike."""
    def reward(groups):
        return [[float(i) if number == 1 else 0.5 for i in range(len(group.texts))]
                for number, group in enumerate(groups)]

    trainer_of(tiny_vlm, rows, tmp_path, rewards={"flat": reward}, max_steps=1).train()
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert first["zero_spread"] == 0.75
    assert first["reward/flat"] == pytest.approx((3 * 0.5 + 1) / 4)
    assert first["reward/flat_std"] == pytest.approx(1 / 4)  # 0, 1, 2 have a std of 1


def test_a_reward_that_cannot_be_had_ends_the_run_and_is_no_number(tiny_vlm, rows, tmp_path):  # noqa: F811
    def judge(groups):
        raise ConnectionError("the judge's server does not answer")

    trainer = trainer_of(tiny_vlm, rows, tmp_path, rewards={"judge": judge}, max_steps=2)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    with pytest.raises(ConnectionError, match="does not answer"):
        trainer.train()
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.named_parameters())
    assert trainer.state.global_step == 0


def test_evaluation_refuses_another_pixel_budget(stage1):  # noqa: F811
    (stage1.parent.parent / "rows.json").write_text("[]")
    with pytest.raises(UserError, match="max_pixels=12544"):
        predict.run(predict.Config(model=str(stage1), data="rows.json", out="predictions.jsonl", max_pixels=99999))


@pytest.mark.parametrize("file, name", NAMED)
def test_a_named_test_exists(file, name):
    if not (ROOT / file).exists():
        pytest.skip(f"{file} is not in this checkout")
    assert not name or re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_every_failure_of_the_list_has_a_row():
    text = (ROOT / "docs/failures.md").read_text()
    table = [line.split("|") for line in text.splitlines() if re.match(r"\| \d", line)]
    assert [int(number) for _, number, *_ in table] == list(range(1, 17))
    for _, number, *_, tests, _ in table:
        assert re.search(r"`tests/[\w/]+\.py", tests), f"failure {number} names no test"
