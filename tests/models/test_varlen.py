"""The CUDA path of attention, run on the CPU: everything but the kernels, for which plain torch stands."""
import copy
import sys
from types import SimpleNamespace

import pytest
import torch

from gre.models.attention import shared_prefix, varlen
from gre.models.packing import Group, pack
from gre.models.scoring import score
from tests.helpers.plain_rows import assert_close, assert_same_gradients, make_groups, plain_scores


@pytest.fixture
def models(tiny_vlm, monkeypatch):
    """(the stock model, the same weights as they are on CUDA with a kernel, the calls it got, processor)."""
    model, processor = tiny_vlm
    stock, ours, calls = copy.deepcopy(model), copy.deepcopy(model), []

    def kernel(query, key, value, query_ends, key_ends, longest_query, longest_key, *, causal, scale):
        assert query_ends.dtype == key_ends.dtype == torch.int32 and query_ends[-1] == len(query)
        assert longest_query == query_ends.diff().max() and longest_key == key_ends.diff().max()
        assert len(key) == key_ends[-1] == len(value) and query_ends.diff().min() > 0
        calls.append((causal, query_ends.diff().tolist(), key_ends.diff().tolist()))
        return varlen.plain(query, key, value, query_ends, key_ends, longest_query, longest_key, causal=causal,
                            scale=scale)

    monkeypatch.setattr(varlen, "kernel_for", lambda query: kernel)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    shared_prefix.install(ours)
    assert ours.config.vision_config._attn_implementation == shared_prefix.VISION_NAME
    return stock, ours, calls, processor


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_kernels_path_equals_plain_rows(models, checkpointing):
    """Log-probs, entropies and every parameter's gradient, over ragged groups, vision tower included."""
    stock, ours, calls, processor = models
    groups = make_groups(processor)
    if checkpointing:
        ours.train().gradient_checkpointing_enable({"use_reentrant": False})
    log_probs, entropies = plain_scores(stock, groups)
    scores = score(ours, groups)
    assert_close(scores.log_probs, log_probs)
    assert_close(scores.entropies, entropies)
    weights = torch.linspace(-1, 1, len(log_probs))
    (log_probs * weights).sum().backward()
    (scores.log_probs * weights).sum().backward()
    assert_same_gradients(ours, stock)
    layers = ours.config.text_config.num_hidden_layers * (2 if checkpointing else 1)
    assert [causal for causal, *_ in calls].count(True) == layers


def test_it_equals_the_padded_path(models, monkeypatch):
    _, ours, _, processor = models
    groups = make_groups(processor, [[7, 0, 1], [1, 12, 5], [2, 2]])
    by_kernel = score(ours, groups).log_probs
    monkeypatch.setattr(varlen, "kernel_for", lambda query: None)
    padded = score(ours, groups).log_probs
    assert_close(by_kernel, padded)
    assert not torch.equal(by_kernel, padded)  # else one path was taken twice


def test_the_segments_are_those_of_the_layout(models):
    """Prefixes see themselves, tails their own prefix and themselves; a tail without tokens is none."""
    _, ours, calls, processor = models
    groups = make_groups(processor)
    score(ours, groups)
    p = [len(group.prompt.input_ids) - 1 for group in groups]
    queries = [*p, 7, 1, 1, 12, 5, 3]
    keys = [*p, p[0] + 7, p[0] + 1, p[1] + 1, p[1] + 12, p[1] + 5, p[2] + 3]
    assert [call for call in calls if call[0]] == [(True, queries, keys)] * ours.config.text_config.num_hidden_layers
    patches = [len(group.prompt.pixel_values) for group in groups]
    windows = [call[1] for call in calls if not call[0]]
    assert patches in windows and all(sum(lengths) == sum(patches) for lengths in windows)


def test_prompts_alone_have_no_tails(models):
    _, ours, calls, processor = models
    groups = [Group(group.prompt, []) for group in make_groups(processor)]
    layout = pack(groups, ours.model.get_rope_index).layout
    assert layout.owners == () and layout.query_ends.tolist() == layout.key_ends.tolist()
    assert score(ours, groups).log_probs.shape == (0,)


def test_the_padded_path_serves_the_vision_tower_too(models, monkeypatch):
    """On CUDA in float32, where no kernel serves."""
    stock, ours, _, processor = models
    monkeypatch.setattr(varlen, "kernel_for", lambda query: None)
    groups = make_groups(processor, [[3], [4], [2]])
    assert_close(score(ours, groups).log_probs, plain_scores(stock, groups)[0])


def test_the_kernel_is_given_autocasts_type(models, monkeypatch):
    _, ours, _, processor = models
    seen = []

    def kernel(query, key, value, *segments, **options):
        seen.append({query.dtype, key.dtype, value.dtype})
        return varlen.plain(query, key, value, *segments, **options)

    monkeypatch.setattr(varlen, "kernel_for", lambda query: kernel)
    with torch.autocast("cpu", torch.bfloat16):
        assert score(ours, make_groups(processor, [[3, 2]])).log_probs.isfinite().all()
    assert seen and all(types == {torch.bfloat16} for types in seen)


def test_plain_by_hand():
    """Two queries against three keys: the first sees two, the second all; without `causal` both see all."""
    query, key = torch.zeros(2, 2, 1), torch.zeros(3, 1, 1)
    value = torch.tensor([3.0, 6.0, 30.0]).view(3, 1, 1)
    segments = torch.tensor([0, 2]), torch.tensor([0, 3]), 2, 3
    assert varlen.plain(query, key, value, *segments, causal=True, scale=1.0)[:, 0, 0].tolist() == [4.5, 13.0]
    assert varlen.plain(query, key, value, *segments, causal=False, scale=1.0)[:, 1, 0].tolist() == [13.0, 13.0]


def test_on_the_cpu_no_kernel_serves():
    assert varlen.kernel_for(torch.zeros(1, 1, 1, 8, dtype=torch.bfloat16)) is None


def test_the_autocast_type_is_found():
    states = torch.zeros(1)
    assert varlen.computed_in(states) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert varlen.computed_in(states) == torch.bfloat16


@pytest.fixture
def chosen(monkeypatch, capsys):
    """Calls _chosen as on a GPU of a capability; gives (kernel, the log's line)."""
    def choose(capability=(9, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        varlen._chosen.cache_clear()
        kernel = varlen._chosen()
        assert varlen._chosen() is kernel
        varlen._chosen.cache_clear()
        line, = capsys.readouterr().out.splitlines()
        return kernel, line

    return choose


def test_flash_attn_comes_first(monkeypatch, chosen):
    calls = []
    stub = SimpleNamespace(flash_attn_varlen_func=lambda *args, **options: calls.append((args, options)))
    monkeypatch.setitem(sys.modules, "flash_attn", stub)
    kernel, line = chosen()
    assert line == "attention: flash-attn"
    kernel(*range(7), causal=True, scale=0.5)
    assert calls == [(tuple(range(7)), {"softmax_scale": 0.5, "causal": True, "deterministic": False})]


@pytest.mark.parametrize("gqa", [True, False])  # torch 2.13, torch 2.11
def test_then_torchs_own(monkeypatch, chosen, gqa):
    calls = []

    def varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1),
                    enable_gqa=False):
        calls.append((key.shape, scale, window_size, enable_gqa))

    def older(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):
        calls.append((key.shape, scale, window_size, False))

    monkeypatch.setitem(sys.modules, "flash_attn", None)
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen",
                        SimpleNamespace(varlen_attn=varlen_attn if gqa else older))
    kernel, line = chosen()
    assert line.startswith("attention: torch's varlen_attn (flash-attn: ")
    states = torch.zeros(3, 4, 8), torch.zeros(5, 2, 8), torch.zeros(5, 2, 8)
    kernel(*states, None, None, 3, 5, causal=True, scale=0.5)
    kernel(*states, None, None, 3, 5, causal=False, scale=None)
    heads = 2 if gqa else 4
    assert calls == [((5, heads, 8), 0.5, (-1, 0), gqa), ((5, heads, 8), None, (-1, -1), gqa)]


def test_then_sdpa_and_the_line_says_why(monkeypatch, chosen):
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen",
                        SimpleNamespace(varlen_attn=lambda query, is_causal=False: None))  # torch 2.10
    kernel, line = chosen()
    assert kernel is None and line.startswith("attention: scaled_dot_product_attention (flash-attn: ")
    assert "takes no scale" in line
    assert chosen((7, 5)) == (None, "attention: scaled_dot_product_attention (the GPU is older than Ampere)")


def test_torchs_own_has_the_signature_it_is_called_with():
    """The pinned torch's: the kernel itself needs a GPU."""
    query = torch.zeros(3, 4, 8, dtype=torch.bfloat16, device="meta")
    key = torch.zeros(5, 2, 8, dtype=torch.bfloat16, device="meta")
    ends = torch.zeros(2, dtype=torch.int32, device="meta")
    assert varlen.torch_varlen()(query, key, key, ends, ends, 3, 5, causal=True, scale=1.0).shape == (3, 4, 8)
