"""A policy that samples greedily and learns, whoever samples for it."""
import torch

from gre.models.packing import Group
from gre.models.scoring import score


def words(groups):
    return [[completion.token_ids.tolist() for completion in group] for group in groups]


def greedy(rollout, model, prompts):
    return rollout.generate(model, prompts, 1, list(range(len(prompts))), seed=0, step=0, greedy=True)


def gap(model, prompts, rollout, groups) -> float:
    """Largest difference of the log-probabilities of completions from the trainer's."""
    with torch.no_grad():
        scores = score(model, [Group(prompt, [one.token_ids for one in group])
                               for prompt, group in zip(prompts, groups)], banned=rollout.banned)
    return (scores.log_probs - torch.cat([one.log_probs for group in groups for one in group])).abs().max().item()


def learn(world, model, lr=3e-3):
    """Three steps that move everything that is trained, the vision tower too."""
    _, prompts, rollout, _ = world
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=lr)
    for _ in range(3):
        groups = [Group(prompt, [torch.arange(40, 60)]) for prompt in prompts]
        (-score(model, groups, banned=rollout.banned).log_probs.mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
