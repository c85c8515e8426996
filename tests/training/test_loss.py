"""GRPO's arithmetic against numbers worked out by hand, against a loop over rows, and against TRL."""
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from gre.training.loss import advantages, grpo_loss, importance_weights, kl, token_weights


def test_advantages_by_hand():
    rewards, group = torch.tensor([1.0, 0.0, 0.0, 3.0, 0.50, 0.52, 7.0]), torch.tensor([0, 0, 0, 0, 5, 5, 9])
    centered = advantages(rewards, group, scale_by_std=False)
    assert centered.tolist() == pytest.approx([0, -1, -1, 2, -0.01, 0.01, 0], abs=1e-6)
    # std of (1, 0, 0, 3) is sqrt(6/3); that of (0.50, 0.52) is 0.014, below the floor of 0.05; one reward alone: 0
    scaled = advantages(rewards, group, scale_by_std=True)
    assert scaled.tolist() == pytest.approx([0, -0.7071, -0.7071, 1.4142, -0.2, 0.2, 0], abs=1e-4)


def test_equal_rewards_give_exactly_nothing():
    for scale in (False, True):
        assert not advantages(torch.full((4,), 0.25), torch.zeros(4, dtype=torch.long), scale).any()


def test_groups_may_come_in_any_order():
    rewards, group = torch.tensor([1.0, 5.0, 3.0, 9.0]), torch.tensor([1, 0, 1, 0])
    assert advantages(rewards, group, False).tolist() == [-1, -2, 1, 2]


def test_token_weights():
    completion = torch.tensor([0, 0, 0, 2])
    assert token_weights(completion, "token", total=8).tolist() == [0.125] * 4
    assert token_weights(completion, "sequence", total=2).tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    with pytest.raises(ValueError, match="normalize"):
        token_weights(completion, "rows", total=2)


def test_loss_by_hand():
    """Ratios 2, 0.5, 1.1 with advantages 1, -1, 1 and epsilon 0.2: -1.2, +0.8, -1.1."""
    ratio = torch.tensor([2.0, 0.5, 1.1])
    loss = grpo_loss(ratio.log(), torch.zeros(3), torch.tensor([1.0, -1.0, 1.0]), torch.ones(3), clip_epsilon=0.2,
                     beta=0)
    assert loss.item() == pytest.approx(-1.2 + 0.8 - 1.1, abs=1e-6)
    # The reference twice as likely: 2 - ln 2 - 1
    assert kl(torch.zeros(1), torch.tensor([2.0]).log()).item() == pytest.approx(0.30685, abs=1e-5)


def test_importance_weights_by_hand():
    """Tokens the trainer gives 0.5, 0.3 and 0.9 and the sampler gave 0.4, 0.6 and 0.3: 1.25, 0.5 and 3, cut at 2."""
    old, sampled = torch.tensor([0.5, 0.3, 0.9]).log(), torch.tensor([0.4, 0.6, 0.3]).log()
    importance = importance_weights(old, sampled, cap=2.0)
    assert importance.tolist() == pytest.approx([1.25, 0.5, 2.0])
    # They multiply the policy's term, advantages 1, -1 and 2 at ratio 1, and leave the KL alone: the reference is
    # twice as likely, 2 - ln 2 - 1 for each of three tokens.
    loss = grpo_loss(old, old, torch.tensor([1.0, -1.0, 2.0]), torch.ones(3), clip_epsilon=0.2, beta=0.1,
                     reference_log_probs=old + torch.tensor(2.0).log(), importance=importance)
    assert loss.item() == pytest.approx(-1.25 + 0.5 - 4.0 + 0.1 * 3 * 0.30685, abs=1e-5)


def test_clipping_stops_the_gradient_only_where_it_binds():
    log_probs = torch.tensor([2.0, 2.0, 0.5]).log().requires_grad_()
    grpo_loss(log_probs, torch.zeros(3), torch.tensor([1.0, -1.0, 1.0]), torch.ones(3), clip_epsilon=0.2,
              beta=0).backward()
    assert log_probs.grad.tolist() == pytest.approx([0, 2.0, -0.5])


def ragged(seed=0):
    """(lengths, completion, log_probs, old, reference, advantage of each completion)."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([5, 1, 9, 3])
    completion = torch.arange(4).repeat_interleave(lengths)
    log_probs, noise, drift = torch.randn(3, len(completion), generator=generator, dtype=torch.float64)
    return (lengths, completion, log_probs - 2, log_probs - 2 + 0.4 * noise, log_probs - 2 + 0.3 * drift,
            torch.tensor([1.0, -0.5, 0.25, -0.75], dtype=torch.float64))


@pytest.mark.parametrize("normalize", ["token", "sequence"])
def test_equals_a_loop_over_rows(normalize):
    lengths, completion, log_probs, old, reference, advantage = ragged()
    expected, start = 0.0, 0
    for row, length in enumerate(lengths.tolist()):
        per_token = []
        for t in range(start, start + length):
            ratio = torch.exp(log_probs[t] - old[t])
            gain = min(ratio * advantage[row], max(0.8, min(1.2, ratio)) * advantage[row])
            r = torch.exp(reference[t] - log_probs[t])
            per_token.append(-gain + 0.04 * (r - torch.log(r) - 1))
        expected += sum(per_token) / (lengths.sum() if normalize == "token" else length * len(lengths))
        start += length
    total = int(lengths.sum()) if normalize == "token" else len(lengths)
    ours = grpo_loss(log_probs, old, advantage[completion], token_weights(completion, normalize, total),
                     clip_epsilon=0.2, beta=0.04, reference_log_probs=reference)
    assert ours.item() == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("normalize, loss_type", [("token", "dapo"), ("sequence", "grpo")])
@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_equals_trl(normalize, loss_type, beta):
    """Value and gradient of TRL's GRPOTrainer._compute_loss, fed with the same log-probs."""
    trl = pytest.importorskip("trl.trainer.grpo_trainer")
    lengths, completion, log_probs, old, reference, advantage = ragged()
    mask = torch.arange(9) < lengths[:, None]

    def padded(flat):
        return torch.zeros(4, 9, dtype=flat.dtype).masked_scatter(mask, flat)

    theirs, ours = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
    accelerator = SimpleNamespace(num_processes=1, gather=lambda tensor: tensor,
                                  gather_for_metrics=lambda tensor: tensor, reduce=lambda tensor, **_: tensor)
    stub = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (padded(theirs), torch.zeros(4, 9), None),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        model=torch.nn.Identity().train(), accelerator=accelerator, _metrics={"train": defaultdict(list)},
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, beta=beta,
        importance_sampling_level="token", loss_type=loss_type, epsilon_low=0.2, epsilon_high=0.2, use_vllm=False,
        _entropy_bonus_enabled=False, current_gradient_accumulation_steps=1)
    ids = torch.zeros(4, 9, dtype=torch.long)
    reference_loss = trl.GRPOTrainer._compute_loss(stub, None, {
        "prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1], "completion_ids": ids, "completion_mask": mask.long(),
        "advantages": advantage, "old_per_token_logps": padded(old), "ref_per_token_logps": padded(reference),
        "num_items_in_batch": lengths.sum()})
    total = int(lengths.sum()) if normalize == "token" else len(lengths)
    loss = grpo_loss(ours, old, advantage[completion], token_weights(completion, normalize, total), clip_epsilon=0.2,
                     beta=beta, reference_log_probs=reference)
    assert loss.item() == pytest.approx(reference_loss.item(), rel=1e-6)
    reference_loss.backward()
    loss.backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-6)
