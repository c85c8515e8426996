"""Rows and photos on their way into training: rows that fit, photos that are decoded and processed every time, or
once a run and then read from disk."""
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from gre.config import UserError, option
from gre.data.cache import PictureCache
from gre.data.images import load_image, picture_size
from gre.data.records import DataConfig
from gre.models.vlm import Pixels, encode_response, process_picture, prompt_length
from gre.provenance import versions

Loader = Callable[[Path], Image.Image | Pixels]  # a photo for `encode_prompt`; raises DataError
GIB = 2**30


@dataclass
class TrainingData(DataConfig):
    """Which rows to train on, and whether their photos are kept as the model reads them."""

    cache_gib: float = option(0.0, "GiB for processed photos in the run's folder, about 1 per 40 photos of 1280 "
                                   "visual tokens; what fits is processed once a run; 0: every time")

    def __post_init__(self):
        if self.cache_gib < 0:
            raise ValueError("data.cache_gib must be 0 or more")


def picture_loader(processor, data: TrainingData, output_dir: str | Path) -> Loader:
    """How the photos of a stage are loaded. Kept ones lie beside the stage's folder: the run's stages share them."""
    if not data.cache_gib:
        return load_image
    folder = Path(output_dir).absolute().parent / "pictures"
    return CachedPictures(processor, PictureCache(folder, int(data.cache_gib * GIB), maker(processor)))


def maker(processor) -> str:
    """Everything that decides what becomes of a photo: the processor's settings, pixel budget included, and the
    versions of what it is made of."""
    return json.dumps([processor.image_processor.to_dict(), versions()], sort_keys=True, default=str)


class CachedPictures:
    """Loads photos as the model reads them; each is decoded and processed the first time only, if it can be kept."""

    def __init__(self, processor, cache: PictureCache):
        self.processor, self.cache = processor, cache

    def __call__(self, path: Path) -> Pixels:
        record = self.cache.load(path) if Path(path).is_file() else None  # load_image has the words for a missing file
        if record is not None:
            return Pixels(**{name: torch.from_numpy(array) for name, array in record.items()})
        pixels = process_picture(self.processor, load_image(path))
        self.cache.store(path, {name: tensor.numpy() for name, tensor in vars(pixels).items()})
        return pixels


def fitting_rows(rows: Sequence[Any], length: Callable[[Any], int], max_length: int, drop: bool) -> list[Any]:
    """The rows of at most `max_length` tokens, counted exactly and before training; nothing is ever cut.

    Raises UserError naming the first longer row, or, with `drop`, prints how many there are and which.
    """
    lengths = {row.id: length(row) for row in rows}
    long = {row_id: tokens for row_id, tokens in lengths.items() if tokens > max_length}
    if len(long) == len(rows) or long and not drop:
        name, tokens = next(iter(long.items()))
        raise UserError(f"row {name} has {tokens} tokens; {len(long)} of {len(rows)} rows have more than "
                        f"model.max_length={max_length}: raise it, lower model.max_pixels or write "
                        "data.on_bad_row=drop")
    if long:
        print(f"dropped {len(long)} of {len(rows)} rows longer than {max_length} tokens: "
              + ", ".join(f"{name} ({tokens})" for name, tokens in long.items()), flush=True)
    return [row for row in rows if row.id not in long]


def response_length(processor, row) -> int:
    """Tokens of a row of photo, instruction and response, the end token included."""
    return row_prompt_length(processor, row) + len(encode_response(processor, row.response))


def row_prompt_length(processor, row) -> int:
    """Tokens of a row's prompt; of its photo only the header is read."""
    return prompt_length(processor, row.instruction, *picture_size(row.image))
