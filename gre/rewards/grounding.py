"""Grounding reward, GLOBE's R_vis: are the things a chain names to be seen in the picture?

The extractor is a list of words, no model: the vocabulary is every entity that any row of the data file lists for its
picture. A place in the chain that spells one of them is a claim, however often it is repeated. What is in no picture of
the whole file cannot be claimed.

    whole words    "car" is not in "care"; of names that begin at the same word the longest counts: palm tree over palm
    plurals        of a name's last word: palm trees are a palm tree
    found          the row lists it, or something more particular of its kind: a tree where a palm tree is listed

What is said not to be there is no claim: gre/rewards/denial.py.

Who says what fits any picture earns nothing, for one safe word would be perfect precision. A chain earns 0 unless

    it finds       at least `min_entities` things that are not common: what more than half of the file's rows list,
                   itself or a kind of it, can be said unseen. A row with fewer such things asks for all it has
    it claims      at least `min_entities` different things, common or not, found or not: of a row that lists only
                   what is common, one word is not enough. A row with fewer entities asks for as many as it has

A more general name of another is no further thing: a church tower, a tower are one.

Then, of the claims of a chain, common ones too, and the entities of its row,

    precision      the paper: found claims / claims
    f1             harmonic mean of that and of the share of the row's entities that are claimed
    upstream       the released code: the share of the row's entities whose letters occur before </think>, so that what
                   is invented costs nothing, "car" is found in "care", and "no palm trees" finds palm trees
"""
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from gre.config import check_least, option
from gre.rewards.answers import Answers
from gre.rewards.denial import CLAUSE, clauses, denied
from gre.text.answers import split_completion

DIRECTIONS = ("precision", "f1", "upstream")
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
COMMON = 0.5  # of the rows: who says it of any picture, unseen, is right more often than wrong
IRREGULAR = {"people": "person", "children": "child", "leaves": "leaf", "loaves": "loaf", "calves": "calf",
             "wolves": "wolf", "shelves": "shelf", "knives": "knife", "feet": "foot", "mice": "mouse",
             "cacti": "cactus",
             "news": "news", "goods": "goods", "shorts": "shorts", "lens": "lens"}  # a new road is no news
_SIBILANT = re.compile(r"(?:s|x|z|ch|sh|o)es")

Name = tuple[str, ...]


@dataclass
class GroundingConfig:
    """The reward of what a chain says is to be seen."""

    direction: str = option("precision", "precision: the share of what is claimed that is there; f1: of what is there, "
                                         "too; upstream: GLOBE's released code")
    min_entities: int = option(3, "a chain that finds fewer things that are not common in the file, or claims fewer "
                                  "things at all, earns 0: safe words would be perfect precision. A row with fewer "
                                  "asks for as many as it has")

    def __post_init__(self):
        if self.direction not in DIRECTIONS:
            raise ValueError(f"grounding.direction is {self.direction!r}: write {', '.join(DIRECTIONS)}")
        check_least("grounding.", self, {"min_entities": 1})


class Vocabulary:
    """The entities of all rows of a file: what a chain can claim."""

    def __init__(self, rows: Iterable[Sequence[str]]):
        """rows: the entities of each."""
        rows = [entities for entities in rows if entities]
        listed = [set().union(*map(forms, entities)) for entities in rows]
        self.forms: set[Name] = set().union(*listed)
        self.longest = max(map(len, self.forms), default=0)
        rows_of = Counter(name for own in listed for name in _general(own))
        self.common = {name for name, count in rows_of.items() if count > COMMON * len(rows)}
        whole = {_plain(entity).strip(" .,;:!?()[]") for entities in rows for entity in entities}
        cut = [r"\s+".join(map(re.escape, entity.split()))
               for entity in sorted(whole, key=len, reverse=True) if CLAUSE.search(entity)]
        self._cut = re.compile(rf"\b(?:{'|'.join(cut)})") if cut else None

    def claims(self, chain: str) -> list[set[Name]]:
        """The different entities that a chain says are there, each as the forms it may have in the vocabulary."""
        found: list[set[Name]] = []
        for clause in self._clauses(_plain(chain)):
            words = WORD.findall(clause)
            for start, end, named in self._named(words):
                if not denied(words[:start], words[end:]) and not any(named & other for other in found):
                    found.append(named)
        return found

    def particular(self, names: Sequence[set[Name]]) -> tuple[list[set[Name]], list[set[Name]]]:
        """Names that are no more general name of another of them, and those of these that are not common."""
        kept = [own for own in names if not any(own & _general(other) for other in names if other is not own)]
        return kept, [own for own in kept if not own & self.common]

    def _clauses(self, chain: str) -> list[str]:
        if self._cut:  # the full stops of a U.S. flag end no clause
            chain = self._cut.sub(lambda match: " ".join(WORD.findall(match[0])), chain)
        return clauses(chain)

    def _named(self, words: Sequence[str]) -> Iterator[tuple[int, int, set[Name]]]:
        """(first word, word after the last, forms) of every entity that the words of a clause name."""
        start = 0
        while start < len(words):
            for end in range(min(len(words), start + self.longest), start, -1):
                if named := forms(" ".join(words[start:end])) & self.forms:
                    yield start, end, named
                    start = end
                    break
            else:
                start += 1


def forms(entity: str) -> set[Name]:
    """The words of a name with its last one as it stands and in what may be its singular."""
    *head, last = WORD.findall(_plain(entity)) or [""]
    return {(*head, form) for form in _singulars(last)} if last else set()


def _plain(text: str) -> str:
    return text.casefold().replace("’", "'")


def _singulars(word: str) -> set[str]:
    if word.endswith("'s"):  # the car's doors
        return {word, word[:-2]}
    if word in IRREGULAR:
        return {word, IRREGULAR[word]}
    if word.endswith("men"):
        return {word, word[:-2] + "an"}
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return {word}
    found = {word, word[:-1]}
    if word.endswith("ies"):
        found.add(word[:-3] + "y")
    if _SIBILANT.search(word[-4:]):
        found.add(word[:-2])
    return found


def grounding_reward(chain: str, entities: Sequence[str], vocabulary: Vocabulary, config: GroundingConfig) -> float:
    """What a chain earns by the entities of its row, from 0 to 1; 0 where it claims or finds fewer than `min_entities`
    asks for, and where the row lists none."""
    listed: list[set[Name]] = []
    for entity in entities:
        if (own := forms(entity)) and not any(own & other for other in listed):
            listed.append(own)
    claims = vocabulary.claims(chain)
    found = [claim for claim in claims if any(_is_a(own, claim) for own in listed)]
    (there, uncommon), (said, _), (_, seen) = map(vocabulary.particular, (listed, claims, found))
    least = config.min_entities
    if not listed or len(said) < min(least, len(there)) or len(seen) < min(least, len(uncommon)):
        return 0.0
    precision = len(found) / len(claims)
    if config.direction == "precision":
        return precision
    recall = sum(any(_is_a(own, claim) for claim in claims) for own in listed) / len(listed)
    return 2 * precision * recall / (precision + recall) if precision else 0.0


def _is_a(listed: set[Name], claim: set[Name]) -> bool:
    """Whether what is listed is what is claimed, or a kind of it."""
    return not claim.isdisjoint(_general(listed))


def _general(names: set[Name]) -> set[Name]:
    """The names and all more general ones of the same: a red tower is a tower, a flag of Peru is a flag."""
    return ({name[start:] for name in names for start in range(len(name))}
            | {name[:at] for name in names for at, word in enumerate(name) if word == "of" and at})


def upstream_reward(text: str, entities: Sequence[str]) -> float:
    """As GLOBE's released code: the share of the row's different tags, in small letters, that occur before </think>."""
    tags, chain = {entity.lower() for entity in entities}, text.split("</think>")[0].replace("<think>", "").lower()
    return sum(tag in chain for tag in tags) / len(tags) if tags else 0.0


def grounding_rewards(config: GroundingConfig, vocabulary: Vocabulary, groups: Sequence[Answers]) -> list[list[float]]:
    """The grounding reward of every completion. Rows list the entities of their picture."""
    one = upstream_reward if config.direction == "upstream" else partial(_of_text, config, vocabulary)
    return [[one(text, group.row.entities) for text in group.texts] for group in groups]


def _of_text(config: GroundingConfig, vocabulary: Vocabulary, text: str, entities: Sequence[str]) -> float:
    return grounding_reward(split_completion(text)[0] or "", entities, vocabulary, config)
