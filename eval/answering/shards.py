"""One prediction file written by several processes: shard i of n answers every n-th batch, starting with the i-th.

FILE.jsonl is shared out as FILE.0of4.jsonl … FILE.3of4.jsonl, each with its settings beside it. Shards take whole
batches, the same ones a single run would form, so that a photo is answered in the same company and to the last bit
the same.
"""
import json
import re
from collections.abc import Sequence
from pathlib import Path

from eval import predictions
from eval.predictions import Prediction
from gre import provenance
from gre.config import UserError


def parse(text: str) -> tuple[int, int]:
    """`i/n` as (i, n). Raises UserError unless 0 <= i < n."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError(f"shard is {text!r}: write i/n with i from 0 to n - 1, such as 0/4, 1/4, 2/4 and 3/4")
    return int(match[1]), int(match[2])


def path(out: Path, mine: int, of: int) -> Path:
    """Where a shard of `out` is written."""
    return out.with_name(f"{out.stem}.{mine}of{of}{out.suffix}")


def join(out: Path, source: dict, ids: Sequence[str]) -> None:
    """Write `out` from its shards, in the order of `ids`; nothing happens where there is none.

    source: the settings a single run would write beside `out`. Raises UserError when a shard is missing or unfinished,
    or was made with other settings.
    """
    name = re.compile(re.escape(out.stem) + r"\.\d+of(\d+)" + re.escape(out.suffix))
    found = {part: int(match[1]) for part in sorted(out.parent.glob("*")) if (match := name.fullmatch(part.name))}
    if not found:
        return
    if len(set(found.values())) > 1:
        raise UserError(f"{out} was shared out in more than one way ({', '.join(part.name for part in found)}): delete "
                        "the shards that do not count")
    of = next(iter(found.values()))
    rows: dict[str, Prediction] = {}
    endpoints: list[str] = []
    labels: dict[str, dict] = {}  # all fields of a line, those beside a prediction's own too
    for mine in range(of):
        part = path(out, mine, of)
        if not part.exists():
            raise UserError(f"there is no {part}: run shard={mine}/{of} first, or delete the other shards")
        endpoints += predictions.check_settings(part, source)
        if part.read_bytes()[-1:] not in (b"\n", b""):
            raise UserError(f"{part} ends in half a row: run shard={mine}/{of} to its end")
        for row, fields in predictions.stream(part):
            rows[row.id], labels[row.id] = row, fields
    if missing := [row_id for row_id in ids if row_id not in rows]:
        raise UserError(f"the shards of {out} lack {len(missing)} of {len(ids)} rows, the first is {missing[0]}: run "
                        "each shard to its end, all with one batch_size")
    settings = out.with_suffix(".json")
    if endpoints:
        source = {**source, predictions.ENDPOINTS: list(dict.fromkeys(endpoints))}
    provenance.write_atomically(settings, json.dumps(source, indent=2) + "\n")
    unfinished = out.with_name(out.name + ".partial")
    unfinished.unlink(missing_ok=True)
    predictions.append(unfinished, (rows[row_id] for row_id in ids), labels)
    unfinished.replace(out)
    print(f"{out}: joined from {of} shards", flush=True)
