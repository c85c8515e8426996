"""Rows and photos on their way into training: rows that can be used, photos that are decoded and processed every time,
or once a run and then read from disk."""
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from PIL import Image

from gre.config import UserError, option
from gre.data import photos
from gre.data.cache import PictureCache
from gre.data.images import load_image, picture_size
from gre.data.raw import RowError
from gre.data.records import DataConfig, left_out, list_dropped
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
        self.cache.store(path, {name: tensor.numpy() for name, tensor in vars(pixels).items() if tensor is not None})
        return pixels


def usable_rows(rows: Sequence[Any], data: DataConfig, length: Callable[[Any], int], max_length: int | None,
                whole_photos: Path) -> list[Any]:
    """The rows that can be trained on, all of it seen before training: headers and tokens first, which is cheap, then
    every photo decoded whole, the processes sharing the work. Every process must call it.

    length: tokens of a row; RowError for a photo or an instruction that cannot be used. max_length: of a row in tokens;
    None sets none. whole_photos: the file of `gre.data.photos.remember`.
    Raises DataError naming the bad rows, unless data.on_bad_row is drop: then they are counted and listed.
    """
    if not rows:
        return []
    lengths, faults = {}, {}
    for row in rows:
        try:
            lengths[row.id] = length(row)
        except RowError as error:
            faults[row.id] = str(error)
    kept = left_out(rows, faults, data)
    if max_length is not None:
        fitting = fitting_rows(kept, lambda row: lengths[row.id], max_length, drop=data.on_bad_row == "drop")
        faults |= {row.id: f"{lengths[row.id]} tokens, and model.max_length is {max_length}"
                   for row in kept if lengths[row.id] > max_length}
        kept = fitting
    damaged = damaged_photos(sorted({row.image for row in kept}), whole_photos, photos.beside(data.path))
    faults |= {row.id: damaged[row.image] for row in kept if row.image in damaged}
    kept = left_out(kept, faults, data)
    if PartialState().is_main_process:
        list_dropped(rows, faults, data)
    return kept


def damaged_photos(paths: Sequence[Path], whole_photos: Path, inspected: Path) -> dict[Path, str]:
    """What is wrong with each photo that cannot be decoded whole; processes share the work, and each learns all.
    inspected: a second file of whole photos, which is only read."""
    state = PartialState()
    mine = paths[state.process_index::state.num_processes]
    known = photos.known_whole(whole_photos) | photos.known_whole(inspected)
    faults, whole = photos.look_at(mine, known, show=state.is_main_process)
    found = gather_object([(faults, whole)])
    if state.is_main_process:
        photos.remember(whole_photos, set().union(*(hashes for _, hashes in found)))
    state.wait_for_everyone()  # who is asked again has what is remembered
    return {path: fault for faults, _ in found for path, fault in faults.items()}


def fitting_rows(rows: Sequence[Any], length: Callable[[Any], int], max_length: int, drop: bool) -> list[Any]:
    """The rows of at most `max_length` tokens, counted exactly and before training; nothing is ever cut.

    Raises UserError naming the first longer row, unless `drop` allows to leave some out.
    """
    lengths = {row.id: length(row) for row in rows}
    long = {row_id: tokens for row_id, tokens in lengths.items() if tokens > max_length}
    if len(long) == len(rows) or long and not drop:
        name, tokens = next(iter(long.items()))
        raise UserError(f"row {name} has {tokens} tokens; {len(long)} of {len(rows)} rows have more than "
                        f"model.max_length={max_length}: raise it, lower model.max_pixels or write "
                        "data.on_bad_row=drop")
    return [row for row in rows if row.id not in long]


def response_length(processor, row) -> int:
    """Tokens of a row of photo, instruction and response, the end token included."""
    return row_prompt_length(processor, row) + len(encode_response(processor, row.response))


def row_prompt_length(processor, row) -> int:
    """Tokens of a row's prompt; of its photo only the header is read."""
    return prompt_length(processor, row.instruction, *picture_size(row.image))
