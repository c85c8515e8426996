"""The tiny world: published forms, no leaks, planted errors at their stated rates, judge rows that need the picture."""
import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from gre.data.records import DataConfig, read_cot, read_judge, read_seed
from gre.geo.point import distance_km
from gre.text.answers import parse_answer
from gre.tiny import world
from gre.tiny.picture import draw, random_scene, scene_of
from gre.tiny.places import DISTRICTS, famous, flags, landmarks, places
from gre.tiny.pretrain import CHECKS, cues, questions
from gre.tiny.teacher import answer, describe

SPLITS = ("gre_cot", "gre_judge", "gre_seed", "validation", "test", "test_new_places")


@pytest.fixture(scope="module")
def planet(tmp_path_factory):
    out = tmp_path_factory.mktemp("planet")
    counts = world.write(world.Config(out=str(out), seed=3, cot=2, judge=4, seed_photos=1, validation=1, test=1,
                                      test_new_places=1))
    return out, counts


def sidecar(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "truth.jsonl").read_text().splitlines()]


def test_counts_and_published_forms(planet):
    out, counts = planet
    assert counts == {"cot": 144, "judge": 288, "seed": 72, "validation": 72, "test": 72, "test_new_places": 24}
    cot = json.loads((out / "gre_cot" / "gre_cot.json").read_text())
    assert set(cot[0]) == {"image", "conversations", "gt_lat", "gt_lon"}
    assert cot[0]["conversations"][0]["value"].startswith("<image>\n")
    assert len(read_cot(DataConfig(path=str(out / "gre_cot" / "gre_cot.json")))) == 144
    assert len(read_judge(DataConfig(path=str(out / "gre_judge" / "gre_judge.json")))) == 288
    for name, rows in (("gre_seed", 72), ("validation", 72), ("test", 72), ("test_new_places", 24)):
        assert len(read_seed(DataConfig(path=str(out / name / f"{name}.jsonl")))) == rows


def test_no_photo_is_in_two_splits_and_none_shares_a_name(planet):
    out, counts = planet
    files = [path for split in SPLITS for path in (out / split / "imgs").iterdir()]
    assert len(files) == sum(counts.values())
    assert len({path.name for path in files}) == len(files)
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in files}) == len(files)
    assert {Image.open(path).size for path in files} == {(112, 112)}


def test_new_places_are_in_no_other_split(planet):
    out, _ = planet
    by_split = {}
    for row in sidecar(out):
        by_split.setdefault(row["split"], set()).add(row["place"])
    new = by_split.pop("test_new_places")
    assert len(new) == 24 and all(not new & known for known in by_split.values())
    assert all(len(known) == 72 for known in by_split.values())


def test_every_answer_is_as_often_true_as_false(planet):
    out, _ = planet
    rows = read_judge(DataConfig(path=str(out / "gre_judge" / "gre_judge.json")))
    true, false = (Counter(row.answer for row in rows if row.label is label) for label in (True, False))
    assert true == false
    for row in rows:  # True is right within rounding and district, False is another place
        error_km = distance_km(parse_answer(f"<answer>{row.answer}</answer>"), row.truth)
        assert error_km < 120 if row.label else error_km > 120


def test_judge_rows_err_in_four_ways(planet):
    out, _ = planet
    shown = {row["image"].rsplit("/")[-1]: row for row in sidecar(out) if row["split"] == "gre_judge"}
    kinds, hidden = Counter(), Counter()
    for row in read_judge(DataConfig(path=str(out / "gre_judge" / "gre_judge.json"))):
        photo = shown[row.image.name]
        kind, own = photo["teacher_error"], photo["place"]
        named = row.chain.split("So ")[1].rstrip(".")
        at_home, names_own = named.endswith(photo["country"]), named == own
        assert (kind == "none") is row.label
        assert (at_home, names_own) == {"none": (True, True), "fame": (True, False), "misnamed": (True, False),
                                        "confusion": (False, False), "slip": (True, True)}[kind]
        described = own if kind in ("none", "misnamed", "slip") else named
        building = " ".join(landmarks()[described]) if photo["localizable"] else "hidden"
        assert row.chain.startswith(f"Architecture: {building}. ")
        kinds[kind] += 1
        hidden[row.label] += not photo["localizable"]
    assert kinds["fame"] + kinds["misnamed"] == kinds["confusion"] + kinds["slip"] == kinds["none"] / 2
    assert min(kinds.values()) > kinds["none"] / 5
    assert min(hidden.values()) > 0.3 * hidden.total() > 0


@pytest.mark.slow
def test_a_seed_gives_the_same_world_and_another_seed_another(tmp_path):
    small = dict(cot=1, judge=2, seed_photos=1, validation=1, test=1, test_new_places=1)
    digests = []
    for number, seed in enumerate((5, 5, 6)):
        out = tmp_path / str(number)
        world.write(world.Config(out=str(out), seed=seed, **small))
        digests.append({path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
                        for path in sorted(out.rglob("*")) if path.is_file()})
    assert digests[0] == digests[1] != digests[2]


def test_the_teacher_errs_at_its_stated_rates():
    rng, wrong, total = random.Random(0), 0, 0
    for place in (p for p in places() if p.known):
        chains = [describe(place, scene_of(place, rng, 0.0), rng) for _ in range(400)]
        errors = Counter(chain.error for chain in chains)
        assert errors["fame"] / 400 == pytest.approx(place.fame_rate, abs=0.1)  # 4 standard deviations of 400 draws
        assert errors["sign"] / 400 == pytest.approx(place.sign_rate * (1 - place.fame_rate), abs=0.1)
        wrong, total = wrong + 400 - errors["none"], total + 400
    assert 0.15 < wrong / total <= 0.35


def test_a_planted_error_reads_as_it_should():
    perth = next(place for place in places() if place.city == "Perth")
    rng = random.Random(0)
    chains = {chain.error: chain for chain in (describe(perth, scene_of(perth, rng, 0.0), rng) for _ in range(500))}
    assert chains["sign"].answer in ("31.9, 115.9", "32.0, 116.0")      # Perth lies at 31.95 S, 115.86 E
    assert "Perth, Australia" in chains["sign"].reasoning
    assert chains["fame"].answer in ("-33.9, 151.2", "-34.0, 151.0")    # Sydney
    assert "Sydney, Australia" in chains["fame"].reasoning
    assert " ".join(landmarks()[famous("Australia").name]) in chains["fame"].reasoning
    for chain in chains.values():
        assert parse_answer(chain.response) == parse_answer(f"<answer>{chain.answer}</answer>") is not None


def test_flags_are_unique_and_landmarks_tell_the_city_within_its_country():
    assert len(set(flags().values())) == len(flags()) == 24
    assert sum(place.known for place in places()) == 72
    for country in flags():
        own = [landmarks()[place.name] for place in places() if place.country == country]
        assert len({shape for _, shape in own}) == len(own) == len({colour for colour, _ in own})


def test_districts_lie_22_km_from_the_centre():
    for place in places():
        assert distance_km(place.centre, place.district("tram")) == 0
        for vehicle in set(DISTRICTS) - {"tram"}:
            assert distance_km(place.centre, place.district(vehicle)) == pytest.approx(22.24, abs=0.05)


def test_answers_are_centres_with_one_decimal():
    assert answer(places()[0].centre) == "40.7, -74.0"
    assert answer(places()[0].centre, whole_degrees=True) == "41.0, -74.0"


def test_pretraining_never_names_a_place_or_a_coordinate():
    rng = random.Random(1)
    asked = [one for _ in range(500) for one in questions(random_scene(rng), rng)]
    text = " ".join(f"{question} {reply}" for _, question, reply in asked)
    assert not any(character.isdigit() for character in text)
    cities = {place.city for place in places()} - {"Mexico City"}
    assert not [city for city in cities if city in text]


def test_a_description_fits_exactly_when_every_cue_is_right():
    rng = random.Random(2)
    for _ in range(300):
        scene = random_scene(rng)
        for kind, question, reply in questions(scene, rng):
            if kind.startswith("check"):
                opening = next(opening for opening, *_ in CHECKS if question.startswith(opening))
                said = [cue.split(": ")[-1] for cue in question.removeprefix(opening + " ").rstrip(".").split(". ")]
                assert len(said) == int(kind[-1])
                assert (reply in ("yes", "True")) == all(cue in cues(scene).values() for cue in said)


def test_fog_hides_flag_and_landmark():
    place, rng = places()[0], random.Random(0)
    foggy = scene_of(place, rng, 1.0)
    assert not foggy.localizable and foggy.country is None
    assert describe(place, foggy, rng).error == "fog"
    assert draw(foggy, random.Random(1)).getcolors(100000) is not None
