"""GRE30K ↔ MP16-Reason: `python -m data_prep.convert FILE to=reason out=FILE.jsonl`, or to=cot, to=seed.

GRE30K-CoT and -Seed become MP16-Reason, and MP16-Reason becomes either. What has no column on the other side goes into
one column of its own there, `gre30k` or `mp16_reason`, which readers leave alone and the way back takes up again:
there and back, a file is what it was. Each side asks its own question (gre/text/prompts.py), unless that column holds
another. What has to be made is made by the gazetteer: a place given in coordinates is called after the most
populous city within 10 km, else after the nearest; coordinates of a place given by name are the city's centre, marked
`"gt": "city centre"`. Lost are the white space around tags and the folder that photos lay in: they are put into imgs/
beside the new file.

Rows that cannot go over are counted in OUT's card and listed in OUT.dropped.jsonl. FILE may be Parquet with the photos
inside. GRE30K-Judge is refused: MP16-Reason has no place for a wrong chain.
"""
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep import card, photos
from data_prep.card import Part
from data_prep.inspect.__main__ import Data, arguments
from data_prep.shards import write_lines
from gre import provenance
from gre.config import REQUIRED, UserError, main, option
from gre.data import forms
from gre.data.raw import IMAGE_MARK, BadRow
from gre.data.reason import SOLUTION, reason_row
from gre.data.records import KINDS, stream
from gre.geo.cities import City
from gre.geo.places import Gazetteer, gazetteer
from gre.geo.point import LatLon
from gre.rewards import place
from gre.rewards.format import FORM, format_reward
from gre.text.answers import format_answer, parse_answer
from gre.text.named import Names, parse_names
from gre.text.prompts import COT_INSTRUCTION

GRE, REASON = "gre30k", "mp16_reason"  # the column that keeps what the other side has no column for
FROM = {"reason": ("cot", "seed"), "cot": ("reason",), "seed": ("reason",)}
CENTRE = "city centre"
ANSWER_DECIMALS = 4  # 11 m
CITY_KM = 10.0  # the gazetteer has the districts of large cities, too, and nobody answers with those
QUESTION = f"{IMAGE_MARK}\n{COT_INSTRUCTION}"


@dataclass
class Config:
    """Keys of convert."""

    data: Data = option(Data, "the file")
    to: str = option(REQUIRED, "reason (MP16-Reason), cot or seed (GRE30K)")
    out: str = option(REQUIRED, "the new file: .jsonl for JSON lines, .json for a JSON array")

    def __post_init__(self):
        if self.to not in FROM:
            raise ValueError(f"to is {self.to!r}: write {', '.join(FROM)}")
        if Path(self.out).suffix not in (".json", ".jsonl"):
            raise ValueError(f"out={self.out}: name a file that ends in .json or .jsonl")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    out = Path(config.out)
    return {"reads": [config.data.path], "writes": [config.out, str(out.with_suffix(".dropped.jsonl")),
                                                    str(out.with_suffix(".card.html"))]}


def run(config: Config) -> None:
    """Write the new file and its card. Raises UserError for a file that has no place on the other side."""
    path, out = Path(config.data.path), Path(config.out)
    if not path.is_file():
        raise UserError(f"data.path={path}: no such file")
    if path.resolve() == out.resolve():
        raise UserError(f"out={out} is the file that is read: name another")
    kind, rows = stream(path, config.data.image_root)
    if kind not in FROM[config.to]:
        raise UserError(f"{path} is {KINDS[kind]}, and to={config.to} takes "
                        f"{' or '.join(KINDS[one] for one in FROM[config.to])}")
    places, counts, dropped = gazetteer(place.MIN_POPULATION), Counter(), []
    root = Path(config.data.image_root or path.parent).resolve()
    values = (value for _, value in forms.json_lines(path) or forms.rows(path))

    def lines() -> Iterator[str]:
        for (number, row), value in tqdm(zip(rows, values), path.name, unit="row"):
            try:
                if isinstance(row, str):
                    raise BadRow(row)
                made = to_reason(value, kind, places) if config.to == "reason" else to_gre(value, config.to, places)
            except BadRow as error:
                dropped.append({"row": number, "why": str(error)})
                continue
            image = _photo(row.image, root, out.parent)
            made |= {"images": [image]} if config.to == "reason" else {"image": f"images/{image.partition('/')[2]}"}
            counts.update({"rows": 1, **_noted(made, kind)})
            yield json.dumps(made, ensure_ascii=False, allow_nan=False)

    out.parent.mkdir(parents=True, exist_ok=True)
    write_lines(out, _array(lines()) if out.suffix == ".json" else (line + "\n" for line in lines()))
    write_lines(out.with_suffix(".dropped.jsonl"), (json.dumps(one, ensure_ascii=False) + "\n" for one in dropped))
    print(card.write(out.parent, f"{KINDS[kind]} → {KINDS[config.to]}: {out.name}", _parts(counts, dropped, places), {
        "kind": "converted", "sha256": provenance.file_hash(path), "commit": provenance.commit(),
        "counts": dict(sorted(counts.items())), "dropped": len(dropped)}, name=f"{out.stem}.card"), end="")


def to_reason(row: dict[str, Any], kind: str, places: Gazetteer) -> dict[str, Any]:
    """MP16-Reason of a row of GRE30K-CoT or -Seed, without its photo. Raises BadRow."""
    back, own = dict(row.get(REASON) or {}), "conversations" if kind == "cot" else "instructions"
    columns = {name: value for name, value in row.items() if name not in ("image", own, "gt_lat", "gt_lon", REASON)}
    more = {"columns": columns} if columns else {}
    made, truth = {}, LatLon(float(row["gt_lat"]), float(row["gt_lon"]))
    said = row["conversations"][1]["value"] if kind == "cot" else ""
    question = row["conversations"][0]["value"] if kind == "cot" else row["instructions"]
    if question != QUESTION:
        more["question"] = question
    if kind == "cot":
        if not format_reward(said, finished=True):
            raise BadRow("the response is not <think>…</think><answer>…</answer>")
        parts = FORM.fullmatch(said)
        made["response"] = parts["think"]
        if parts["answer"] != _answer(truth):
            more["answer"] = parts["answer"]
    elif "response" in back:
        made["response"] = back.pop("response")
    made[SOLUTION] = back.pop(SOLUTION, None) or solution(city_of(said, truth, places), places)
    made |= {} if back.pop("gt", "") == CENTRE else {"gt_lat": row["gt_lat"], "gt_lon": row["gt_lon"]}
    return made | back | ({GRE: more} if more else {})


def to_gre(row: dict[str, Any], to: str, places: Gazetteer) -> dict[str, Any]:
    """GRE30K-CoT or -Seed of a row of MP16-Reason, without its photo. Raises BadRow."""
    back = dict(row.get(GRE) or {})
    columns = back.pop("columns", {})
    more = {name: value for name, value in row.items() if value is not None
            and name not in ("images", "image", "response", "gt_lat", "gt_lon", GRE)}
    read = reason_row(row, "", lambda _: Path())
    truth = read.truth
    if truth is None:
        found = places.find(read.names.city or "", read.names.country or "")
        if found.status != "found":
            raise BadRow(f"no coordinates, and no one city is called {read.names.city}, {read.names.country}: "
                         f"{found.reason}")
        truth, more["gt"] = found.place.point, CENTRE
    question = back.pop("question", QUESTION)
    if to == "cot":
        if not read.response:
            raise BadRow("no response to learn from")
        answer = back.pop("answer", _answer(truth))
        reply = f"<think>{row['response']}</think><answer>{answer}</answer>"
        asked = {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": reply}]}
        if more.get(SOLUTION) == solution(city_of(reply, truth, places), places):
            del more[SOLUTION]
    else:
        asked = {"instructions": question}
        more |= {"response": row["response"]} if row.get("response") else {}
        columns |= {"answer": back.pop("answer")} if "answer" in back else {}
        if more.get(SOLUTION) == solution(city_of("", truth, places), places):
            del more[SOLUTION]
    return asked | columns | {"gt_lat": truth.lat_deg, "gt_lon": truth.lon_deg} | ({REASON: more} if more else {})


def solution(city: City, places: Gazetteer) -> str:
    """The place by name, as MP16-Reason has it."""
    return f"<country>{places.countries[city.country].name}</country><city>{city.name}</city>"


def city_of(said: str, truth: LatLon, places: Gazetteer) -> City:
    """The city that a completion answers with by name; where it gives coordinates, the most populous near the photo.
    Raises BadRow for a name that is no one city's."""
    names = parse_names(said) if said and parse_answer(said) is None else Names(None, None)
    if not any(names):
        return (places.around(truth, CITY_KM) or places.nearest_cities([truth]))[0]
    found = places.find(names.city or "", names.country or "")
    if found.status != "found":
        raise BadRow(f"no one city is called {names.city}, {names.country}: {found.reason}")
    return found.place


def _answer(truth: LatLon) -> str:
    return format_answer(truth, ANSWER_DECIMALS)


def _photo(image: Path, root: Path, folder: Path) -> str:
    """The photo's path from the new file on; it is put there."""
    inside = image.relative_to(root).parts
    name = "/".join(inside[1:] if inside[0] in ("imgs", "images") and len(inside) > 1 else inside)
    photos.link(image, folder / "imgs" / name, "put the photo back")
    return f"imgs/{name}"


def _noted(made: dict[str, Any], kind: str) -> dict[str, int]:
    """What a card counts of a new row."""
    kept = made.get(REASON) or made.get(GRE) or {}
    noted = {f"kept\t{name}": 1 for name in {**kept, **kept.get("columns", {})} if name not in ("gt", "columns")}
    if kept.get("gt") == CENTRE:
        noted["made\tgt_lat, gt_lon: a city's centre"] = 1
    if kind != "reason":
        noted[f"made\t{SOLUTION}: by the gazetteer, or as it was before"] = 1
    return noted


def _array(lines: Iterator[str]) -> Iterator[str]:
    yield "[\n"
    for number, line in enumerate(lines):
        yield (",\n" if number else "") + line
    yield "\n]\n"


def _parts(counts: Counter[str], dropped: list[dict], places: Gazetteer) -> list[Part]:
    def of(what: str) -> dict[str, int]:
        return {name.partition("\t")[2]: count for name, count in counts.items() if name.startswith(f"{what}\t")}

    return [
        Part("Rows", [f"{counts['rows']:,} rows written, {len(dropped):,} left out.", f"Names are of {places}."]),
        card.counted("Kept in a column of its own", of("kept"), "what"),
        card.counted("Made", of("made"), "what"),
        Part("Left out", ["Each is listed beside the file."] if dropped else [],
             rows=[(f"row {one['row']}", one["why"]) for one in dropped[:card.LISTED]], head=("row", "why"))]


if __name__ == "__main__":
    main(run, Config, __doc__, plan, arguments(sys.argv[1:]))
