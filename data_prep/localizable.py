"""What teachers say of how well a place can be told, as rows for GLOBE's reward model and for the guard of its RL.

data_prep.verify keeps what is localizable; the reward model needs the rest, too. data_prep.reason writes both.
"""
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data_prep import chains, photos
from data_prep.chains import Chain
from data_prep.convert import CITY_KM, solution
from data_prep.shards import Files
from gre.data.reason import LOCALIZABLE, SOLUTION
from gre.geo.places import Gazetteer
from gre.text.chains import chain_of
from gre.text.instructions import short
from gre.text.named import localizability_said, parse_localizability

TEACH, WATCH, TRAIN = "localizability", "unlocalizable", "train"  # files of a sidecar's rows; the part of TRAIN
WHY = {"cut off": "the chain ends at the limit of tokens", "no chain": "an answer alone",
       "no word": "the teacher says no known word for localizability, or two that differ; `why` quotes it"}


@dataclass
class Words:
    """What was said of the photos of a seeds folder. folders: of chains; part: of a photo's sha256, which file it is
    for; counts: of the card."""

    seeds: Path
    folders: list[Path]
    part: Callable[[str], str]
    out: Path
    files: Files
    counts: dict[str, Counter[str]]

    def taught(self) -> Iterator[dict]:
        """The reward model's rows: every chain about one of its photos, and its teacher's word."""
        for chain in (chain for group in self._of(TEACH) for chain in group):
            text, word = chain_of(chain.response).strip(), parse_localizability(chain.response)
            fault = ("cut off" if not chain.finished else "no word" if word not in LOCALIZABLE else
                     "" if text else "no chain")
            if fault:
                said = localizability_said(chain.response) if fault == "no word" else []
                self.files.add("dropped", {**chain.named(), "fault": fault, "why":
                                           f"it says {short('; '.join(said))}" if said else chain.response[-80:]})
                self.counts.setdefault("dropped", Counter())[fault] += 1
            else:
                yield self._row(TEACH, chain, {"response": text, "localizability": word})

    def watched(self, places: Gazetteer, count: int) -> Iterator[dict]:
        """At most `count` rows of RL about photos that all teachers find unlocalizable, drawn by their content. The
        place is the most populous city near the photo; one without a city is not taken."""
        found = []
        for group in self._of(TRAIN):
            words = [word for chain in group
                     if chain.finished and (word := parse_localizability(chain.response)) in LOCALIZABLE]
            if words and not any(LOCALIZABLE[word] for word in words):
                found.append((group[0].sha256, group[0], words[0]))
        for _, chain, word in sorted(found, key=lambda one: one[0]):
            if count and (near := places.around(chain.truth, CITY_KM)):
                count -= 1
                yield self._row(WATCH, chain, {SOLUTION: solution(near[0], places), "entities": [],
                                               "localizability": word})

    def _of(self, part: str) -> Iterator[list[Chain]]:
        return (group for group in tqdm(chains.by_photo(self.folders), part, unit="photo")
                if self.part(group[0].sha256) == part)

    def _row(self, file: str, chain: Chain, columns: dict) -> dict:
        photos.put(self.seeds, chain.image, self.out)
        placed = {"gt_lat": chain.gt_lat, "gt_lon": chain.gt_lon}
        self.files.add("sidecar", {"file": file, **chain.named(), **placed})
        self.counts.setdefault(f"words of {file}", Counter())[columns["localizability"]] += 1
        return {"images": [f"imgs/{chain.image.removeprefix('images/')}"], **columns, **placed}
