"""Ragged groups of completions, and what the stock model gives on them row by row: what packing is held against."""
import numpy as np
import torch
from PIL import Image

from gre.models.packing import Group, Prompt, pixels
from gre.models.vlm import encode_prompt

TOLERANCE = 1e-5  # of each tensor's largest entry, float32
SIDES = [(56, 84), (112, 56), (84, 84)]  # pictures of three sizes
LENGTHS = [[7, 0, 1], [1, 12, 5], [0, 0, 3]]  # ragged, with empty and one-token completions


def make_prompt(processor, number: int, height: int, width: int) -> Prompt:
    photo = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return encode_prompt(processor, "where? " * (1 + number), Image.fromarray(photo))


def make_groups(processor, lengths=LENGTHS) -> list[Group]:
    generator = torch.Generator().manual_seed(0)
    return [Group(make_prompt(processor, number, *SIDES[number]),
                  [torch.randint(20, 250, (length,), generator=generator) for length in row])
            for number, row in enumerate(lengths)]


def plain_logits(model, group: Group, completion: torch.Tensor) -> torch.Tensor:
    """(L, V) of the stock model on the plain row [prompt, completion], everything inferred by the model itself."""
    prompt = group.prompt
    row = torch.cat([prompt.input_ids, completion])[None]
    inputs = {name: tensor for name, tensor in pixels([prompt]).items() if tensor is not None}
    if prompt.image_grid_thw is not None:
        inputs["mm_token_type_ids"] = torch.cat([prompt.mm_token_type_ids, torch.zeros_like(completion)])[None]
    logits = model(input_ids=row, attention_mask=torch.ones_like(row), **inputs).logits[0]
    return logits[len(prompt.input_ids) - 1:-1]


def plain_scores(model, groups, temperature=1.0, banned=None):
    """(log-probs, entropies) (N,), row by row."""
    log_probs, entropies = [], []
    for group in groups:
        for completion in group.completions:
            if len(completion):
                logits = plain_logits(model, group, completion) / temperature
                if banned is not None:
                    logits = logits.masked_fill(banned, -torch.inf)
                distribution = torch.distributions.Categorical(logits=logits)
                log_probs.append(distribution.log_prob(completion))
                entropies.append(distribution.entropy())
    return torch.cat(log_probs), torch.cat(entropies)


def assert_close(ours, reference, name=""):
    largest = reference.abs().max().item()
    assert (ours - reference).abs().max().item() <= TOLERANCE * largest, name


def assert_same_gradients(shared, stock):
    for (name, ours), reference in zip(shared.named_parameters(), stock.parameters(), strict=True):
        assert ours.grad is not None and reference.grad is not None, name
        assert_close(ours.grad, reference.grad, name)
