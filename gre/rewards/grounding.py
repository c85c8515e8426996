"""Grounding reward, GLOBE's R_vis: are the things a chain names to be seen in the picture?

The extractor is a list of words, no model: the vocabulary is every entity that any row of the data file lists for its
picture. A place in the chain that spells one of them is a claim, however often it is repeated. What is in no picture of
the whole file cannot be claimed.

    whole words    "car" is not in "care"; of names that begin at the same word the longest counts: palm tree over palm
    plurals        of a name's last word: palm trees are a palm tree
    negation       "no palm trees", "palm trees are absent": said not to be there, which is no claim
    found          the row lists it, or something more particular of its kind: a tree where a palm tree is listed

Then, of the claims of a chain and the entities of its row,

    precision      the paper: found claims / claims
    f1             harmonic mean of that and of the share of the row's entities that are claimed
    upstream       the released code: the share of the row's entities whose letters occur before </think>, so that what
                   is invented costs nothing, "car" is found in "care", and "no palm trees" finds palm trees
"""
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from gre.config import check_least, option
from gre.rewards.answers import Answers
from gre.text.answers import split_completion

DIRECTIONS = ("precision", "f1", "upstream")
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
CLAUSE = re.compile(r"[.,;:!?\n()]+|\b(?:but|although|though|however|yet|while|whereas)\b", re.IGNORECASE)
NEGATIONS = {"no", "not", "without", "never", "neither", "nor", "none", "cannot", "lack", "lacks", "lacking", "absence",
             "isn't", "aren't", "wasn't", "weren't", "don't", "doesn't", "can't", "hardly", "nothing"}
EMPHASES = {"only", "just", "merely", "necessarily"}  # "not only palm trees" are palm trees
ABSENT = {"absent", "missing", "nowhere"}
IRREGULAR = {"men": "man", "women": "woman", "people": "person", "children": "child", "leaves": "leaf", "feet": "foot",
             "wolves": "wolf", "shelves": "shelf", "knives": "knife"}
_SIBILANT = re.compile(r"(?:s|x|z|ch|sh|o)es")

Name = tuple[str, ...]


@dataclass
class GroundingConfig:
    """The reward of what a chain says is to be seen."""

    direction: str = option("precision", "precision: the share of what is claimed that is there; f1: of what is there, "
                                         "too; upstream: GLOBE's released code")
    min_entities: int = option(3, "fewer different claims earn 0: one safe word would be perfect precision. A row with "
                                  "fewer entities asks for as many as it has")

    def __post_init__(self):
        if self.direction not in DIRECTIONS:
            raise ValueError(f"grounding.direction is {self.direction!r}: write {', '.join(DIRECTIONS)}")
        check_least("grounding.", self, {"min_entities": 1})


class Vocabulary:
    """The entities of all rows of a file: what a chain can claim."""

    def __init__(self, rows: Iterable[Sequence[str]]):
        """rows: the entities of each."""
        self.forms = {form for entities in rows for entity in entities for form in forms(entity)}
        self.longest = max(map(len, self.forms), default=0)

    def claims(self, chain: str) -> list[set[Name]]:
        """The different entities that a chain says are there, each as the forms it may have in the vocabulary."""
        found: list[set[Name]] = []
        for clause in CLAUSE.split(chain):
            words = [match[0].casefold().replace("’", "'") for match in WORD.finditer(clause)]
            for start, end, named in self._named(words):
                if not _denied(words[:start], words[end:]) and not any(named & other for other in found):
                    found.append(named)
        return found

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
    *head, last = WORD.findall(entity.casefold().replace("’", "'")) or [""]
    return {(*head, form) for form in _singulars(last)} if last else set()


def _singulars(word: str) -> set[str]:
    if word in IRREGULAR:
        return {word, IRREGULAR[word]}
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return {word}
    found = {word, word[:-1]}
    if word.endswith("ies"):
        found.add(word[:-3] + "y")
    if _SIBILANT.search(word[-4:]):
        found.add(word[:-2])
    return found


def _denied(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether a clause says that a thing is not there; before, after: its words around the thing."""
    for at, word in enumerate(before):
        if word in NEGATIONS and not (before[at + 1:at + 2] and before[at + 1] in EMPHASES):
            return True
    return any(word in ABSENT for word in after) or after[:2] in (["is", "not"], ["are", "not"])


def grounding_reward(chain: str, entities: Sequence[str], vocabulary: Vocabulary, config: GroundingConfig) -> float:
    """What a chain earns by the entities of its row; 0 where it claims none, or fewer than `min_entities` and than the
    row has, and where the row lists none."""
    listed: list[set[Name]] = []
    for entity in entities:
        if (own := forms(entity)) and not any(own & other for other in listed):
            listed.append(own)
    claims = vocabulary.claims(chain)
    if not listed or len(claims) < min(config.min_entities, len(listed)):
        return 0.0
    precision = sum(any(_is_a(own, claim) for own in listed) for claim in claims) / len(claims)
    if config.direction == "precision":
        return precision
    recall = sum(any(_is_a(own, claim) for claim in claims) for own in listed) / len(listed)
    return 2 * precision * recall / (precision + recall) if precision else 0.0


def _is_a(listed: set[Name], claim: set[Name]) -> bool:
    """Whether what is listed is what is claimed, or a kind of it: a red tower is a tower, a flag of Peru is a flag."""
    return any(one == said or one[-len(said):] == said or one[:len(said) + 1] == (*said, "of")
               for one in listed for said in claim)


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
