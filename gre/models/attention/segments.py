"""Shared-prefix attention segment by segment: one SDPA call for every prefix and every tail, nothing padded.

For the CPU, where a call costs microseconds and a padded cell as much as a real one.
"""
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def segment_attention(query: Tensor, key: Tensor, value: Tensor, prefixes: Sequence[int], tails: Sequence[int],
                      owners: Sequence[int], dropout: float = 0.0, scaling: float | None = None) -> Tensor:
    """query (1, heads, T, d), key and value (1, kv_heads, T, d) -> (1, T, heads, d).

    prefixes, tails: tokens of each, in row order. owners: the prefix of each tail, which sees that and, causally,
    itself.
    """
    options = {"dropout_p": dropout, "scale": scaling, "enable_gqa": True}
    queries, keys, values = (states.split([*prefixes, *tails], 2) for states in (query, key, value))
    outputs = [scaled_dot_product_attention(queries[i], keys[i], values[i], is_causal=True, **options)
               for i in range(len(prefixes))]
    widest, longest = max(prefixes), max(tails, default=0)
    sees = torch.ones(longest, widest + longest, dtype=torch.bool, device=query.device).tril(widest)
    for at, (length, owner) in enumerate(zip(tails, owners, strict=True), start=len(prefixes)):
        if length:
            outputs.append(scaled_dot_product_attention(
                queries[at], torch.cat([keys[owner], keys[at]], 2), torch.cat([values[owner], values[at]], 2),
                attn_mask=sees[:length, widest - prefixes[owner]:widest + length], **options))
    return torch.cat(outputs, 2).transpose(1, 2)
