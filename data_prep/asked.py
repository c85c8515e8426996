"""What teachers were asked about the photos of each shard: replies on disk as they come, and what they took.

Replies are kept a file a shard and teacher, so that no more than a shard's are in memory and a killed run finds all
that was answered. A shard that is finished notes in its Parquet file what its replies took.
"""
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pyarrow import parquet

from data_prep.card import Part
from data_prep.shards import Work, is_mine
from data_prep.teachers import Purse, Spent, Teacher
from gre.llm import Client

FOLDER = "replies"


def cache(work: Work, shard: int, teacher: int) -> Path:
    """The replies of one teacher about the photos of one shard, as they come."""
    return work.folder / FOLDER / f"{shard:06d}.{teacher}.jsonl"


def replies(work: Work, shard: int, teachers: int) -> Iterator[str]:
    """The lines of a shard's replies. They came in any order; by their keys they stand as in any other run."""
    for path in filter(Path.exists, (cache(work, shard, at) for at in range(teachers))):
        yield from sorted(path.read_text(encoding="utf-8").split("\n")[:-1])


def metadata(path: Path, key: str) -> dict:
    """JSON that a shard's file holds beside its rows."""
    return json.loads(parquet.read_schema(path).metadata[key.encode()])


def spent(work: Work, stage: str, teachers: Sequence[Teacher], mine: tuple[int, int] = (0, 1)) -> dict[str, Spent]:
    """What the finished shards of a stage took, by teacher; of those that are `mine`."""
    found = {one.name: Spent() for one in teachers}
    for path in sorted((work.folder / stage).glob("*.parquet")):
        if is_mine(int(path.stem), mine):
            for name, taken in metadata(path, "spent").items():
                found[name].join(taken)
    return found


def purse(work: Work, stage: str, teachers: Sequence[Teacher], ceiling: float | None, mine: tuple[int, int]) -> Purse:
    """What is left of the ceiling, after all that was answered in earlier runs. mine: of n parts, which know nothing
    of each other while they run, each may spend an n-th."""
    total = sum(taken.cost(one) for one, taken in zip(teachers, spent(work, stage, teachers, mine).values()))
    for number, one in enumerate(teachers):
        for path in sorted((work.folder / FOLDER).glob(f"*.{number}.jsonl")):
            shard = int(path.name.partition(".")[0])
            if is_mine(shard, mine) and not work.path(stage, shard).exists():
                total += of(Client(one, path)).cost(one)
    return Purse(None if ceiling is None else ceiling / mine[1], total)


def of(client: Client) -> Spent:
    """What all replies that a client keeps took."""
    taken = Spent()
    for reply in client.replies.values():
        taken.add(reply)
    return taken


def ledger(work: Work, stage: str, teachers: Sequence[Teacher]) -> dict[str, dict]:
    """The bill: answers, tokens, prices and cost of each teacher."""
    taken = spent(work, stage, teachers)
    return {one.name: {**asdict(taken[one.name]), "price_in": one.price_in, "price_out": one.price_out,
                       "cost": round(taken[one.name].cost(one), 6)} for one in teachers}


def part(bill: Mapping[str, dict]) -> Part:
    """The bill on a card."""
    uncounted = [f"{name} did not say of {one['uncounted']:,} answers how many tokens they took."
                 for name, one in bill.items() if one["uncounted"]]
    return Part("Ledger", uncounted, ("teacher", "answers", "tokens sent", "tokens written", "cost"), [
        (name, f"{one['answers']:,}", f"{one['prompt_tokens']:,}", f"{one['completion_tokens']:,}",
         f"{one['cost']:,.4f}") for name, one in bill.items()])
