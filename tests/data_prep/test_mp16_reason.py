"""scripts/data/mp16_reason.sh: GLOBE's order, its four checks, its columns; killed at any moment."""
import csv
import json
import random
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from data_prep import chains, reason
from data_prep.chains import Chain
from data_prep.distil import Config as Distil
from data_prep.distil import Teacher
from eval.benchmarks import reader
from eval.benchmarks.reader import BenchmarkConfig
from gre.config import UserError
from gre.data.records import DataConfig, read_reason, read_taught
from gre.judge.localizability import judge_row
from gre.text.prompts import PLACE_TEACHER_INSTRUCTION
from tests.helpers.paths import ROOT
from tests.helpers.seeds import NAMES, PLACES, TeacherServer, chain, kill_in_step, lines, seeds, usual

CONFIG, KILLS = ROOT / "configs/data/mp16_reason.yaml", 2


def named(number: int, place: tuple[str, str] | None = None, word: str = "high", more: str = "") -> str:
    """A good teacher's chain about a photo, and its answer by name."""
    city, country = place or NAMES[number % len(NAMES)]
    text = chain(number, more=more).partition("<answer>")[0]
    last = f"\nlocalizability: {word}" if word else ""
    return f"{text}<answer>country: {country}\ncity: {city}{last}</answer>"


def first(number: int, _: int):
    return usual({1: named(1, word="very low"), 3: named(3, ("Atlantis", "Egypt")), 7: named(7, word="")}.get(
        number, named(number)).replace("is Lima, Peru", "is Santos, Brazil" if number == 4 else "is Lima, Peru"))


def second(number: int, _: int):
    return usual(named(number, ("Santos", "Brazil") if number == 2 else None, "medium", " There are clouds."))


def looker(number: int, _: int):
    return usual(json.dumps({"told": number != 5, "why": "fog", "seen": ["roofs", "poles"] if number != 6 else [],
                             "unseen": [] if number != 6 else ["roofs"]}))


def keys(folder: Path, urls: list[str], out: Path) -> list[str]:
    a, b, vlm = urls
    return [str(CONFIG), f"out={out}", f"seeds.table={folder / 'photos.csv'}", "seeds.min_side=100", "seeds.rows=null",
            "reason.test=0.3", "reason.localizability=0.3", "distil.shard_rows=4", "verify.shard_rows=4",
            f"distil.teachers=[{{model: a, url: '{a}', concurrency: 2}}, {{model: b, url: '{b}', concurrency: 2}}]",
            f"verify.looker={{model: vlm, url: '{vlm}', concurrency: 2}}"]


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*"))
            if path.is_file() and path.parent.name != "steps"}


@pytest.mark.slow
def test_from_photos_to_train_and_test_killed_and_not(tmp_path):
    seeds(tmp_path, 16)
    rng = random.Random()

    def slowly(said):
        return lambda number, times: (time.sleep(0.05), said(number, times))[1]

    with ExitStack() as stack:
        servers = [stack.enter_context(TeacherServer(slowly(said))) for said in (first, second, looker)]
        given = [server.url for server in servers]
        command = [sys.executable, "-m", "data_prep.recipe", *keys(tmp_path, given, tmp_path / "killed" / "out")]
        for step in rng.sample(("seeds", "distil", "cot", "verify", "reason"), KILLS):
            kill_in_step(command, step, rng.uniform(0, 0.5))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert all(sum(server.asked.values()) <= 16 + KILLS * 2 for server in servers[:2])
        whole = subprocess.run(["bash", str(ROOT / "scripts/data/mp16_reason.sh"), *keys(
            tmp_path, given, tmp_path / "whole" / "out")], cwd=tmp_path, capture_output=True, text=True)
        assert whole.returncode == 0, whole.stderr[-2000:]
    killed, undisturbed = files(tmp_path / "killed" / "out"), files(tmp_path / "whole" / "out")
    assert killed == undisturbed and not any("work" in name.split("/") for name in undisturbed)

    out = tmp_path / "whole" / "out"
    dropped = {(one["row"] - 1, one["teacher"]): one for step in ("right", "verified")
               for one in lines(out / step / "dropped.jsonl")}
    assert dropped[1, "a"]["why"] == "the teacher says 'very low' of localizability"
    assert dropped[7, "a"]["why"] == "the teacher says nothing of localizability"
    assert {at: one["fault"] for at, one in dropped.items()} == {
        (1, "a"): "localizable", (2, "b"): "too far", (2, "a"): "agreement", (3, "a"): "no answer can be read",
        (3, "b"): "agreement", (4, "a"): "place", (5, "a"): "localizable", (5, "b"): "localizable",
        (6, "a"): "entities", (6, "b"): "entities", (7, "a"): "localizable",
        **{(number, "b"): "nearest" for number in (0, *range(8, 16))}}
    side, at = lines(out / "sidecar.jsonl"), [int(one["sha256"][:13], 16) / 16**13
                                              for one in lines(out / "seeds" / "sidecar.jsonl")]
    mine = [number for number in range(16) if 0.3 <= at[number] < 0.6]  # the reward model's photos
    verified = {(0, "a"), (1, "b"), (4, "b"), (7, "b"), *((number, "a") for number in range(8, 16))}
    right = {one for one in verified if one[0] not in mine}
    assert {(one["row"] - 1, one["teacher"]) for one in side if one["file"] in ("train", "test")} == right
    assert mine and {(one["row"] - 1, one["teacher"]) for one in side if one["file"] == "localizability"} == {
        (number, teacher) for number in mine for teacher in "ab"} - {(7, "a")}  # which says no word
    taught = read_reason(DataConfig(path=str(out / "localizability.jsonl")))
    assert {row.localizable for row in taught} <= {True, False} and not any("<" in row.response for row in taught)

    train = read_reason(DataConfig(path=str(out / "mp16_reason_train.jsonl")))
    tests = [one for one in side if one["file"] == "test"]
    assert len(train) + len(tests) == len(right) and train and tests
    assert not {row.image for row in train} & {row.image for row in taught}
    raw = lines(out / "mp16_reason_train.jsonl")[0]
    assert list(raw) == ["images", "response", "__#solution", "entities", "localizability", "gt_lat", "gt_lon"]
    assert raw["entities"] == [{"text": "roofs"}, {"text": "poles"}] and not raw["response"].startswith("<")
    assert train[0].names[::-1] in PLACES and train[0].localizable and train[0].truth == PLACES[train[0].names[::-1]]
    assert read_taught(DataConfig(path=str(out / "mp16_reason_train.jsonl")))[0].response.endswith(
        f"country: {train[0].names.country}\ncity: {train[0].names.city}</answer>")
    with open(out / "test/mp16_reason_test.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["IMG_ID", "LAT", "LON", "city", "country"]
    assert {row["IMG_ID"] for row in rows} == {Path(one["image"]).name for one in tests}
    for row in rows:
        lat, lon = PLACES[row["city"], row["country"]]
        assert abs(float(row["LAT"]) - lat) < 0.1 and abs(float(row["LON"]) - lon) < 0.1  # the gazetteer's centre
    asked = reader.read(BenchmarkConfig("MP16-Reason-Test", str(out / "test/mp16_reason_test.csv"),
                                        str(out / "test/imgs"), rows=len(rows)), "Where?")
    assert [row.labels["gt_city"] for row in asked] == [row["city"] for row in rows]
    assert not {row.image.name for row in asked} & {row.image.name for row in train}
    card = (out / "card.txt").read_text()
    assert f"{len(right)} rows, 0 left out" in card and "medium" in card
    assert f"{len(train)} rows, {len(train)} can be used" in (
        out / "mp16_reason_train.card.txt").read_text()


FIRST = dict(zip("abcdefghi", "15679abc8"))  # digit of a photo's sha256


def by_hand(folder: Path) -> tuple[Path, Path, Path]:
    """(verified, seeds, chains): photos a to i in Paris, whose part follows from FIRST: a is for test (below 0.26), b,
    c and d for the reward model (below 0.46), the others for train. a and e are verified; of i all is cut off."""
    said = {"a": ["high"], "b": ["high", "low"], "c": ["negative"], "d": ["hard to say", "moderate"],
            "e": ["high", "low"], "f": ["very low", "negative"], "g": ["low"], "h": ["medium", "low"], "i": ["low"]}
    seeds, made, verified = folder / "seeds", folder / "chains", folder / "verified"
    for one in (seeds / "imgs", made, verified / "imgs"):
        one.mkdir(parents=True)
    (seeds / "seeds.jsonl").write_text("seeds\n")
    (seeds / "card.json").write_text(json.dumps({"kind": "seeds", "made_of": {"pictures": "copy"}}))
    card = json.dumps({"seeds_sha256": chains.seeds_hash(seeds)})
    spoken, rows, side = [], [], []
    for row, (name, words) in enumerate(said.items(), 1):
        (seeds / "imgs" / f"{name}.jpg").write_text(name)
        (verified / "imgs" / f"{name}.jpg").write_text(name)
        for teacher, word in zip("xy", words):
            one = Chain(row, f"images/{name}.jpg", FIRST[name] + "0" * 63, "", 48.8566, 2.3522, chains.NAMED, teacher,
                        "length" if name == "i" else "stop", named(0, word=word))
            spoken.append(chains.line(one) + "\n")
            if name in "ae" and word == "high":
                rows.append({"image": one.image, "gt_lat": one.gt_lat, "gt_lon": one.gt_lon, "conversations": [
                    {"from": "human", "value": "Where?"}, {"from": "gpt", "value": one.response}]})
                side.append(json.dumps({**one.named(), "error_km": 0.5, "localizability": word, "entities": []}) + "\n")
    (made / "chains.jsonl").write_text("".join(spoken))
    (verified / "gre_cot.json").write_text(json.dumps(rows))
    (verified / "sidecar.jsonl").write_text("".join(side))
    for one in (made, verified):
        (one / "card.json").write_text(card)
    return verified, seeds, made


@pytest.mark.slow  # loads the gazetteer
def test_the_reward_model_s_rows_are_what_verification_leaves_out_too(tmp_path, capsys):
    verified, seeds_folder, made = by_hand(tmp_path)
    keys = dict(verified=str(verified), seeds=str(seeds_folder), chains=[str(made)])
    out = tmp_path / "out"
    reason.run(reason.Config(out=str(out), **keys))
    taught = lines(out / "localizability.jsonl")
    assert [(row["images"], row["localizability"]) for row in taught] == [
        (["imgs/b.jpg"], "high"), (["imgs/b.jpg"], "low"), (["imgs/c.jpg"], "negative"), (["imgs/d.jpg"], "medium")]
    assert all(row["response"].startswith("The roofs") and "localizability" not in row["response"] for row in taught)
    read = read_reason(DataConfig(path=str(out / "localizability.jsonl")))
    assert [judge_row(row).label for row in read] == [True, False, False, True]  # as its stage reads them
    assert [(one["image"], one["teacher"], one["fault"], one["why"]) for one in lines(out / "dropped.jsonl")] == [
        ("images/d.jpg", "x", "no word", "it says 'hard to say'")]
    assert "4 rows; left out: 1 no word" in capsys.readouterr().out

    # 3 % of one row of train are one: of f and g, which no teacher finds localizable, f's content comes first.
    train, watched = lines(out / "mp16_reason_train.jsonl"), lines(out / "mp16_reason_watched.jsonl")
    assert [row["images"] for row in train] == [["imgs/e.jpg"]] and watched[:1] == train
    assert watched[1:] == [{"images": ["imgs/f.jpg"], "__#solution": "<country>France</country><city>Paris</city>",
                            "entities": [], "localizability": "low", "gt_lat": 48.8566, "gt_lon": 2.3522}]
    assert (out / "imgs/f.jpg").read_text() == "f" and not (out / "imgs/g.jpg").exists()
    assert [one["file"] for one in lines(out / "sidecar.jsonl")] == [
        "test", "train", *["localizability"] * 4, "unlocalizable"]
    reason.run(reason.Config(out=str(out), **keys))
    assert "was finished before" in capsys.readouterr().out

    reason.run(reason.Config(verified=str(verified), out=str(tmp_path / "plain")))  # without chains, as it was
    assert not (tmp_path / "plain/localizability.jsonl").exists()
    with pytest.raises(ValueError, match="write seeds=FOLDER"):
        reason.Config(verified="v", out="o", chains=["c"])


def chain_of(response: str, kind: str = chains.NAMED, finish: str = "stop") -> Chain:
    return Chain(1, "", "", "", 48.8566, 2.3522, kind, "a", finish, response)


@pytest.mark.slow  # loads the gazetteer and its other names
def test_a_name_is_as_far_as_its_city():
    """The gazetteer's Paris lies 0.5 km from the one here; Versailles, 17 km."""
    assert chain_of(named(0)).error_km() < 1
    assert 15 < chain_of(named(0, ("Versailles", "France"))).error_km() < 20
    assert chain_of(named(0, ("Paris or Lyon", "France"))).error_km() is None  # two places are none
    assert chain_of(named(0, ("Nowhere", "France"))).error_km() is None
    assert chain_of(named(0), finish="length").error_km() is None
    assert chain_of(named(0), chains.TEACHER).error_km() is None  # GRE's teachers answer with coordinates


def test_what_teachers_are_asked_for_names():
    config = Distil(seeds="s", out="o", teachers=[Teacher(model="m")], answers="names")
    assert config.instruction == PLACE_TEACHER_INSTRUCTION and "localizability:" in config.instruction
    with pytest.raises(ValueError, match="answers is 'words': write coordinates or names"):
        Distil(seeds="s", out="o", teachers=[], answers="words")


def test_a_folder_that_is_not_verified_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not finished"):
        reason.run(reason.Config(verified=str(tmp_path), out=str(tmp_path / "out")))
    with pytest.raises(ValueError, match="write shares of 1 at most"):
        reason.Config(verified="v", out="o", test=2)
