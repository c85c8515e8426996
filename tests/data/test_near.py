"""Perceptual hashes: copies are near, others are not, and the search misses nothing."""
import io
import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gre.data import near
from gre.tiny import picture, places


def copies(image):
    yield image
    for quality in (90, 50, 30):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        yield Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
    for scale in (2, 0.5):
        yield image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS)


def test_copies_are_near_and_other_photos_are_not():
    rng = random.Random(0)
    photos = [picture.draw(picture.scene_of(place, rng, 0.1), rng) for place in places.places()[:12] for _ in range(2)]
    hashes = [[near.perceptual_hash(copy) for copy in copies(photo)] for photo in photos]
    index = near.NearIndex(np.stack([own[0] for own in hashes]))
    for number, own in enumerate(hashes):
        found = index.search(np.stack(own))
        assert found.asked.tolist() == list(range(6)) and found.known.tolist() == [number] * 6, number
        assert found.bits[0] == 0 and found.bits.max() <= near.NEAR_BITS
    apart = [np.bitwise_count(a[0] ^ b[0]).sum() for a, b in itertools.combinations(hashes, 2)]
    assert min(apart) >= 36


def test_a_blank_photo_has_no_hash():
    assert near.perceptual_hash(Image.new("RGB", (300, 200), (9, 99, 200))) is None
    assert near.perceptual_hash(Image.effect_noise((300, 200), 80).convert("RGB")) is not None


def test_a_hash_comes_back_from_its_text():
    words = near.perceptual_hash(Image.effect_noise((64, 64), 90).convert("RGB"))
    assert len(near.as_text(words)) == 64 and (near.from_text(near.as_text(words)) == words).all()


BASE = np.random.default_rng(0).integers(0, 2**64, (50, near.WORDS), dtype=np.uint64)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 49), st.sets(st.integers(0, 255), max_size=30)), min_size=1, max_size=20))
def test_the_search_finds_what_a_comparison_of_all_finds(asked):
    queries = np.stack([BASE[number] for number, _ in asked])
    for at, (_, bits) in enumerate(asked):
        for bit in bits:
            queries[at, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    found = near.NearIndex(BASE).search(queries)
    differ = np.bitwise_count(queries[:, None] ^ BASE[None]).sum(axis=2)
    expected = np.argwhere(differ <= near.NEAR_BITS)
    assert np.array_equal(np.stack(found[:2], axis=1), expected)
    assert found.bits.tolist() == differ[differ <= near.NEAR_BITS].tolist()


def test_nothing_is_found_among_nothing():
    empty = np.empty((0, near.WORDS), np.uint64)
    assert len(near.NearIndex(empty).search(BASE).asked) == 0 == len(near.NearIndex(BASE).search(empty).asked)


@pytest.mark.slow
def test_a_hundred_thousand_hashes_take_seconds():
    rng = np.random.default_rng(1)
    many = rng.integers(0, 2**64, (100_000, near.WORDS), dtype=np.uint64)
    found = near.NearIndex(many).search(many[:20_000])
    assert (found.asked == found.known).all() and len(found.asked) == 20_000
