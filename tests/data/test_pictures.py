"""Pictures kept as the model reads them: the same bits, made once, within the budget, for several processes at once."""
import multiprocessing
import os

import numpy as np
import pytest
import torch
from PIL import Image

from gre.config import UserError
from gre.data.cache import PictureCache
from gre.data.images import load_image
from gre.data.raw import DataError
from gre.models.vlm import encode_prompt, process_picture
from gre.training import data
from gre.training.data import TrainingData, maker, picture_loader

RECORD = {"pixel_values": np.arange(1000, dtype=np.float32), "image_grid_thw": np.array([[1, 2, 2]])}


@pytest.fixture
def photo(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def fields(prompt):
    return prompt.input_ids, prompt.mm_token_type_ids, prompt.pixel_values, prompt.image_grid_thw


@pytest.mark.parametrize("size", [(56, 84), (200, 90), (131, 257)])
def test_a_processed_picture_makes_the_same_prompt(tiny_vlm, size):
    _, processor = tiny_vlm
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8))
    whole = encode_prompt(processor, "Where is this?", image)
    parted = encode_prompt(processor, "Where is this?", process_picture(processor, image))
    for ours, reference in zip(fields(parted), fields(whole), strict=True):
        assert ours.dtype == reference.dtype and torch.equal(ours, reference)


def test_a_picture_is_decoded_and_processed_once_and_comes_back_bit_for_bit(tiny_vlm, photo, monkeypatch):
    _, processor = tiny_vlm
    decoded = []
    monkeypatch.setattr(data, "load_image", lambda path: decoded.append(path) or load_image(path))
    assert picture_loader(processor, TrainingData(), photo.parent / "run" / "stage3") is data.load_image
    whole = fields(encode_prompt(processor, "where?", load_image(photo)))
    for stage in ("stage2", "stage3", "stage3"):  # another loader of the same run finds it too
        load = picture_loader(processor, TrainingData(cache_gib=0.1), photo.parent / "run" / stage)
        for ours, reference in zip(fields(encode_prompt(processor, "where?", load(photo))), whole, strict=True):
            assert ours.dtype == reference.dtype and torch.equal(ours, reference)
    assert decoded == [photo]
    Image.new("RGB", (60, 60), "red").save(photo)  # another picture under the old name
    assert load(photo).image_grid_thw.tolist() == [[1, 4, 4]] and len(decoded) == 2
    with pytest.raises(DataError, match="no such photo"):
        load(photo.with_name("b.png"))


def test_another_pixel_budget_is_another_record(tiny_vlm, photo, tmp_path):
    _, processor = tiny_vlm
    before, size = maker(processor), processor.image_processor.size
    cache = PictureCache(tmp_path / "kept", 10**6, before)
    assert cache.store(photo, RECORD) and cache.load(photo) is not None
    processor.image_processor.size = {"shortest_edge": 3136, "longest_edge": 6272}
    try:
        assert PictureCache(tmp_path / "kept", 10**6, maker(processor)).load(photo) is None
    finally:
        processor.image_processor.size = size
    assert maker(processor) == before


def test_the_budget_holds_for_all_and_nothing_is_removed(photo, tmp_path):
    whole = PictureCache(tmp_path / "one", 10**6, "a")
    whole.store(photo, RECORD)
    (record,) = (tmp_path / "one").glob("*.npz")
    size = record.stat().st_size
    caches = [PictureCache(tmp_path / "kept", 2 * size, version) for version in "abc"]
    assert [cache.store(photo, RECORD) for cache in caches] == [True, True, False]
    assert caches[0].store(photo, RECORD)  # kept already: takes nothing more
    assert [cache.load(photo) is not None for cache in caches] == [True, True, False]
    assert sum(file.stat().st_size for file in (tmp_path / "kept").glob("*.npz")) == 2 * size
    assert not list((tmp_path / "kept").glob("*.partial"))


def test_several_processes_share_a_folder(photo, tmp_path):
    """Four processes store 20 records each, half of them the same ones, into room for 25."""
    PictureCache(tmp_path / "one", 10**6, "a").store(photo, RECORD)
    size = next((tmp_path / "one").glob("*.npz")).stat().st_size
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=store_many, args=(photo, tmp_path / "kept", 25 * size, own)) for own in "wxyz"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    records = list((tmp_path / "kept").glob("*.npz"))
    assert len(records) == 25 and sum(record.stat().st_size for record in records) == 25 * size
    for record in records:
        with np.load(record) as arrays:
            assert np.array_equal(arrays["pixel_values"], RECORD["pixel_values"])


def store_many(photo, folder, budget_bytes, own):
    for number in range(10):
        for version in (f"all{number}", f"{own}{number}"):
            PictureCache(folder, budget_bytes, version).store(photo, RECORD)


def test_a_kill_while_storing_leaves_no_half_record(photo, tmp_path, monkeypatch):
    cache = PictureCache(tmp_path / "kept", 10**6, "a")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cache.store(photo, RECORD)
    monkeypatch.undo()
    assert cache.load(photo) is None and not list((tmp_path / "kept").glob("*.npz"))
    assert cache.store(photo, RECORD)


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("Function not implemented")

    monkeypatch.setattr("gre.data.cache.fcntl.flock", refuse)
    with pytest.raises(UserError, match="cannot be locked.*cache_gib=0"):
        PictureCache(tmp_path, 1, "a")
