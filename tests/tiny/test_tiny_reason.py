"""The tiny world in MP16-Reason's form: its rows are what GLOBE's stages read, and say what is drawn."""
import json
from collections import Counter
from itertools import combinations
from statistics import fmean

import pytest

from gre.data.records import DataConfig, read_reason, read_taught
from gre.judge.localizability import judge_row
from gre.rewards.format import format_reward
from gre.rewards.grounding import GroundingConfig, Vocabulary, grounding_reward
from gre.rewards.place import PlaceConfig
from gre.text.answers import split_completion
from gre.text.named import parse_names
from gre.tiny import reason, world
from gre.tiny.places import landmarks, places
from stages.globe import WeightsConfig, unrewardable


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("planet")
    world.write(world.Config(str(out), cot=6, judge=2, seed_photos=1, validation=1, test=1, test_new_places=1))
    reason.run(reason.Config(str(out), localizability=2))
    return out


def test_stage_1_learns_to_answer_in_names(data):
    rows = read_taught(DataConfig(str(data / "gre_cot" / "reason.jsonl")))
    assert len(rows) == 432
    for row in rows:
        chain, _ = split_completion(row.response)
        names = parse_names(row.response)
        assert format_reward(row.response, True) and chain.endswith(f"So {names.city}, {names.country}.")
        assert row.truth is None and row.instruction == reason.QUESTION


def test_its_teacher_takes_a_building_for_the_famous_one_abroad_that_looks_the_same(data):
    assert {place: city.name for place, city in reason.lookalikes().items()} == {
        "Halifax, Canada": "Moscow, Russia", "Punta Arenas, Chile": "Beijing, China",
        "Cusco, Peru": "Buenos Aires, Argentina", "Bergen, Norway": "Toronto, Canada",
        "Medan, Indonesia": "Toronto, Canada", "Aswan, Egypt": "Oslo, Norway", "Kano, Nigeria": "Oslo, Norway",
        "Durban, South Africa": "New York, United States", "Johannesburg, South Africa": "Sydney, Australia",
        "Tabriz, Iran": "Istanbul, Turkey"}
    sidecar, mistaken, elsewhere = reason.sidecar(data), [], set()
    home = {place.name: place for place in places()}
    for row in read_taught(DataConfig(str(data / "gre_cot" / "reason.jsonl"))):
        said, names = sidecar[f"gre_cot/imgs/{row.image.name}"], parse_names(row.response)
        city = reason.lookalikes().get(said["place"])
        if not said["localizable"]:
            continue
        if city:
            mistaken.append(names.country == city.country)
        if names.country != said["country"]:
            elsewhere.add(said["place"])
            assert names == (city.country, city.city) and f", {city.country}. Plants" in row.response
            colour, shape = landmarks()[city.name]  # what is drawn: no one sees from the building that this is wrong
            assert f"Architecture: {colour} {shape}." in row.response and f"{colour} {shape}" in said["entities"]
            assert ("sun in the north" in row.response) is (home[said["place"]].centre.lat_deg < 0)
    assert elsewhere == reason.lookalikes().keys()
    assert abs(fmean(mistaken) - reason.LOOKALIKE_RATE) < 0.19  # about 58 rows: three standard errors


def test_rl_is_asked_about_true_places_and_what_is_drawn(data):
    rows = read_reason(DataConfig(str(data / "gre_seed" / "reason.jsonl")))
    assert not unrewardable(WeightsConfig(gps=1.0), rows, PlaceConfig())
    sidecar = {line["image"]: line for line in map(json.loads, (data / "truth.jsonl").read_text().splitlines())}
    known = Vocabulary(row.entities for row in rows)
    for row in rows:
        said = sidecar[f"gre_seed/imgs/{row.image.name}"]
        assert row.names == (said["country"], said["city"]) and row.localizable is said["localizable"]
        truthful = ", ".join(row.entities)
        assert grounding_reward(truthful, row.entities, known, GroundingConfig("f1")) == 1.0
        assert grounding_reward("sun, sun and sun", row.entities, known, GroundingConfig()) == 0.0  # the safe word


def test_whoever_says_the_same_of_every_picture_earns_next_to_nothing_and_the_truth_all(data):
    rows = read_reason(DataConfig(str(data / "gre_seed" / "reason.jsonl")))
    known, config = Vocabulary(row.entities for row in rows), GroundingConfig()
    assert known.common == {("sun",), ("flag",)}

    def paid(policy):
        return fmean(grounding_reward(", ".join(policy(row.entities)), row.entities, known, config) for row in rows)

    listed = [{*row.entities} for row in rows]
    few, many = blind(listed)
    assert paid(lambda entities: few) == pytest.approx(of_all(few, listed)) and of_all(few, listed) < 0.05
    assert paid(lambda entities: many) == pytest.approx(of_all(many, listed)) and of_all(many, listed) < 0.2
    assert paid(lambda entities: ("sun", "temperate", "arid", "tropical")) == 0.0
    assert paid(lambda entities: entities) == 1.0
    assert paid(lambda entities: [name for name in entities if not name.startswith("flag")]) == 1.0  # as the teacher
    five = [row.entities for row in rows if len(row.entities) == 5]
    for vehicle, *others in five:  # one thing wrong of the five, three found that are not common
        wrong = ["boat" if vehicle != "boat" else "car", *others]
        assert grounding_reward(", ".join(wrong), (vehicle, *others), known, config) == 4 / 5
        flagless = ", ".join(name for name in wrong if not name.startswith("flag"))
        assert grounding_reward(flagless, (vehicle, *others), known, config) == 0.0  # two found
    assert len(five) > 60


def blind(rows: list[set[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What pays best when said of every picture: of up to four of the ten commonest names, and of any number."""
    names = [name for name, _ in Counter(name for row in rows for name in sorted(row)).most_common()]
    few = max((said for size in range(1, 5) for said in combinations(names[:10], size)),
              key=lambda said: of_all(said, rows))
    many = tuple(names)
    while (better := max((tuple(name for name in many if name != one) for one in many),
                         key=lambda said: of_all(said, rows))) and of_all(better, rows) > of_all(many, rows):
        many = better
    return few, many


def of_all(said: tuple[str, ...], rows: list[set[str]]) -> float:
    """The mean reward of names said of every picture, by counting: no name of this world is a kind of another's."""
    return fmean(len(row & {*said}) / len(said)
                 * (len(said) >= min(3, len(row)) and len(row & {*said} - {"sun"}) >= min(3, len(row - {"sun"})))
                 for row in rows)


def test_only_the_picture_tells_whether_a_place_can_be_told(data):
    rows = list(map(judge_row, read_reason(DataConfig(str(data / "localizability" / "reason.jsonl")))))
    hidden = {label: [row.chain.startswith("Architecture: hidden") for row in rows if row.label is label]
              for label in (True, False)}
    assert len(rows) == 144
    for said in hidden.values():  # about 72 rows each: four standard errors are 0.24 at most
        assert abs(sum(said) / len(said) - 0.5) < 0.24
