"""Raw chains: what was said about each photo of a seeds folder, and by whom. `chains.jsonl` of docs/formats.md."""
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from heapq import merge
from itertools import groupby
from pathlib import Path

from data_prep.photos import Photo
from gre.config import UserError
from gre.geo.places import gazetteer
from gre.geo.point import LatLon, distance_km
from gre.llm import CUT_OFF
from gre.provenance import file_hash
from gre.rewards.place import MIN_POPULATION
from gre.text import one_place
from gre.text.answers import parse_answer

TEACHER, NAMED, REGION = "teacher", "named", "region"


@dataclass(frozen=True)
class Chain:
    """What one teacher said of one photo. row: the photo's number in the seeds folder. kind: teacher; named for a
    teacher's that answers with country and city; region for the gazetteer's Chain of Region. finish: as the endpoint
    says it."""

    row: int
    image: str
    sha256: str
    instruction: str
    gt_lat: float
    gt_lon: float
    kind: str
    teacher: str
    finish: str | None
    response: str

    @property
    def truth(self) -> LatLon:
        return LatLon(self.gt_lat, self.gt_lon)

    @property
    def finished(self) -> bool:
        return (self.finish or "").lower() not in CUT_OFF

    def named(self) -> dict[str, str | int]:
        """What a sidecar says of a row made of it."""
        return {"row": self.row, "image": self.image, "sha256": self.sha256, "kind": self.kind, "teacher": self.teacher}

    def answer(self) -> LatLon | None:
        """The place it comes to: its coordinates, or the city it names, by the gazetteer. None where it says none."""
        if not self.finished:
            return None
        if self.kind != NAMED:
            return parse_answer(self.response)
        said = one_place.read(self.response, gazetteer(MIN_POPULATION))
        return None if said is None else said.point

    def error_km(self) -> float | None:
        """From the answer to the truth; None where no answer can be read."""
        answer = self.answer()
        return None if answer is None else distance_km(answer, self.truth)


def of(photo: Photo, kind: str, teacher: str, finish: str | None, response: str, instruction: str = "") -> Chain:
    """instruction: what a row made of it asks; empty: what the photo's seed asks."""
    return Chain(photo.row, photo.image, photo.sha256, instruction or photo.instruction, *photo.truth, kind, teacher,
                 finish, response)


def line(chain: Chain) -> str:
    return json.dumps(asdict(chain), ensure_ascii=False, allow_nan=False)


def read(folder: Path) -> Iterator[Chain]:
    """The chains of a folder, in the order of its photos. Raises UserError naming file, line and remedy."""
    path = folder / "chains.jsonl"
    with open(path, encoding="utf-8") as stream:
        for number, text in enumerate(stream, start=1):
            try:
                yield Chain(**json.loads(text))
            except (ValueError, TypeError) as error:
                raise UserError(f"{path}, line {number}: no chain ({error}): make the folder again") from None


def by_photo(folders: Sequence[Path]) -> Iterator[list[Chain]]:
    """All chains of each photo that has any, photos in the order of the seeds folder; within one, in the order of
    folders and of teachers in them."""
    for _, group in groupby(merge(*map(read, folders), key=lambda chain: chain.row), key=lambda chain: chain.row):
        yield list(group)


def same_seeds(folders: Iterable[Path]) -> str:
    """sha256 of the seeds.jsonl that all folders were made from. Raises UserError for unfinished folders, and where
    they were made from different ones."""
    made: dict[str, Path] = {}
    for folder in folders:
        try:
            card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        except OSError:
            raise UserError(f"{folder} is not finished (no card.json): run the step that makes it") from None
        if "seeds_sha256" not in card:
            raise UserError(f"{folder} was not made from a seeds folder (its card.json names none)")
        made.setdefault(card["seeds_sha256"], folder)
    if len(made) > 1:
        first, second, *_ = made.values()
        raise UserError(f"{first} and {second} were made from different seeds: make them from one folder")
    if not made:
        raise UserError("no folder of chains is named: write chains=[FOLDER]")
    return next(iter(made))


def seeds_hash(seeds: Path) -> str:
    """sha256 of a seeds folder's rows: what is made of it names it."""
    return file_hash(seeds / "seeds.jsonl")
