"""Predicting with vLLM in this process: the same answers as transformers, whole, resumed, shared out and sampled."""
import copy
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from eval import predict
from gre.answering import engines, vllm_offline
from gre.answering.engines import Decoding
from gre.config import UserError
from gre.data.records import SeedRow, write_seed
from gre.geo.point import LatLon
from gre.models import vlm
from gre.models.tower import processor_settings
from gre.rollout.vllm.start import settings
from gre.tiny.model import build

BUDGET = vlm.PixelBudget(28 * 28, 112 * 112)
SIZES = [(56, 56), (112, 84), (40, 130), (300, 200), (84, 84)]  # the fourth is made smaller, the third stretched
ASKED = ["Where was this photo taken?", "Which place is this, and why?"]
GREEDY = Decoding(max_new_tokens=12, samples=1, temperature=0.0, seed=0)

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="vLLM is not installed")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A random model with heads of 48, which vLLM has on a CPU."""
    path = tmp_path_factory.mktemp("model")
    corpus = ["<think>The sign is French. latitude longitude</think><answer>48.86, 2.35</answer> " * 10] * 50
    for part in build(corpus, hidden=192, layers=2, vocabulary=400):
        part.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for number, size in enumerate(SIZES):
        image = folder / f"{number}.png"
        picture = Image.new("RGB", size, (50 * number, 200 - 30 * number, 90))
        picture.paste((255, 255, 255), (0, 0, size[0] // 2, size[1] // 3))
        picture.save(image)
        rows.append(SeedRow("", image, ASKED[number % 2], LatLon(1.0, 2.0)))
    write_seed(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


@pytest.fixture(scope="module")
def started(folder):
    model, processor = vlm.load_model(folder), vlm.load_processor(folder, BUDGET.min_pixels, BUDGET.max_pixels)
    banned = vlm.banned_tokens(processor.tokenizer, model.config.text_config.vocab_size)
    return vllm_offline.start(folder, kv_cache_memory_bytes=2**28, **settings(
        processor_settings(processor), banned, max_length=512, dtype=torch.float32))


@pytest.fixture
def one_engine(started, monkeypatch):
    """One engine serves all tests."""
    monkeypatch.setattr(vllm_offline, "start", lambda *_, **settings: started)


def config(folder: Path, data: Path, out: Path, **keys) -> predict.Config:
    return predict.Config(model=str(folder), data=str(data), out=str(out), min_pixels=BUDGET.min_pixels,
                          max_pixels=BUDGET.max_pixels,
                          **{"max_new_tokens": 12, "batch_size": 2, "engine": "vllm", **keys})


def test_greedy_answers_are_those_of_transformers_whole_resumed_and_shared_out(folder, data, one_engine, tmp_path):
    own = predict.run(config(folder, data, tmp_path / "own.jsonl", engine="transformers"))
    whole = tmp_path / "whole.jsonl"
    assert predict.run(config(folder, data, whole)) == own
    assert len({row.text for row in own}) > 1 and not any(row.finished for row in own)  # twelve words each
    # All in one call, in pieces, gone on with after an interruption, and by two shards: byte for byte one file.
    one_call = tmp_path / "one.jsonl"
    predict.run(config(folder, data, one_call, batch_size=99))
    assert one_call.read_bytes() == whole.read_bytes()
    settings = config(folder, data, tmp_path / "parts.jsonl")
    for mine in (1, 0):
        predict.run(replace(settings, shard=f"{mine}/2"))
    predict.run(settings)
    assert (tmp_path / "parts.jsonl").read_bytes() == whole.read_bytes()
    one_call.write_bytes(whole.read_bytes()[:300])
    predict.run(config(folder, data, one_call))
    assert one_call.read_bytes() == whole.read_bytes()
    with pytest.raises(UserError, match="predicted with another engine"):
        predict.run(config(folder, data, whole, engine="transformers"))


def test_samples_depend_on_seed_and_picture_alone(folder, data, one_engine, tmp_path):
    def samples(name: str, **keys) -> list[list[str]]:
        out = tmp_path / f"{name}.jsonl"
        predict.run(config(folder, data, out, samples=3, temperature=1.0, max_new_tokens=6, **keys))
        return [[sample["text"] for sample in json.loads(line)["samples"]] for line in out.read_text().splitlines()]

    first = samples("first")
    assert samples("alone", batch_size=1) == first and samples("other", seed=1) != first
    assert len({text for texts in first for text in texts}) > len(SIZES)


def test_a_prompt_that_vllm_would_read_otherwise_is_refused(folder, one_engine, monkeypatch):
    by_vllm = vllm_offline.by_vllm(folder, BUDGET, GREEDY, "float32", ASKED)
    asked = vlm.prompt_ids
    monkeypatch.setattr(vlm, "prompt_ids", lambda *args: (asked(*args)[0], asked(*args)[1][:-1]))
    with pytest.raises(UserError, match="vLLM reads a prompt of .* tokens as another one"):
        by_vllm([ASKED[0]], [Image.new("RGB", (56, 56))], [0])


@pytest.mark.parametrize("size", SIZES)
def test_prompt_ids_are_those_the_model_is_trained_on(tiny_vlm, size):
    processor = copy.deepcopy(tiny_vlm[1])
    processor.image_processor.size = {"shortest_edge": BUDGET.min_pixels, "longest_edge": BUDGET.max_pixels}
    short, full = vlm.prompt_ids(processor, ASKED[0], *size)
    assert full == vlm.encode_prompt(processor, ASKED[0], Image.new("RGB", size)).input_ids.tolist()
    assert short.count(processor.image_token_id) == 1


def test_vllm_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert engines.choose("auto", "") == "transformers"
    with pytest.raises(UserError, match="vLLM is not installed"):
        engines.choose("vllm", "")
