"""Pictures on their way into training: decoded and processed every time, or once a run and then read from disk."""
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from gre.config import option
from gre.data.cache import PictureCache
from gre.data.images import load_image
from gre.data.records import DataConfig
from gre.models.vlm import Pixels, process_picture
from gre.provenance import versions

Loader = Callable[[Path], Image.Image | Pixels]  # a picture for `encode_prompt`; raises DataError
GIB = 2**30


@dataclass
class TrainingData(DataConfig):
    """Which rows to train on, and whether their pictures are kept as the model reads them."""

    cache_gib: float = option(0.0, "GiB for processed pictures in the run's folder, about 1 per 40 pictures of 1280 "
                                   "visual tokens; what fits is processed once a run; 0: every time")

    def __post_init__(self):
        if self.cache_gib < 0:
            raise ValueError("data.cache_gib must be 0 or more")


def picture_loader(processor, data: TrainingData, output_dir: str | Path) -> Loader:
    """How the pictures of a stage are loaded. Kept ones lie beside the stage's folder: the run's stages share them."""
    if not data.cache_gib:
        return load_image
    folder = Path(output_dir).absolute().parent / "pictures"
    return CachedPictures(processor, PictureCache(folder, int(data.cache_gib * GIB), maker(processor)))


def maker(processor) -> str:
    """Everything that decides what becomes of a picture: the processor's settings, pixel budget included, and the
    versions of what it is made of."""
    return json.dumps([processor.image_processor.to_dict(), versions()], sort_keys=True, default=str)


class CachedPictures:
    """Loads pictures as the model reads them; each is decoded and processed the first time only, if it can be kept."""

    def __init__(self, processor, cache: PictureCache):
        self.processor, self.cache = processor, cache

    def __call__(self, path: Path) -> Pixels:
        record = self.cache.load(path) if Path(path).is_file() else None  # load_image has the words for a missing file
        if record is not None:
            return Pixels(**{name: torch.from_numpy(array) for name, array in record.items()})
        pixels = process_picture(self.processor, load_image(path))
        self.cache.store(path, {name: tensor.numpy() for name, tensor in vars(pixels).items()})
        return pixels
