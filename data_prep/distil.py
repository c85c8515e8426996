"""Photos → raw chains of teachers: `python -m data_prep.distil [CONFIG.yaml] key=value …`.

    python -m data_prep.distil seeds=dataset/mine/seeds out=dataset/mine/chains \
        'teachers=[{model: Qwen2.5-VL-72B-Instruct, url: "http://localhost:8000/v1"}]'

Every teacher is asked about every photo, in GRE's five steps or, with answers=names, as for MP16-Reason: any LLM that
sees photos, behind an OpenAI-compatible address. Photos leave this machine only for a teacher with send_photos: true.
Keys come from the environment.

OUT gets chains.jsonl (what was said, by whom), outcomes.jsonl (what became of each question, answered or not),
replies.jsonl (every reply as it came), ledger.json (tokens and cost) and a card. Killed at any moment, or stopped by
`ceiling`, the same command goes on, asks nothing again that was answered, and ends in the same files. docs/data.md.
"""
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import pyarrow

from data_prep import asked, card, chains, photos, shards, split, teachers
from data_prep.card import Part
from data_prep.photos import Photo
from data_prep.shards import Work, write_lines
from data_prep.teachers import Line, NoAnswer, Teacher
from eval.answering.shards import parse
from gre import provenance
from gre.config import REQUIRED, check_least, main, option
from gre.data.images import load_image
from gre.llm import CUT_OFF, FILTERED, Client, Reply, in_form, picture
from gre.text.prompts import PLACE_TEACHER_INSTRUCTION, TEACHER_INSTRUCTION

ASKED = {"coordinates": (TEACHER_INSTRUCTION, chains.TEACHER), "names": (PLACE_TEACHER_INSTRUCTION, chains.NAMED)}
LONGEST = 50_000  # characters of a chain: longer ones are no reasoning, and stay in replies.jsonl alone
CHAIN, OUTCOME, REPLY = 0, 1, 2
SCHEMA = pyarrow.schema([("kind", pyarrow.int8()), ("line", pyarrow.string())])
OUTCOMES = {
    "answered": "the chain is in chains.jsonl",
    "cut off": "the chain is there, and ends at the limit of tokens",
    "refused": "the endpoint, or the teacher in so many words of the protocol, would not look at the photo",
    "empty": "a reply without text",
    "too long": f"more than {LONGEST:,} characters; in replies.jsonl alone",
    "no answer": "busy, silent, broken or unreadable in every try",
}


@dataclass
class Config:
    """Keys of distil."""

    seeds: str = option(REQUIRED, "seeds folder")
    out: str = option(REQUIRED, "folder of the chains")
    teachers: list[Teacher] = option(REQUIRED, "who is asked, [{model: …, url: …, send_photos: true, price_in: …}]")
    split: str = option("", "folder of data_prep.split: photos of its Seed part are not asked about; empty: all are")
    without: list[str] = option([], "folders of chains: photo and teacher that these have an answer of are left out")
    answers: str = option("coordinates", "what teachers answer with: coordinates, as for GRE30K; names of country and "
                                         "city, with a word about localizability, as for MP16-Reason")
    instruction: str = option("", "what teachers are asked, formats in words, never in digits; empty: "
                                  "TEACHER_INSTRUCTION, or PLACE_TEACHER_INSTRUCTION for names (gre/text/prompts.py)")
    max_pixels: int = option(1_003_520, "pixels of a photo sent, at most")
    ceiling: float | None = option(None, "stop before the answers cost more, in the currency of the teachers' prices")
    shard_rows: int = option(200, "photos of a shard")
    shard: str = option("", "i/n, i from 0: this process's part of the shards, and of the ceiling; empty: all that is "
                            "left, and the joining")

    def __post_init__(self):
        check_least("", self, {"max_pixels": 1, "shard_rows": 1, "ceiling": 0})
        if self.answers not in ASKED:
            raise ValueError(f"answers is {self.answers!r}: write {' or '.join(ASKED)}")
        self.instruction = self.instruction or ASKED[self.answers][0]
        if any(letter.isdigit() for letter in self.instruction):
            raise ValueError("instruction holds digits: a teacher echoes them for an answer. Write them in words")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    return {"reads": [config.seeds, *config.without, *filter(None, [config.split])],
            "writes": [f"{config.out}/{name}" for name in ("chains.jsonl", "outcomes.jsonl", "replies.jsonl",
                                                           "ledger.json", "card.html")]}


def run(config: Config) -> None:
    """Ask all that is not answered yet. Raises UserError naming what and remedy."""
    seeds, out = Path(config.seeds), Path(config.out)
    photos.check(seeds)
    teachers.check(config.teachers)
    made_of = _made_of(config, seeds)
    if shards.is_finished(out, made_of):
        print((out / "card.txt").read_text(encoding="utf-8") + f"{out}: was finished before")
        return
    work, mine = Work(out / "work", made_of), parse(config.shard or "0/1")
    shares = split.shares_of(Path(config.split), seeds) if config.split else None
    known = _answered(config.without)
    purse = asked.purse(work, "asked", config.teachers, config.ceiling, mine)
    lines = {one.name: Line(one, purse) for one in config.teachers}
    wanted = (photo for photo in photos.read(seeds) if shares is None or split.part(photo.sha256, shares) != "seed")
    count = 0
    while some := list(islice(wanted, config.shard_rows)):
        if shards.is_mine(count, mine) and not work.path("asked", count).exists():
            shards.save(work.path("asked", count), _shard(config, work, count, some, lines, known))
        count += 1
    if config.shard:
        print(shards.LEFT)
        return
    print(_join(config, work, count, made_of))
    work.remove()


def _made_of(config: Config, seeds: Path) -> dict:
    return {"seeds_sha256": chains.seeds_hash(seeds), "teachers": teachers.named(config.teachers),
            "instruction": config.instruction, "max_pixels": config.max_pixels, "shard_rows": config.shard_rows,
            **({} if config.answers == "coordinates" else {"answers": config.answers}),
            "split": config.split and provenance.file_hash(Path(config.split) / "card.json"),
            "without": [provenance.file_hash(Path(folder) / "chains.jsonl") for folder in config.without]}


def _answered(folders: Sequence[str]) -> set[tuple[str, str]]:
    """(photo, teacher) of the chains that are there."""
    return {(chain.sha256, chain.teacher) for folder in folders for chain in chains.read(Path(folder))}


def _shard(config: Config, work: Work, number: int, some: Sequence[Photo], lines: dict[str, Line],
           known: set[tuple[str, str]]) -> pyarrow.Table:
    """Ask every teacher about the photos of one shard."""
    clients = {one.name: Client(one, asked.cache(work, number, at)) for at, one in enumerate(config.teachers)}
    questions = [(photo, one) for photo in some for one in config.teachers if (photo.sha256, one.name) not in known]

    def ask(photo: Photo, one: Teacher) -> Reply | NoAnswer:
        try:
            return lines[one.name].reply(clients[one.name], _question(config, photo),
                                         f"photo {photo.row} by {one.name}")
        except NoAnswer as error:
            return error

    replies = teachers.at_once([(one, lambda photo=photo, one=one: ask(photo, one)) for photo, one in questions],
                               f"photos {some[0].row} to {some[-1].row}")
    found: list[tuple[int, str]] = []
    kind = ASKED[config.answers][1]
    outcomes: Counter[str] = Counter()
    for (photo, one), reply in zip(questions, replies):
        outcome, why = outcome_of(reply)
        outcomes[f"{one.name}\t{outcome}"] += 1
        found.append((OUTCOME, _json({"row": photo.row, "image": photo.image, "teacher": one.name, "outcome": outcome,
                                      "why": why})))
        if outcome in ("answered", "cut off"):
            found.append((CHAIN, chains.line(chains.of(photo, kind, one.name, reply.finish, _said(reply)))))
    found += [(REPLY, line) for line in asked.replies(work, number, len(config.teachers))]
    return pyarrow.table({"kind": [kind for kind, _ in found], "line": [line for _, line in found]},
                         schema=SCHEMA.with_metadata({
                             "spent": json.dumps({name: asdict(asked.of(client)) for name, client in clients.items()}),
                             "outcomes": json.dumps(outcomes)}))


def _question(config: Config, photo: Photo) -> list[dict]:
    """The photo's pixels are sent, never its file."""
    image = load_image(photos.file_of(Path(config.seeds), photo.image), config.max_pixels)
    return [{"role": "user", "content": [picture(image, "JPEG"), {"type": "text", "text": config.instruction}]}]


def _said(reply: Reply) -> str:
    return in_form(reply.reasoning, reply.text)


def outcome_of(reply: Reply | NoAnswer) -> tuple[str, str]:
    """(outcome, of OUTCOMES; why)."""
    if isinstance(reply, NoAnswer):
        return reply.outcome, teachers.short(str(reply))
    if reply.refusal or (reply.finish or "").lower() == FILTERED:
        return "refused", teachers.short(reply.refusal or FILTERED)
    if len(_said(reply)) > LONGEST:
        return "too long", f"{len(_said(reply)):,} characters"
    if not _said(reply).strip():
        return "empty", ""
    return ("cut off" if (reply.finish or "").lower() in CUT_OFF else "answered"), ""


def _join(config: Config, work: Work, count: int, made_of: dict) -> str:
    """Put the shards together, and write ledger and card; returns its text."""
    out = Path(config.out)
    for name, kind in (("chains.jsonl", CHAIN), ("outcomes.jsonl", OUTCOME), ("replies.jsonl", REPLY)):
        write_lines(out / name, _lines(work, count, kind))
    outcomes: Counter[str] = Counter()
    for number in range(count):
        outcomes.update(asked.metadata(work.path("asked", number), "outcomes"))
    ledger = asked.ledger(work, "asked", config.teachers)
    provenance.write_atomically(out / "ledger.json", json.dumps(ledger, indent=2, ensure_ascii=False) + "\n")
    table = {one.name: {outcome: outcomes[f"{one.name}\t{outcome}"] for outcome in OUTCOMES} for one in config.teachers}
    return card.write(out, f"Chains: {out.resolve().name}", _parts(table, ledger), {
        "kind": "chains", "made_of": made_of, "seeds_sha256": made_of["seeds_sha256"], "commit": provenance.commit(),
        "outcomes": table, "ledger": ledger})


def _parts(table: dict[str, dict[str, int]], ledger: dict[str, dict]) -> list[Part]:
    questions = sum(sum(row.values()) for row in table.values())
    chained = sum(row["answered"] + row["cut off"] for row in table.values())
    return [
        Part("Questions", [f"{questions:,} questions, {chained:,} chains. Each question is listed in outcomes.jsonl."]),
        Part("Outcomes", head=("outcome", *table, "what it means"), rows=[
            (outcome, *(f"{row[outcome]:,}" for row in table.values()), meaning)
            for outcome, meaning in OUTCOMES.items() if any(row[outcome] for row in table.values())]),
        asked.part(ledger)]


def _lines(work: Work, count: int, kind: int) -> Iterator[str]:
    for number in range(count):
        table = work.read("asked", number)
        for one, line in zip(table["kind"].to_pylist(), table["line"].to_pylist()):
            if one == kind:
                yield line + "\n"


def _json(value: dict) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
