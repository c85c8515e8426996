"""A policy that samples greedily and learns, whoever samples for it."""
import torch

from gre.models.packing import Group
from gre.models.scoring import score


def words(groups):
    return [[completion.token_ids.tolist() for completion in group] for group in groups]


def greedy(rollout, model, prompts):
    return rollout.generate(model, prompts, 1, list(range(len(prompts))), seed=0, step=0, greedy=True)


def learn(world, model):
    """Three steps that move every weight, the vision tower's too."""
    _, prompts, rollout, _ = world
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(3):
        groups = [Group(prompt, [torch.arange(40, 60)]) for prompt in prompts]
        (-score(model, groups, banned=rollout.banned).log_probs.mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
