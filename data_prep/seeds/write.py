"""What is taken and what is not, written: photos without metadata, seeds, sidecar, what was dropped, the card."""
import io
import json
import os
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from data_prep import card
from data_prep.card import Part
from data_prep.leaks import KINDS
from data_prep.seeds import sources
from data_prep.seeds.check import FAULTS, GAZETTEER_CUT, IN_MEMORY, Asked, content_of
from data_prep.seeds.sample import leaked
from data_prep.seeds.sources import Span
from data_prep.shards import Work, write_lines
from gre.config import UserError
from gre.data import tables
from gre.data.images import decode
from gre.data.raw import IMAGE_MARK
from gre.geo.places import gazetteer

QUALITY = 95  # of the JPEG copies
SEED, SIDECAR, DROPPED = 0, 1, 2
SCHEMA = pyarrow.schema([("kind", pyarrow.int8()), ("line", pyarrow.string())])


def shard(work: Work, number: int, span: Span, asked: Asked, out: Path, instruction: str, max_pixels: int, copy: bool,
          drop: frozenset[str]) -> pyarrow.Table:
    """The lines of one shard, with its photos written; counts for the card stand in the table's metadata."""
    rows = work.read("checked", number).to_pylist()
    _decide(work, rows, drop)
    taken = [row for row in rows if not row["fault"]]
    images = dict(zip((row["row"] for row in taken), _copies(
        taken, span, asked, out / "imgs", work.folder, max_pixels) if copy else (row["photo"] for row in taken)))
    lines: list[tuple[int, str]] = []
    for row in rows:
        if row["fault"]:
            lines.append((DROPPED, _json({name: row[name] for name in ("row", "where", "id", "fault", "why")})))
        else:
            lines.append((SEED, _json({"image": images[row["row"]], "instructions": f"{IMAGE_MARK}\n{instruction}",
                                       "gt_lat": row["lat"], "gt_lon": row["lon"]})))
            lines.append((SIDECAR, _json({"image": images[row["row"]], **{
                name: value for name, value in row.items() if name not in ("lat", "lon", "photo", "fault", "why")}})))
    return pyarrow.table({"kind": [kind for kind, _ in lines], "line": [line for _, line in lines]},
                         schema=SCHEMA.with_metadata({"counts": json.dumps(_counts(rows))}))


def join(work: Work, count: int, out: Path, title: str, data: dict[str, Any], known: Sequence[str]) -> str:
    """Put the shards together, and write the card; returns its text."""
    for name, kind in (("seeds.jsonl", SEED), ("sidecar.jsonl", SIDECAR), ("dropped.jsonl", DROPPED)):
        write_lines(out / name, _lines(work, count, kind))
    counts: dict[str, Counter] = {}
    for number in range(count):
        metadata = work.read("written", number, []).schema.metadata
        for name, own in json.loads(metadata[b"counts"]).items():
            counts.setdefault(name, Counter()).update(own)
    data = {"kind": "seeds", **data, "counts": {name: dict(sorted(own.items())) for name, own in counts.items()}}
    return card.write(out, title, _parts(counts, known), data)


def _decide(work: Work, rows: list[dict], drop: frozenset[str]) -> None:
    """Add the faults that only all rows together show."""
    duplicates = work.read("duplicates", 0)
    found = {row["row"]: row for row in duplicates.filter(pyarrow.array(np.isin(
        duplicates["row"].to_numpy(), [row["row"] for row in rows]))).to_pylist()} if len(duplicates) else {}
    chosen = None
    if work.path("chosen", 0).exists():
        numbers = work.read("chosen", 0)["row"].to_numpy()
        chosen = set(np.intersect1d(numbers, [row["row"] for row in rows]).tolist())
    leaks = leaked(pyarrow.chunked_array([[row["leaks"] for row in rows]]), drop)
    for row, leak in zip(rows, leaks.tolist()):
        if not row["fault"] and row["row"] in found:
            row |= {name: found[row["row"]][name] for name in ("fault", "why")}
        elif not row["fault"] and leak:
            row |= {"fault": "leak", "why": "; ".join(one for one in row["leaks"] if one.split(" ", 1)[0] in drop)}
        elif not row["fault"] and chosen is not None and row["row"] not in chosen:
            row["fault"] = "not sampled"


def _copies(rows: list[dict], span: Span, asked: Asked, folder: Path, work: Path, max_pixels: int) -> Iterator[str]:
    """Write the photos of rows, without metadata; gives their names in the published form. Raises UserError for a photo
    that is another than the one checked."""
    names = sources.columns(tables.open_table(Path(span.table)))
    wanted = {row["row"]: row for row in rows}

    def write(numbered: tuple[int, tables.Line]) -> str:
        row = wanted[numbered[0] + 1]
        name = f"{row['sha256'][:2]}/{row['sha256'][:20]}.jpg"
        path = folder / name
        if not path.exists():
            content = content_of(numbered[1], names, row["photo"], asked.pictures)
            if sha256(content).hexdigest() != row["sha256"]:
                raise UserError(f"{row['photo']} ({row['where']}) is another photo than when it was checked. Remove "
                                "the work folder and begin again")
            buffer = io.BytesIO()
            decode(content, row["photo"], max_pixels).save(buffer, "JPEG", quality=QUALITY)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = work / f"{socket.gethostname()}.{os.getpid()}.{path.name}"  # a kill leaves it to be removed there
            partial.write_bytes(buffer.getvalue())
            os.replace(partial, path)
        return f"images/{name}"

    lines = (numbered for numbered in sources.lines(span) if numbered[0] + 1 in wanted)
    with ThreadPoolExecutor(asked.threads) as pool:
        while some := list(islice(lines, IN_MEMORY)):
            yield from pool.map(write, some)


def _counts(rows: list[dict]) -> dict[str, Counter]:
    located = [row for row in rows if row["lat"] is not None]
    taken = [row for row in rows if not row["fault"]]
    leaks = [leak.split(" ") for row in rows for leak in row["leaks"]]
    leaks_taken = [leak.split(" ") for row in taken for leak in row["leaks"]]

    def cells(some: list[dict]) -> Counter:
        points = np.array([(row["lat"], row["lon"]) for row in some], dtype=float).reshape(-1, 2)
        return Counter(map(str, card.cells(points[:, 0], points[:, 1]).tolist()))
    return {"rows": Counter(read=len(rows), taken=len(taken)),
            "faults": Counter(row["fault"] for row in rows if row["fault"]),
            "leaks": Counter(f"{kind} {name}" for kind, name, *_ in leaks),
            "leaks taken": Counter(f"{kind} {name}" for kind, name, *_ in leaks_taken),
            "cells before": cells(located), "cells after": cells(taken),
            "countries before": Counter(row["country"] for row in located),
            "countries after": Counter(row["country"] for row in taken),
            "licences": Counter(row["licence"] or "not said" for row in taken),
            "named": Counter({what: sum(bool(row[what]) for row in taken) for what in ("author", "url")})}


def _parts(counts: dict[str, Counter], known: Sequence[str]) -> list[Part]:
    read, taken = counts["rows"]["read"], counts["rows"]["taken"]
    places = gazetteer(GAZETTEER_CUT)
    countries = {code: places.countries[code].name for code in counts["countries before"]}
    after, before = counts["countries after"], counts["countries before"]
    most = sorted(countries, key=lambda code: (-after[code], -before[code], code))
    leaks = [(f"{kind} of {name}", *(f"{counts[which][f'{kind} {name}']:,}" for which in ("leaks", "leaks taken")))
             for name in known for kind in KINDS]
    named = [f"Of {taken:,} rows, {counts['named'][what]:,} name their {what}." for what in ("author", "url")]
    return [
        Part("Rows", [f"{read:,} rows read, {taken:,} taken, {read - taken:,} left out."]),
        Part("Left out", ["Each is listed in dropped.jsonl."], ("why", "rows", "what it means"), [
            (fault, f"{counts['faults'][fault]:,}", meaning) for fault, meaning in FAULTS.items()
            if counts["faults"][fault]]),
        Part("Shared with benchmarks", [] if known else ["No benchmark was named (against=): nothing was looked for."],
             ("what", "found", "taken"), leaks),
        Part("Countries", [f"A photo's country is that of the nearest city of {places}."
                           + (f" {card.LISTED} of {len(most)}." if len(most) > card.LISTED else "")],
             ("country", "before", "after"), [
                 (countries[code], f"{before[code]:,}", f"{after[code]:,}") for code in most[:card.LISTED]]),
        Part("Map", maps={name: {int(cell): count for cell, count in counts[f"cells {name}"].items()}
                          for name in ("before", "after")}),
        card.counted("Licences and authors", counts["licences"], "licence", named)]


def _lines(work: Work, count: int, kind: int) -> Iterator[str]:
    for number in range(count):
        table = work.read("written", number)
        for one, line in zip(table["kind"].to_pylist(), table["line"].to_pylist()):
            if one == kind:
                yield line + "\n"


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
