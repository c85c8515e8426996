"""Locate photos with a trained checkpoint, from Python.

    from gre import Locator
    Locator("runs/quickstart/stage3").locate("photo.jpg").place

The checkpoint is asked what it was trained on, as its manifest says, within its own pixel budget, and coordinates are
read as everywhere else: a photo gets here what `eval.predict` gives it. An answer by name, as a stage of GLOBE gives,
gets the coordinates of the city, where `eval.predict` leaves names to `eval.score`.
"""
from collections.abc import Callable, Iterator, Sequence

from gre.answering import engines
from gre.answering.engines import Decoding, Said
from gre.answering.model import check_folder, in_process, on_disk, question_to
from gre.answering.several import agreed
from gre.config import UserError
from gre.data.raw import DataError
from gre.locate.located import Located, Sample, named, pointed_at, radius_km
from gre.locate.photos import Photo, is_one, listed, open_photo
from gre.text.answers import split_completion

ENGINES = ("auto", "transformers", "vllm")
BATCH = {"transformers": 8, "vllm": 64}  # photos at once, all of them decoded in memory
TEMPERATURE = 1.0  # of several samples, as in training
SEED = 0  # the same photo gets the same samples, whatever else is asked


class Locator:
    """A loaded checkpoint that says where photos were taken."""

    def __init__(self, model: str, *, samples: int = 1, engine: str = "auto", prompt: str = "", urls: bool = False,
                 max_new_tokens: int = 2048, batch_size: int | None = None, dtype: str = "auto",
                 min_pixels: int | None = None, max_pixels: int | None = None, accept_parent: str = "verified"):
        """Load it.

        model: a stage's folder (`runs/NAME/stage3`), or a plain model folder with prompt, min_pixels and max_pixels.
        samples: answers to each photo; 1 is greedy, of several the geometric median counts, and they say how sure it
        is. engine: transformers, vllm, or auto: vLLM on CUDA where it is installed. urls: fetch photos named by an
        address. Raises UserError for a checkpoint or a setting of no use.
        """
        if engine not in ENGINES:
            raise UserError(f"engine is {engine!r}: write one of {', '.join(ENGINES)}")
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size is {batch_size}: it must be at least 1")
        check_folder(str(model))
        self.decoding = Decoding(max_new_tokens, samples, TEMPERATURE if samples > 1 else 0.0, SEED)
        self.engine, self.urls = engines.choose(engine, ""), urls
        self.model = on_disk(str(model), dtype, min_pixels, max_pixels, accept_parent)
        self.question, _ = question_to(str(model), self.model, prompt)
        self.batch_size = batch_size or BATCH[self.engine]
        self._answer = in_process(self.model, self.engine, self.decoding, self.batch_size, {self.question})

    def locate(self, photo: Photo | Sequence[Photo], on_text: Callable[[str], None] | None = None
               ) -> Located | list[Located]:
        """Where a photo was taken; of a list or a folder, a list in order: an answer for every photo of it.

        photo: a path, the bytes of a file, or a picture of PIL. on_text: called with each piece of the answer as it is
        written, or of the first of several samples, for one photo and transformers. Raises DataError, naming it, for
        the first that cannot be read; `each` goes on.
        """
        if on_text is not None:
            return self._streamed(photo, on_text)
        found = []
        for _, located in self.each(photo):
            if isinstance(located, DataError):
                raise located
            found.append(located)
        return found[0] if is_one(photo) else found

    def each(self, photos: Photo | Sequence[Photo]) -> Iterator[tuple[Photo, Located | DataError]]:
        """Every photo with its answer, or with why it cannot be read, in order; a batch at a time."""
        waiting = listed(photos)
        for start in range(0, len(waiting), self.batch_size):
            batch = waiting[start:start + self.batch_size]
            images = [self._opened(photo, start + at + 1) for at, photo in enumerate(batch)]
            read = [image for image in images if not isinstance(image, DataError)]
            said = iter(self._answer([self.question] * len(read), read, [0] * len(read)) if read else ())
            for photo, image in zip(batch, images):
                yield photo, image if isinstance(image, DataError) else _located(photo, next(said))

    def _opened(self, photo: Photo, number: int):
        try:
            return open_photo(photo, _path(photo) or f"photo {number}", self.urls)
        except DataError as error:
            return error

    def _streamed(self, photo: Photo, on_text: Callable[[str], None]) -> Located:
        if not is_one(photo) or self.engine != "transformers":
            raise UserError("text is streamed for one photo, by engine='transformers'; `vllm serve` streams too "
                            "(docs/use.md)")
        (photo,) = listed(photo)
        image = open_photo(photo, _path(photo) or "the photo", self.urls)
        (samples,) = self._answer([self.question], [image], [0], on_text=on_text)
        return _located(photo, samples)


def _path(photo: Photo) -> str | None:
    return photo if isinstance(photo, str) else None


def _located(photo: Photo, samples: Sequence[Said]) -> Located:
    """The answer to a photo from all that was said about it."""
    answer, said, points = agreed(samples, pointed_at)
    (at, place), *rest = named([answer, *(points if len(samples) > 1 else ())])
    return Located(_path(photo), at and at.lat_deg, at and at.lon_deg, place, radius_km(answer, points),
                   split_completion(said.text)[0], said.text, said.finished,
                   tuple(Sample(point and point.lat_deg, point and point.lon_deg, near) for point, near in rest))
