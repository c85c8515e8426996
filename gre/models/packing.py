"""Groups packed into one row: every prompt once, then every completion.

A group is one prompt (photo and instruction) with its completions. A packed row is

    prefix 1 … prefix n, tail 1 … tail R        prefix = prompt[:-1]; tail = [last prompt token, c_1 … c_(L-1)]

so that each tail position is scored against exactly one label, c_1 … c_L, and no token is forwarded twice but the
prompt's last. Who may see whom is the attention's business: `Layout` tells it. Prompts are never compared by their
ids: two photos of one size under one instruction have the same ids.

Shapes: n groups, R completions in all, T tokens in the row, N scored tokens.
"""
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import torch
from PIL import Image
from torch import LongTensor, Tensor


@dataclass(eq=False)
class Prompt:
    """A photo and its instruction as the model reads them; may be shared between groups.

    input_ids (P,) and mm_token_type_ids (P,) of one prompt; pixel_values (patches, channels) and image_grid_thw
    (photos, 3) of its photos, or (tiles, 3, height, width) and None where they are cut into tiles and positions are
    plain numbers. The last token must be text, since every completion starts from it. image: the one
    photo itself, for an engine that does its own encoding. features, each (V, width): what a vision tower that is not
    trained made of it, as `gre.models.features` keeps it.
    """
    input_ids: LongTensor
    mm_token_type_ids: Tensor
    pixel_values: Tensor
    image_grid_thw: LongTensor | None
    positions: LongTensor | None = field(default=None, repr=False)  # (3 or 1, P), filled by `positions`
    image: Image.Image | None = field(default=None, repr=False)
    features: tuple[Tensor, ...] | None = field(default=None, repr=False)


@dataclass(eq=False)
class Group:
    """A prompt with its completions, each (L,) token ids, L >= 0.

    scored: per completion a boolean mask (L,) of the tokens that count; None counts them all.
    """
    prompt: Prompt
    completions: list[LongTensor]
    scored: list[Tensor] | None = None


@dataclass(frozen=True)
class Layout:
    """Which row positions belong together, for the attention: prefixes and tails, each padded to the longest.

    take (M,): row position behind every cell of the padded prefixes (n * prefix_width cells), then of the padded
    tails (R * tail_width); padding cells point anywhere. real (M,): False for padding. back (T,): the cell of every
    row position. owner (R,): the group of each tail. tail_sees (R, 1, tail_width, prefix_width + tail_width): True
    where a tail's query may look, at its own group's prefix and, causally, at itself.

    For variable-length kernels, whose segments are the prefixes and the tails that are not empty, one after the other:
    lengths (n + R): of all prefixes and tails; owners (R): as `owner`; query_ends, key_ends (segments + 1,) int32:
    where the queries of each begin and end in the row, and its keys where a tail's are [its prefix, itself];
    longest_query, longest_key: tokens of the longest one.
    """
    take: LongTensor
    real: Tensor
    back: LongTensor
    owner: LongTensor
    tail_sees: Tensor
    prefix_width: int
    tail_width: int
    lengths: tuple[int, ...]
    owners: tuple[int, ...]
    query_ends: Tensor
    key_ends: Tensor
    longest_query: int
    longest_key: int

    def to(self, device: torch.device | str) -> "Layout":
        return _to(self, device)


@dataclass(frozen=True)
class PackedRow:
    """One row for the model and the index of what it scores.

    input_ids (1, T); position_ids (3, 1, T), or (1, T) where they are plain numbers; keep (N,): row positions whose
    logits are scored against labels (N,); group, completion (N,): the group in the pack and the completion, counted
    over the whole pack, of each label.
    """
    input_ids: LongTensor
    position_ids: LongTensor
    pixel_values: Tensor
    image_grid_thw: LongTensor | None
    layout: Layout
    keep: LongTensor
    labels: LongTensor
    group: LongTensor
    completion: LongTensor

    def to(self, device: torch.device | str) -> "PackedRow":
        return _to(self, device)


def pack(groups: list[Group], rope_index: Callable | None) -> PackedRow:
    """Pack groups, of any photo sizes, into one row on the CPU.

    rope_index: the model's `get_rope_index`, asked once per Prompt object; None where positions are plain numbers.
    """
    _check(groups)
    prompts = [group.prompt for group in groups]
    completions = [completion for group in groups for completion in group.completions]
    prompt_positions = [positions(prompt, rope_index) for prompt in prompts]                         # n x (3, P)

    prefix_lengths = torch.tensor([len(prompt.input_ids) - 1 for prompt in prompts])                 # (n,)
    tail_lengths = torch.tensor([len(completion) for completion in completions], dtype=torch.long)   # (R,)
    owner = torch.arange(len(groups)).repeat_interleave(torch.tensor([len(g.completions) for g in groups]))

    labels = torch.cat([torch.empty(0, dtype=torch.long), *completions])
    completion_of = torch.arange(len(completions)).repeat_interleave(tail_lengths)
    step = torch.arange(len(labels)) - (tail_lengths.cumsum(0) - tail_lengths)[completion_of]        # 0 … L-1
    group_of = owner[completion_of]
    last = torch.stack([prompt.input_ids[-1] for prompt in prompts])                                 # (n,)
    tails = torch.where(step == 0, last[group_of], labels.roll(1))
    restart = torch.stack([each[:, -1] for each in prompt_positions], 1)                             # (3, n)
    prefix_positions = [each[:, :-1] for each in prompt_positions]

    scored = torch.ones(len(labels), dtype=torch.bool)
    if any(group.scored is not None for group in groups):
        scored = torch.cat([mask for group in groups for mask in _masks(group)])
    start = int(prefix_lengths.sum())
    position_ids = torch.cat([*prefix_positions, restart[:, group_of] + step], 1)
    return PackedRow(
        input_ids=torch.cat([*(prompt.input_ids[:-1] for prompt in prompts), tails])[None],
        position_ids=position_ids if len(position_ids) == 1 else position_ids[:, None], **pixels(prompts),
        layout=_layout(prefix_lengths, tail_lengths, owner),
        keep=start + scored.nonzero()[:, 0], labels=labels[scored], group=group_of[scored],
        completion=completion_of[scored])


def pixels(prompts: list[Prompt]) -> dict[str, Tensor | None]:
    """The photos of prompts, one after the other, by the names that the model and a PackedRow have for them."""
    grids = [prompt.image_grid_thw for prompt in prompts]
    return {"pixel_values": torch.cat([prompt.pixel_values for prompt in prompts]),
            "image_grid_thw": None if grids[0] is None else torch.cat(grids)}


def positions(prompt: Prompt, rope_index: Callable | None) -> LongTensor:
    """(3, P) of a prompt, worked out once: time, height and width. Never four rows, which switch on packed-sequence
    detection in transformers. (1, P) where positions are plain numbers."""
    if prompt.positions is None and rope_index is None:
        prompt.positions = torch.arange(len(prompt.input_ids))[None]
    if prompt.positions is None:
        found, _ = rope_index(prompt.input_ids[None], mm_token_type_ids=prompt.mm_token_type_ids[None],
                              image_grid_thw=prompt.image_grid_thw)
        prompt.positions = found[:, 0]
    return prompt.positions


def unexpanded(prompt: Prompt) -> list[int]:
    """The prompt's tokens with one for its whole photo, as an engine takes a prompt that it expands itself. Raises
    ValueError for a prompt without the photo itself, which such an engine needs."""
    if prompt.image is None:
        raise ValueError("vLLM needs the photo of a prompt: make prompts with gre.models.vlm.encode_prompt")
    visual = prompt.mm_token_type_ids != 0
    places = visual.nonzero()[:, 0]
    kept = ~visual
    kept[places[len(places) // 2]] = True  # the first and the last may say where the photo begins and ends
    return prompt.input_ids[kept].tolist()


def check_expanded(prompt: Prompt, engine_ids: list[int]) -> None:
    """Raise RuntimeError unless an engine has read a prompt token by token as the trainer does."""
    own = prompt.input_ids.tolist()
    if own != engine_ids:
        raise RuntimeError(f"vLLM reads a prompt of {len(own)} tokens as another one of {len(engine_ids)}: the policy "
                           "would answer a prompt that it is not trained on")


def _layout(prefix_lengths: LongTensor, tail_lengths: LongTensor, owner: LongTensor) -> Layout:
    prefixes, prefix_real = _cells(prefix_lengths, 0)                                    # (n, prefix_width)
    tails, tail_real = _cells(tail_lengths, int(prefix_lengths.sum()))                   # (R, tail_width)
    take = torch.cat([prefixes.flatten(), tails.flatten()])
    real = torch.cat([prefix_real.flatten(), tail_real.flatten()])
    back = real.nonzero()[:, 0]       # cells are in row order, so the k-th real cell is the k-th row position
    width = tails.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    sees = torch.cat([prefix_real[owner][:, None].expand(-1, width, -1), causal.expand(len(owner), -1, -1)], 2)
    return Layout(take, real, back, owner, sees[:, None], prefixes.shape[1], width,
                  *_segments(prefix_lengths, tail_lengths, owner))


def _segments(prefix_lengths: LongTensor, tail_lengths: LongTensor, owner: LongTensor) -> tuple:
    """The last six fields of a Layout."""
    some = tail_lengths > 0
    queries = torch.cat([prefix_lengths, tail_lengths[some]])
    keys = torch.cat([prefix_lengths, (prefix_lengths[owner] + tail_lengths)[some]])
    query_ends, key_ends = (torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int() for lengths in (queries, keys))
    return ((*prefix_lengths.tolist(), *tail_lengths.tolist()), tuple(owner.tolist()), query_ends, key_ends,
            int(queries.max()), int(keys.max()))


def _cells(lengths: LongTensor, start: int) -> tuple[LongTensor, Tensor]:
    """Row positions of segments that follow each other from `start`, padded to the longest; and which are real."""
    width = int(lengths.max()) if len(lengths) else 0
    real = torch.arange(width) < lengths[:, None]
    first = start + lengths.cumsum(0) - lengths
    return torch.where(real, first[:, None] + torch.arange(width), 0), real


def _masks(group: Group) -> list[Tensor]:
    if group.scored is None:
        return [torch.ones(len(completion), dtype=torch.bool) for completion in group.completions]
    return group.scored


def _check(groups: list[Group]) -> None:
    if not groups:
        raise ValueError("nothing to pack: no group was given")
    for number, group in enumerate(groups):
        if len(group.prompt.input_ids) < 2:
            raise ValueError(f"group {number}: a prompt needs at least two tokens, this one has "
                             f"{len(group.prompt.input_ids)}")
        if group.prompt.mm_token_type_ids[-1] != 0:
            raise ValueError(f"group {number}: the prompt ends in a photo; it must end in text")
        if group.scored is None:
            continue
        if [len(mask) for mask in group.scored] != [len(completion) for completion in group.completions]:
            raise ValueError(f"group {number}: one mask per completion, of its length, is needed in `scored`")


def _to(record, device):
    """A copy of a frozen record of tensors on another device."""
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return replace(record, **{name: _to(value, device) if isinstance(value, Layout) else value.to(device)
                              for name, value in values.items() if isinstance(value, (Tensor, Layout))})
