"""The tiny world in MP16-Reason's form: its rows are what GLOBE's stages read, and say what is drawn."""
import json
from collections import Counter
from statistics import fmean

import pytest

from gre.data.records import DataConfig, read_reason, read_taught
from gre.judge.localizability import judge_row
from gre.rewards.format import format_reward
from gre.rewards.grounding import GroundingConfig, Vocabulary, grounding_reward
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
    assert not unrewardable(WeightsConfig(gps=1.0), rows)
    sidecar = {line["image"]: line for line in map(json.loads, (data / "truth.jsonl").read_text().splitlines())}
    known = Vocabulary(row.entities for row in rows)
    for row in rows:
        said = sidecar[f"gre_seed/imgs/{row.image.name}"]
        assert row.names == (said["country"], said["city"]) and row.localizable is said["localizable"]
        truthful = ", ".join(row.entities)
        assert grounding_reward(truthful, row.entities, known, GroundingConfig("f1")) == 1.0
        assert grounding_reward("sun, sun and sun", row.entities, known, GroundingConfig()) == 0.0  # the safe word


def test_a_planted_policy_of_safe_words_earns_next_to_nothing_and_the_truth_all(data):
    """The file's three commonest entities for every picture. In fog alone, where a row lists climate, sun and vehicle,
    the two of them that are not common are as many as the row asks for."""
    rows = read_reason(DataConfig(str(data / "gre_seed" / "reason.jsonl")))
    known, config = Vocabulary(row.entities for row in rows), GroundingConfig()
    assert known.common == {("sun",), ("flag",)}
    safest = [entity for entity, _ in Counter(entity for row in rows for entity in row.entities).most_common(3)]
    assert safest[0] == "sun" and set(safest[1:]) < {"temperate", "arid", "tropical", "polar"}
    for row in rows:
        paid = grounding_reward(", ".join(safest), row.entities, known, config)
        assert paid == (0.0 if len(row.entities) == 5 else pytest.approx(len({*safest} & {*row.entities}) / 3))
        flagless = [entity for entity in row.entities if not entity.startswith("flag")]  # what the teacher names
        assert grounding_reward(", ".join(flagless), row.entities, known, config) == 1.0
    assert fmean(len({*safest} & {*row.entities}) / 3 for row in rows) > 0.5  # what precision alone would pay


def test_only_the_picture_tells_whether_a_place_can_be_told(data):
    rows = list(map(judge_row, read_reason(DataConfig(str(data / "localizability" / "reason.jsonl")))))
    hidden = {label: [row.chain.startswith("Architecture: hidden") for row in rows if row.label is label]
              for label in (True, False)}
    assert len(rows) == 144
    for said in hidden.values():  # about 72 rows each: four standard errors are 0.24 at most
        assert abs(sum(said) / len(said) - 0.5) < 0.24
