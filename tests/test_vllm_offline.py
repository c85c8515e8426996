"""Predicting with vLLM in this process: the same answers as transformers, whole, resumed, shared out and sampled."""
import copy
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from eval import engines, predict
from eval.engines import Decoding
from gre.config import UserError
from gre.data.records import SeedRow, write_seed
from gre.geo.point import LatLon
from gre.models import vlm

BUDGET = vlm.PixelBudget(28 * 28, 112 * 112)
SIZES = [(56, 56), (112, 84), (40, 130), (300, 200), (84, 84)]  # the fourth is made smaller, the third stretched
ASKED = ["Where was this photo taken?", "Which place is this, and why?"]
GREEDY = Decoding(max_new_tokens=12, samples=1, temperature=0.0, seed=0)

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="vLLM is not installed")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_vlm) -> Path:
    """The random tiny model, whose likeliest first word is a control token: one that no engine may say."""
    path = tmp_path_factory.mktemp("model")
    for part in tiny_vlm:
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
def by_vllm(folder):
    """One engine for all tests, and its way of answering with another decoding."""
    from eval import vllm_offline

    return vllm_offline.by_vllm(folder, BUDGET, GREEDY, "float32", ASKED)


def config(folder: Path, data: Path, out: Path, **keys) -> predict.Config:
    return predict.Config(model=str(folder), data=str(data), out=str(out), min_pixels=BUDGET.min_pixels,
                          max_pixels=BUDGET.max_pixels,
                          **{"max_new_tokens": 12, "batch_size": 2, "engine": "vllm", **keys})


def test_greedy_answers_are_those_of_transformers_whole_resumed_and_shared_out(folder, data, by_vllm, tmp_path,
                                                                               monkeypatch):
    own = predict.run(config(folder, data, tmp_path / "own.jsonl", engine="transformers"))
    monkeypatch.setattr(predict, "_answerer", lambda *_: by_vllm)
    whole = tmp_path / "whole.jsonl"
    assert predict.run(config(folder, data, whole)) == own
    assert len({row.text for row in own}) > 1
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


def test_a_prompt_that_vllm_would_read_otherwise_is_refused(by_vllm, monkeypatch):
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
