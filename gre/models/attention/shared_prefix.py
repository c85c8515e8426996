"""Shared-prefix attention: every completion sees its group's prompt and itself, the prompt is forwarded once.

Registered with transformers under NAME; `install` selects it for the text model. Without a layout, in `generate` for
instance, it is transformers' SDPA, but for single tokens (`_decode`). On CUDA in half precision one call of a
variable-length kernel serves a layer, and the vision tower's windows too. Without such a kernel both take SDPA; on a
CPU the tower keeps transformers' own, and the text model makes one call a prefix and a tail, without padding; on a GPU
two calls a layer, whatever the number of groups: all prefixes, and all tails against [their prefix, themselves], padded
to the longest.
"""
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gre.models.attention import varlen
from gre.models.attention.segments import segment_attention
from gre.models.packing import Layout

NAME = "gre_shared_prefix"        # transformers matches "sdpa", "flash" and "flex_attention" inside names: avoid them
VISION_NAME = "gre_flash_windows"  # except here: "flash" gives the vision tower's windows to one call, not one to each
LAYOUT_ARGUMENT = "gre_layout"    # keyword arguments also reach the vision tower: a private name


def install(model: PreTrainedModel) -> None:
    """Let the text model of `model` use shared-prefix attention; the vision tower is touched only where CUDA is, and
    only one that takes the patches of all photos in one row (InternVL's takes a batch of tiles)."""
    in_one_row = hasattr(model.config.vision_config, "spatial_merge_size")
    vision = {"vision_config": VISION_NAME} if torch.cuda.is_available() and in_one_row else {}
    model.set_attn_implementation({"text_config": NAME, **vision})


def shared_prefix_attention(module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor,
                            attention_mask: Tensor | None, *, gre_layout: Layout | None = None,
                            dropout: float = 0.0, scaling: float | None = None, **kwargs) -> tuple[Tensor, None]:
    """transformers' attention interface: query (B, heads, T, d), key and value (B, kv_heads, T, d) -> (B, T, heads, d).

    With a layout B must be 1 and the mask is the layout's alone.
    """
    if gre_layout is None and query.shape[2] == 1:
        return _decode(query, key, value, attention_mask, dropout, scaling), None
    if gre_layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling,
                                      **kwargs)
    if query.shape[0] != 1 or query.shape[2] != len(gre_layout.back):
        raise ValueError(f"the layout describes one row of {len(gre_layout.back)} tokens, the model was given "
                         f"{query.shape[0]} of {query.shape[2]}")
    kernel = varlen.kernel_for(query)
    if kernel is not None and not dropout:
        return by_segments(query, key, value, gre_layout, kernel, scaling), None
    if query.device.type == "cpu":
        n = len(gre_layout.lengths) - len(gre_layout.owners)
        return segment_attention(query, key, value, gre_layout.lengths[:n], gre_layout.lengths[n:], gre_layout.owners,
                                 dropout, scaling), None
    return padded(query, key, value, gre_layout, dropout, scaling), None


def padded(query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout: float = 0.0,
           scaling: float | None = None) -> Tensor:
    """Two SDPA calls, for all prefixes and for all tails: (1, heads, T, d), twice (1, kv_heads, T, d) ->
    (1, T, heads, d)."""
    rows = _Rows(layout)
    prefix_q, tail_q = rows.split(query)
    prefix_k, tail_k = rows.split(_repeat(key, query))
    prefix_v, tail_v = rows.split(_repeat(value, query))
    owner = layout.owner
    options = {"dropout_p": dropout, "scale": scaling}
    outputs = [scaled_dot_product_attention(prefix_q, prefix_k, prefix_v, is_causal=True, **options)]
    if layout.tail_width:
        outputs.append(scaled_dot_product_attention(
            tail_q, torch.cat([prefix_k[owner], tail_k], 2), torch.cat([prefix_v[owner], tail_v], 2),
            attn_mask=layout.tail_sees, **options))
    return rows.join(outputs)


def by_segments(query: Tensor, key: Tensor, value: Tensor, layout: Layout, kernel: varlen.Kernel,
                scaling: float | None = None) -> Tensor:
    """One kernel call for all prefixes and tails; shapes as of `padded`."""
    return kernel(_row(query), _seen(_row(key), layout), _seen(_row(value), layout), layout.query_ends,
                  layout.key_ends, layout.longest_query, layout.longest_key, causal=True, scale=scaling)[None]


def vision_attention(module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *,
                     cu_seq_lens_q: Tensor, max_length_q: int, dropout: float = 0.0, scaling: float | None = None,
                     **kwargs) -> tuple[Tensor, None]:
    """The vision tower's: patches (1, heads, T, d) -> (1, T, heads, d), each seeing those of its own window or photo,
    which end at cu_seq_lens_q."""
    kernel = varlen.kernel_for(query)
    if kernel is None or dropout:
        lengths = cu_seq_lens_q.diff().tolist()
        windows = zip(*(states.split(lengths, 2) for states in (query, key, value)))
        return torch.cat([scaled_dot_product_attention(*window, dropout_p=dropout, scale=scaling)
                          for window in windows], 2).transpose(1, 2), None
    states = [_row(states) for states in (query, key, value)]
    ends, longest = cu_seq_lens_q.int(), int(max_length_q)
    return kernel(*states, ends, ends, longest, longest, causal=False, scale=scaling)[None], None


def _row(states: Tensor) -> Tensor:
    """(1, heads, T, d) -> (T, heads, d), in the type attention computes in: autocast knows no kernels."""
    return states[0].transpose(0, 1).to(varlen.computed_in(states))


def _seen(states: Tensor, layout: Layout) -> Tensor:
    """Keys or values (T, kv_heads, d) of the row -> (Tk, kv_heads, d): what each segment sees, one after the other. By
    concatenation, whose backward pass adds up in a fixed order on any device."""
    pieces, n = states.split(layout.lengths), len(layout.lengths) - len(layout.owners)
    prefixes, tails = pieces[:n], pieces[n:]
    seen = [piece for tail, owner in zip(tails, layout.owners, strict=True) if len(tail)
            for piece in (prefixes[owner], tail)]
    return torch.cat([*prefixes, *seen])


def _decode(query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, dropout: float,
            scaling: float | None) -> Tensor:
    """One new token a row: the heads that share a key-value head become its queries, and the cache is not repeated for
    each of them, which would take most of the time of `generate` on a CPU. (B, heads, 1, d) -> (B, 1, heads, d)."""
    b, heads, _, width = query.shape
    kv_heads = key.shape[1]
    output = scaled_dot_product_attention(query.reshape(b, kv_heads, heads // kv_heads, width), key, value,
                                          attn_mask=attention_mask, dropout_p=dropout, scale=scaling)
    return output.reshape(b, 1, heads, width)


def _repeat(states: Tensor, query: Tensor) -> Tensor:
    """(1, kv_heads, T, d) -> (1, heads, T, d): one key-value head serves several query heads."""
    _, kv_heads, length, width = states.shape
    repeats = query.shape[1] // kv_heads
    return states[:, :, None].expand(-1, -1, repeats, -1, -1).reshape(1, kv_heads * repeats, length, width)


class _Rows:
    """Takes a packed row apart into padded prefixes and tails, and puts their outputs together again."""

    def __init__(self, layout: Layout):
        self.layout = layout

    def split(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(1, heads, T, d) -> (n, heads, prefix_width, d), (R, heads, tail_width, d)."""
        heads, width = states.shape[1], states.shape[3]
        cells = _Pad.apply(states[0].transpose(0, 1), self.layout.take, self.layout.back, self.layout.real)
        prefix_width, tail_width = self.layout.prefix_width, self.layout.tail_width
        r = len(self.layout.owner)
        n = len(self.layout.lengths) - r
        prefixes, tails = cells.split([n * prefix_width, r * tail_width])
        return (prefixes.view(n, prefix_width, heads, width).transpose(1, 2),
                tails.view(r, tail_width, heads, width).transpose(1, 2))

    def join(self, outputs: list[Tensor]) -> Tensor:
        """Outputs of the same shapes as `split` gives -> (1, T, heads, d)."""
        cells = torch.cat([output.transpose(1, 2).flatten(0, 1) for output in outputs])
        return _Unpad.apply(cells, self.layout.take, self.layout.back, self.layout.real)[None]


class _Pad(torch.autograd.Function):
    """Row positions (T, …) -> cells (M, …). Each position has one cell, so the backward pass is a gather as well,
    many times faster on a CPU than the scatter autograd would use, and deterministic on any device. Padding cells hold
    some other position's values: no real query sees them, so their gradient is zero and is left out."""

    @staticmethod
    def forward(ctx, states, take, back, real):
        ctx.back = back
        return states.index_select(0, take)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.back), None, None, None


class _Unpad(torch.autograd.Function):
    """Cells (M, …) -> row positions (T, …): the inverse of _Pad. Padding cells get no gradient."""

    @staticmethod
    def forward(ctx, cells, take, back, real):
        ctx.take, ctx.real = take, real
        return cells.index_select(0, back)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.take) * ctx.real.view(-1, 1, 1), None, None, None


AttentionInterface.register(NAME, shared_prefix_attention)
AttentionInterface.register(VISION_NAME, vision_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
