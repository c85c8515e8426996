"""Fixtures shared by all tests: no network, one thread, a random tiny model built once."""
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # a machine under load is slow, not wrong
settings.load_profile("patient")


@pytest.fixture(scope="session")
def tiny_vlm():
    """(model, processor): a random-weight Qwen2.5-VL in float32, eval mode. Do not train it in place: deepcopy."""
    from gre.tiny.model import build

    corpus = ["<think>The sign is French. latitude longitude True False</think><answer>48.86, 2.35</answer> " * 10] * 50
    model, processor = build(corpus, hidden=64, layers=2, vocabulary=400)
    return model.eval(), processor


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory, tiny_vlm) -> Path:
    """A folder of the tiny model, as a download would be."""
    folder = tmp_path_factory.mktemp("model")
    for part in tiny_vlm:
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoders(tmp_path_factory):
    """Folder with clip/ and bert/, the stand-ins of gre.tiny.encoders as real model folders."""
    from gre.tiny import encoders

    out = tmp_path_factory.mktemp("encoders")
    encoders.run(encoders.Config(out=str(out)))
    return out
