"""Photos that show the same: a perceptual hash of what is seen, and the search for hashes that are nearly equal.

The hash is imagehash's `phash` of 16 x 16 frequencies, 256 bits. Copies that were resized or recompressed (JPEG of
quality 30 and up) differ by at most 14 bits, other photos by 38 and more, even those of the tiny world, which look
alike. Copies that were cropped, mirrored or strongly edited are not found. No torch.
"""
from collections.abc import Iterator
from typing import NamedTuple

import imagehash
import numpy as np
from PIL import Image

SIDE = 16
WORDS = SIDE * SIDE // 64  # of 64 bits a hash
NEAR_BITS = 14  # two photos whose hashes differ by no more show the same; distances of such hashes are even
_BANDS = NEAR_BITS + 2  # of 16 bits: hashes that differ in fewer bits than there are bands agree in a whole band
_FLAT = 1.5  # standard deviation of grey, of 255, below which nothing is seen and hashes are noise


class Matches(NamedTuple):
    """Pairs found, an array (n,) each: who was asked about, which of the known it resembles, bits that differ."""

    asked: np.ndarray
    known: np.ndarray
    bits: np.ndarray


def perceptual_hash(image: Image.Image) -> np.ndarray | None:
    """(WORDS,) uint64 of an RGB photo; None for one that is as good as blank."""
    grey = image.convert("L").resize((4 * SIDE, 4 * SIDE), Image.Resampling.LANCZOS)
    if np.asarray(grey, dtype=np.float32).std() < _FLAT:
        return None
    return np.packbits(imagehash.phash(grey, hash_size=SIDE).hash).view(">u8").astype(np.uint64)


def as_text(words: np.ndarray) -> str:
    """A hash in hexadecimal, as sidecars hold it."""
    return words.astype(">u8").tobytes().hex()


def from_text(text: str) -> np.ndarray:
    """The hash that `as_text` wrote."""
    return np.frombuffer(bytes.fromhex(text), ">u8").astype(np.uint64)


class NearIndex:
    """Hashes to search among: (n, WORDS) uint64. 16 sorted arrays; no hash within NEAR_BITS is missed."""

    def __init__(self, hashes: np.ndarray):
        self.hashes = np.ascontiguousarray(hashes, dtype=np.uint64).reshape(-1, WORDS)
        bands = _bands(self.hashes)
        self._order = [np.argsort(band, kind="stable") for band in bands]
        self._sorted = [band[order] for band, order in zip(bands, self._order)]

    def search(self, hashes: np.ndarray) -> Matches:
        """All pairs of one of `hashes` (m, WORDS) and one of the known within NEAR_BITS, each once, in order."""
        hashes = np.ascontiguousarray(hashes, dtype=np.uint64).reshape(-1, WORDS)
        found = [pair for number, band in enumerate(_bands(hashes)) for pair in self._in_band(number, band, hashes)]
        if not found:
            return Matches(*(np.empty(0, dtype=np.int64) for _ in range(3)))
        pairs = np.unique(np.concatenate(found), axis=0)
        return Matches(pairs[:, 0], pairs[:, 1], _differing(hashes[pairs[:, 0]], self.hashes[pairs[:, 1]]))

    def _in_band(self, number: int, band: np.ndarray, hashes: np.ndarray) -> Iterator[np.ndarray]:
        """The pairs that agree in a band and are near, (n, 2) each."""
        at = np.searchsorted(self._sorted[number], band, side="left")
        end = np.searchsorted(self._sorted[number], band, side="right")
        asked = np.flatnonzero(at < end)
        while len(asked):
            known = self._order[number][at[asked]]
            near = _differing(hashes[asked], self.hashes[known]) <= NEAR_BITS
            if near.any():
                yield np.stack([asked[near], known[near]], axis=1)
            at[asked] += 1
            asked = asked[at[asked] < end[asked]]


def _bands(hashes: np.ndarray) -> list[np.ndarray]:
    """(n,) uint16 a band."""
    bands = hashes.view(np.uint16).reshape(len(hashes), 4 * WORDS)
    return [bands[:, number] for number in range(_BANDS)]


def _differing(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.bitwise_count(a ^ b).sum(axis=1, dtype=np.int64)
