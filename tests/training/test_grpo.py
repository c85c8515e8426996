"""GRPO through Trainer: the loss and gradients of a step, however it is cut, and where it drives a policy."""
import copy
import json
import math
from dataclasses import replace

import pytest
import torch
import transformers
from packaging.version import Version
from PIL import Image

from gre.config import UserError
from gre.models import features
from gre.models.vlm import encode_prompt, freeze_vision
from gre.rollout.generate import TransformersRollout
from gre.training.grpo import GRPOConfig
from gre.training.sampler import StepSampler
from gre.training.trainer.balance import spread
from gre.training.trainer.passes import forwarded_tokens
from tests.helpers.grpo import four_rows, short, trainer_of
from tests.helpers.plain_rows import plain_logits
from tests.helpers.policies import POLICIES, make_policy


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return four_rows(tmp_path_factory.mktemp("imgs"))


def gradients(trainer):
    """What the optimizer is given in its first step, before clipping changes it."""
    trainer.args.max_grad_norm = 0
    caught = {}

    def catch(optimizer, *_):
        caught.update({name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.requires_grad})

    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(catch)
    trainer.train()
    return caught


def assert_same(ours, reference):
    assert ours.keys() == reference.keys()
    for name, gradient in reference.items():
        assert (ours[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max() + 1e-9, name


@pytest.mark.slow
@pytest.mark.parametrize("normalize", ["token", "sequence"])
def test_accumulation_does_not_change_the_gradient(tiny_vlm, rows, tmp_path, normalize):
    grpo = GRPOConfig(num_generations=3, normalize=normalize)
    cuts = [(4, 1), (2, 2), (1, 4)]
    one, *others = [gradients(trainer_of(tiny_vlm, rows, tmp_path, grpo=grpo, per_device_batch_size=size,
                                         gradient_accumulation_steps=steps)) for size, steps in cuts]
    assert any(gradient.abs().max() > 0 for gradient in one.values())
    for other in others:
        assert_same(other, one)


@pytest.mark.slow
def test_pictures_made_ready_by_other_processes_are_the_same(tiny_vlm, rows, tmp_path):
    """While a step is computed those of the next are decoded."""
    own, others = (gradients(trainer_of(tiny_vlm, rows, tmp_path, dataloader_num_workers=workers, max_steps=2))
                   for workers in (0, 2))
    assert all(torch.equal(own[name], others[name]) for name in own) and own.keys() == others.keys()


takes_features = pytest.mark.skipif(Version(transformers.__version__) < Version("5.18"),
                                    reason="this transformers does not take features in place of pixels")


@pytest.mark.slow
@takes_features
@pytest.mark.parametrize("num_iterations", [1, 2])
def test_a_tower_that_is_not_trained_sees_each_picture_once_a_step(tiny_vlm, rows, tmp_path, num_iterations):
    """In the first of the passes of old policy, reference and update; the gradient is what it would be."""
    patches = sum(len(encode_prompt(tiny_vlm[1], "where?", Image.open(row.image)).pixel_values) for row in rows)

    def step(once):
        trainer, seen = trainer_of(tiny_vlm, rows, tmp_path, grpo=grpo), []
        tower, other = trainer.model.model.visual, trainer.reference.model.visual
        other.load_state_dict(tower.state_dict())  # as in a stage, whose policy and reference start from one parent
        freeze_vision(trainer.model)
        assert features.shared(trainer.model, trainer.reference)
        trainer.one_tower = once
        for each in (tower, other):
            each.register_forward_hook(lambda module, arguments, output: seen.append(len(arguments[0])))
        return gradients(trainer), sum(seen) - patches  # of one pass of `generate`

    grpo = GRPOConfig(num_generations=3, num_iterations=num_iterations)
    (kept, few), (anew, many) = step(True), step(False)
    assert (few, many) == (patches, (num_iterations + 1) * patches)
    assert_same(kept, anew)


@takes_features
def test_a_tower_that_is_trained_or_of_another_type_is_not_shared(tiny_vlm):
    model = copy.deepcopy(tiny_vlm[0])
    assert not features.shared(model, None)
    freeze_vision(model)
    assert features.shared(model, None) and features.shared(model, model)
    assert not features.shared(model, copy.deepcopy(model).bfloat16())


@pytest.mark.slow
def test_a_budget_of_tokens_does_not_change_the_gradient(tiny_vlm, rows, tmp_path, monkeypatch):
    """Passes by a budget, more of them where another process needs more, against one; old log-probabilities included.
    """
    def made(budget):
        return trainer_of(tiny_vlm, rows, tmp_path, grpo=GRPOConfig(num_generations=3, num_iterations=2),
                          tokens_per_pass=budget, per_device_batch_size=4, gradient_accumulation_steps=1)

    one = made(0)
    whole = gradients(one)
    assert any(gradient.abs().max() > 0 for gradient in whole.values())
    (((only,),), _) = one._step
    tokens = [forwarded_tokens(group) for group in only["batch"].groups]
    halves = max(sum(tokens[i] for i in held) for held in spread(tokens, 2))
    for budget, passes, others in ((halves, 2, 1), (1, 4, 1), (halves, 4, 4)):
        monkeypatch.setattr("gre.training.trainer.passes.most", lambda _, needed, others=others: max(needed, others))
        trainer = made(budget)
        assert_same(gradients(trainer), whole)
        (step,), _ = trainer._step
        assert [len(each["batch"].groups) for each in step] == [4 // passes] * passes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", *sorted(set(POLICIES) - {"qwen2_5_vl"})])
def test_a_step_equals_a_loop_over_plain_rows(tiny_vlm, name, rows, tmp_path):
    """Loss and gradients of a whole step against the stock model, row by row, with the formula written out."""
    stock = tiny_vlm if name == "tiny" else make_policy(name)
    trainer = trainer_of(stock, rows, tmp_path)
    steps = []
    answer = trainer._roll_out
    trainer._roll_out = lambda *arguments: steps.append(answer(*arguments)) or steps[-1]
    ours = gradients(trainer)
    (batches, total), = steps
    policy, reference = copy.deepcopy(stock[0]), copy.deepcopy(stock[0])
    for parameter in reference.parameters():
        parameter.data.mul_(1.02)
    banned, loss = trainer.rollout.banned, 0.0
    for batch in (each["batch"] for passes in batches for each in passes):
        advantage = iter(batch.advantages)
        for group in batch.groups:
            for completion in group.completions:
                a = next(advantage)
                logits = [plain_logits(model, group, completion) for model in (policy, reference)]
                log_probs, base = (each.masked_fill(banned, -torch.inf).log_softmax(-1)
                                   .gather(1, completion[:, None])[:, 0] for each in logits)
                ratio, r = (log_probs - log_probs.detach()).exp(), (base.detach() - log_probs).exp()
                loss = loss - (torch.min(ratio * a, ratio.clamp(0.8, 1.2) * a) - 0.04 * (r - r.log() - 1)).sum()
    loss = loss / total
    loss.backward()
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][0]
    assert logged["loss"] == pytest.approx(loss.item(), rel=1e-3, abs=1e-7)
    assert_same(ours, {name: p.grad for name, p in policy.named_parameters()})
    assert max(gradient.abs().max() for gradient in ours.values()) > 1e-3


@pytest.mark.slow
def test_every_parameter_moves_and_the_reference_does_not(tiny_vlm, rows, tmp_path):
    trainer = trainer_of(tiny_vlm, rows, tmp_path, max_steps=2)
    frozen = copy.deepcopy(trainer.reference.state_dict())
    trainer.train()
    before = tiny_vlm[0].state_dict()
    assert [name for name, value in trainer.model.state_dict().items() if torch.equal(value, before[name])] == []
    assert all(torch.equal(value, frozen[name]) for name, value in trainer.reference.state_dict().items())


@pytest.mark.slow
def test_metrics_and_samples(tiny_vlm, rows, tmp_path):
    zero = {"short": short, "flat": lambda groups: [[0.5] * len(group.texts) for group in groups]}
    trainer_of(tiny_vlm, rows, tmp_path, rewards=zero, max_steps=2).train()
    first, second = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][:2]
    names = {"loss", "grad_norm", "reward", "reward_std", "reward/short", "reward/short_std", "reward/flat",
             "zero_spread", "kl", "ratio", "clipped", "entropy", "length", "truncated", "sampling_gap",
             "seconds/rollout", "seconds/rewards", "seconds/exchange", "seconds/passes", "seconds/update",
             "seconds/rest"}
    assert names <= first.keys() and names <= second.keys()
    assert first["reward"] == pytest.approx(first["reward/short"] + 0.5)
    assert first["reward/flat_std"] == 0 and first["ratio"] == 1 and first["sampling_gap"] < 1e-5
    assert all(log[name] >= 0 for log in (first, second) for name in names if name.startswith("seconds/"))
    assert 1 <= first["length"] <= 6 and 0 <= first["truncated"] <= 1 and first["kl"] > 0
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [1, 1, 1, 2, 2, 2]
    assert samples[0]["rewards"].keys() == {"short", "flat"} and samples[0]["id"].startswith("seed:")


@pytest.mark.slow
@pytest.mark.parametrize("exact, likelier, factor", [(False, 1.5, 1.5), (False, 8.0, 2.0), (True, 8.0, 1.0)])
def test_tokens_of_another_engine_are_weighted(tiny_vlm, rows, tmp_path, exact, likelier, factor):
    """An engine that gave every token 1 / likelier of its probability: the gradient grows by that, to the cap of 2, but
    not where the trained model itself has sampled."""
    class Other(TransformersRollout):
        def generate(self, *args, **kwargs):
            return [[replace(one, log_probs=one.log_probs - math.log(likelier)) for one in group]
                    for group in super().generate(*args, **kwargs)]

    Other.exact = exact
    plain, trainer = (trainer_of(tiny_vlm, rows, tmp_path / name, reference=False,
                                 grpo=GRPOConfig(num_generations=3, beta=0.0)) for name in ("plain", "other"))
    trainer.rollout = Other(**vars(trainer.rollout))
    assert_same(gradients(trainer), {name: factor * grad for name, grad in gradients(plain).items()})
    logged = json.loads((tmp_path / "other" / "metrics.jsonl").read_text().splitlines()[0])
    if not exact:
        assert logged["importance"] == pytest.approx(factor, rel=1e-3)
        assert logged["importance_cut"] == (likelier > 2)


@pytest.mark.slow
@pytest.mark.parametrize("exact", [True, False])
def test_an_engine_is_not_run_under_autocast(tiny_vlm, rows, tmp_path, exact):
    """It has weights of its own type, and what it compiles it keeps; the model that is trained samples as it learns."""
    seen = []

    class Watched(TransformersRollout):
        def generate(self, *args, **kwargs):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().generate(*args, **kwargs)

    Watched.exact = exact
    trainer = trainer_of(tiny_vlm, rows, tmp_path, reference=False, grpo=GRPOConfig(num_generations=3, beta=0.0),
                         bf16=True)
    trainer.rollout = Watched(**vars(trainer.rollout))
    trainer.train()
    assert seen == [exact]


@pytest.mark.slow
def test_iterations_reuse_a_step_s_completions(tiny_vlm, rows, tmp_path):
    grpo = GRPOConfig(num_generations=3, num_iterations=2)
    trainer = trainer_of(tiny_vlm, rows, tmp_path, grpo=grpo, max_steps=4, learning_rate=1e-3)
    calls = []
    answer = trainer._roll_out
    trainer._roll_out = lambda *arguments: calls.append(trainer.state.global_step) or answer(*arguments)
    trainer.train()
    assert calls == [0, 2]
    logs = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][:4]
    assert [abs(log["ratio"] - 1) < 1e-5 for log in logs] == [True, False, True, False]
    assert all(log["sampling_gap"] < 1e-5 for log in logs)


@pytest.mark.slow
def test_a_rewarded_word_becomes_likelier(tiny_vlm, rows, tmp_path):
    """The whole loop learns: pay for the share of one letter and it is written more often."""
    rewards = {"e": lambda groups: [[text.count("e") / (1 + len(text)) for text in group.texts] for group in groups]}
    trainer = trainer_of(tiny_vlm, rows, tmp_path, rewards=rewards, reference=False, max_steps=25, learning_rate=3e-3,
                         per_device_batch_size=4, gradient_accumulation_steps=1, max_new_tokens=5,
                         grpo=GRPOConfig(num_generations=16, beta=0.0))
    trainer.train()
    logs = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][:25]
    assert logs[-1]["reward"] > 2 * logs[0]["reward"]


@pytest.mark.slow
def test_refusals(tiny_vlm, rows, tmp_path):
    with pytest.raises(UserError, match="a step takes 8 prompts and the data has 4"):
        trainer_of(tiny_vlm, rows, tmp_path, per_device_batch_size=4).train()
    with pytest.raises(ValueError, match="reward 'bad' must give one number per completion"):
        trainer_of(tiny_vlm, rows, tmp_path, rewards={"bad": lambda groups: [[1.0] * 2] * len(groups)}).train()
    with pytest.raises(ValueError, match="reference is needed exactly when"):
        trainer_of(tiny_vlm, rows, tmp_path, reference=False, grpo=GRPOConfig(num_generations=3))
    with pytest.raises(ValueError, match="num_generations"):
        GRPOConfig(num_generations=1)


@pytest.mark.slow
def test_the_share_of_groups_without_spread_is_logged(tiny_vlm, rows, tmp_path):
    """Three of a step's four groups are paid alike."""
    def reward(groups):
        return [[float(i) if number == 1 else 0.5 for i in range(len(group.texts))]
                for number, group in enumerate(groups)]

    trainer_of(tiny_vlm, rows, tmp_path, rewards={"flat": reward}, max_steps=1).train()
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert first["zero_spread"] == 0.75
    assert first["reward/flat"] == pytest.approx((3 * 0.5 + 1) / 4)
    assert first["reward/flat_std"] == pytest.approx(1 / 4)  # 0, 1, 2 have a std of 1


@pytest.mark.slow
def test_a_reward_that_cannot_be_had_ends_the_run_and_is_no_number(tiny_vlm, rows, tmp_path):
    def judge(groups):
        raise ConnectionError("the judge's server does not answer")

    trainer = trainer_of(tiny_vlm, rows, tmp_path, rewards={"judge": judge}, max_steps=2)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    with pytest.raises(ConnectionError, match="does not answer"):
        trainer.train()
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.named_parameters())
    assert trainer.state.global_step == 0


def test_sampler_repeats_whole_steps_and_shuffles_every_epoch():
    sampler = StepSampler(num_rows=7, prompts_per_step=3, repeats=2, seed=0)
    first = list(sampler)
    assert len(first) == len(sampler) == 12
    assert first[:3] == first[3:6] and first[6:9] == first[9:] and len(set(first)) == 6
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
