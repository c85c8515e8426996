"""Fixtures shared by all tests: no network, one thread, a random tiny model built once."""
import os
import shutil
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings

from tests.helpers.paths import TWO_RANKS

settings.register_profile("patient", deadline=None)  # a machine under load is slow, not wrong
settings.load_profile("patient")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Of several workers, one runs a whole file, and one all files that read what the same two processes did."""
    from xdist.scheduler import LoadFileScheduling

    class ByFixture(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "two ranks" if file in TWO_RANKS else file

    return ByFixture(config, log)


@pytest.fixture(scope="session")
def tiny_vlm():
    """(model, processor): a random-weight Qwen2.5-VL in float32, eval mode. Do not train it in place: deepcopy."""
    from gre.tiny.model import build

    corpus = ["<think>The sign is French. latitude longitude True False</think><answer>48.86, 2.35</answer> " * 10] * 50
    model, processor = build(corpus, hidden=64, layers=2, vocabulary=400)
    return model.eval(), processor


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def vlm():
    """(model, processor) whose tokenizer says True and False in one token, as a judge must. Do not train it in place.
    """
    from tests.helpers.stages import verdict_vlm

    return verdict_vlm(64)


@pytest.fixture(scope="session")
def wide_vlm():
    """With heads of 32: vLLM's attention for CPUs takes no narrower ones."""
    from tests.helpers.stages import verdict_vlm

    return verdict_vlm(128)


@pytest.fixture(scope="session")
def finished_stages(vlm, tmp_path_factory) -> Path:
    """The folder that `workplace` is a copy of."""
    from tests.helpers.stages import pictures, write_workplace

    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_workplace(vlm, pictures())
    return folder


@pytest.fixture
def workplace(finished_stages, tmp_path, monkeypatch) -> Path:
    """The current folder, with base, run/stage1, run/judge (measured on that stage 1) and a data file of four rows."""
    shutil.copytree(finished_stages, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cot(plain_model, tmp_path, monkeypatch) -> Path:
    """The current folder, with a base and stage 1's data file of four rows."""
    from tests.helpers.stages import pictures, write_cot

    shutil.copytree(plain_model, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    write_cot(pictures())
    return tmp_path


@pytest.fixture(scope="session")
def taught(tmp_path_factory) -> Path:
    """A folder with run/stage3, which knows the three photos in imgs/. Read it, or leave it as it was."""
    from tests.helpers.taught import write_taught

    folder = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_taught()
    return folder
