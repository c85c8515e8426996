"""python -m data_prep.judge: labels by distance, nothing unreadable labelled, and what the text alone gives away."""
import random
from hashlib import sha256
from pathlib import Path

import pytest

from data_prep import blind, judge, split
from data_prep.blind import Row
from gre.config import UserError
from gre.data.records import DataConfig, read_judge
from gre.text.prompts import JUDGE_INSTRUCTION
from tests.helpers.seeds import chain, lines, seeds, write_chains


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sixteen")
    made = seeds(folder, 16)
    for name, shares in {"all": (0, 1, 0), "parts": (0.5, 0.25, 0.25)}.items():
        split.run(split.Config(str(made), str(folder / name), *shares))
    return folder


def config(folder: Path, out: Path, chains: Path, parts: str = "all", **keys) -> judge.Config:
    return judge.Config(seeds=str(folder / "seeds"), split=str(folder / parts), chains=[str(chains)], out=str(out),
                        **keys)


@pytest.mark.slow
def test_labels_follow_from_the_distance_and_what_cannot_be_read_has_none(sixteen, tmp_path):
    """A degree of latitude is 111.195 km: 0.2 are 22.2 km, 0.25 are 27.8."""
    said = {0: chain(0, off=0.2), 1: chain(1, off=0.25), 2: "<think>Cairo, surely.</think><answer>in Cairo</answer>",
            3: "<answer>30.0444, 31.2357</answer>", 4: "<think>It goes on and on", 5: chain(5, off=0.2, more=" Hm."),
            6: "I cannot say.", 7: "<think>Somewhere.</think><answer>0, 0</answer>"}
    made = write_chains(tmp_path / "chains", sixteen / "seeds", lambda number, _: said.get(number))
    judge.run(config(sixteen, tmp_path / "out", made))
    rows = read_judge(DataConfig(path=str(tmp_path / "out" / "gre_judge.json")))
    assert [row.label for row in rows] == [True, False, True] and {row.instruction for row in rows} == {
        JUDGE_INSTRUCTION}
    assert rows[0].chain == chain(0)[7:chain(0).index("</think>")] and rows[0].answer == "49.0566, 2.3522"
    side = lines(tmp_path / "out" / "sidecar.jsonl")
    assert [one["error_km"] for one in side] == pytest.approx([22.239, 27.799, 22.239], abs=2e-3)
    assert {one["row"] - 1: one["fault"] for one in lines(tmp_path / "out" / "dropped.jsonl")} == {
        2: "no answer can be read", 3: "no chain", 4: "no answer can be read", 6: "no answer can be read",
        7: "no answer can be read"}
    card = (tmp_path / "out" / "card.txt").read_text()
    assert "3 rows, 2 True (within 25 km) and 1 False: 66.7% are True" in card
    assert "no answer can be read     4" in card and "not measured" in card
    judge.run(config(sixteen, tmp_path / "wide", made, within_km=30))
    assert "3 rows, 3 True" in (tmp_path / "wide" / "card.txt").read_text()
    with pytest.raises(UserError, match="another within_km"):
        judge.run(config(sixteen, tmp_path / "wide", made, within_km=31))


@pytest.mark.slow
def test_photos_are_those_of_the_judge_s_part(sixteen, tmp_path):
    made = write_chains(tmp_path / "chains", sixteen / "seeds", lambda number, _: chain(number))
    judge.run(config(sixteen, tmp_path / "out", made, "parts"))
    photos = {one["image"] for one in lines(tmp_path / "out" / "sidecar.jsonl")}
    shares = {"cot": 0.5, "judge": 0.25, "seed": 0.25}
    everything = lines(sixteen / "seeds" / "sidecar.jsonl")
    assert photos == {one["image"] for one in everything if split.part(one["sha256"], shares) == "judge"} != set()
    assert not photos & {one["image"] for one in lines(sixteen / "parts" / "gre_seed.jsonl")}
    made.joinpath("card.json").write_text('{"seeds_sha256": "another"}')
    with pytest.raises(UserError, match="was made from other seeds"):
        judge.run(config(sixteen, tmp_path / "other", made, "parts"))


@pytest.mark.slow
@pytest.mark.parametrize("hedge, warned", [(" I am not at all sure.", True), (" It is a fine day.", False)])
def test_a_tone_that_gives_the_label_away_is_warned_of(sixteen, tmp_path, hedge, warned):
    """Eight teachers; every second answer is another photo's. A hedge stands in the wrong ones, or in half of either.
    """
    def said(number: int, teacher: str) -> str:
        wrong = (number + int(teacher)) % 2
        told = wrong if warned else (number + int(teacher)) // 2 % 2
        return f"<think>Trees and a road.{hedge if told else ''}</think><answer>" + (
            chain(number + wrong * (1 + int(teacher) // 2)).partition("<answer>")[2])

    made = write_chains(tmp_path / "chains", sixteen / "seeds", said, tuple("01234567"))
    judge.run(config(sixteen, tmp_path / "out", made))
    assert ("WARNING: above 0.65" in (tmp_path / "out" / "card.txt").read_text()) == warned


def rows(count: int, tell: float) -> list[Row]:
    """Half are True; a share `tell` of the others say so."""
    rng = random.Random(3)
    return [Row(sha256(str(number // 2).encode()).hexdigest(), " ".join(rng.choices("abcdefgh", k=12)) + (
        " perhaps" if number % 2 and rng.random() < tell else ""), "1.0, 2.0", not number % 2)
        for number in range(count)]


@pytest.mark.slow
def test_the_blind_classifier_finds_what_is_there_and_nothing_else():
    assert blind.auc_of(rows(600, 1.0)) > 0.99
    assert abs(blind.auc_of(rows(600, 0.0)) - 0.5) < 0.08
    half = blind.auc_of(rows(600, 0.5))  # half are told with certainty, the others by chance: 0.75
    assert 0.68 < half < 0.82
    assert blind.auc_of(rows(98, 1.0)) is None


@pytest.mark.slow
def test_no_photo_is_scored_by_a_classifier_that_saw_it():
    """Every photo has a word of its own that tells its label: learnt by heart, it would give 1."""
    by_heart = [Row(sha256(str(photo).encode()).hexdigest(), f"word{photo}", "1, 2",
                    random.Random(photo).random() < 0.5) for photo in range(100) for _ in range(4)]
    assert blind.auc_of(by_heart) < 0.65
