"""Parts by content, and chains that the gazetteer writes."""
import json
from hashlib import sha256

import pytest

from data_prep import regions, split
from data_prep.photos import Photo
from gre.config import ConfigError, UserError, load
from gre.data.records import DataConfig, read_seed
from gre.geo.places import gazetteer
from gre.geo.point import LatLon
from gre.text.answers import parse_answer
from tests.helpers.seeds import lines, seeds

SHARES = {"cot": 0.5, "judge": 0.25, "seed": 0.25}


def test_a_photo_s_part_follows_from_its_content_alone():
    assert split.part("0" * 64, SHARES) == split.part("7" + "f" * 63, SHARES) == "cot"
    assert split.part("8" + "0" * 63, SHARES) == split.part("b" + "f" * 63, SHARES) == "judge"
    assert split.part("c" + "0" * 63, SHARES) == split.part("f" * 64, SHARES) == "seed"
    thirds = {"cot": 1 / 3, "judge": 2 / 3, "seed": 0.0}
    assert split.part("f" * 64, thirds) == "judge"
    found = [split.part(sha256(str(number).encode()).hexdigest(), SHARES) for number in range(4000)]
    assert [abs(found.count(name) / 4000 - share) < 0.03 for name, share in SHARES.items()] == [True] * 3


def test_shares_that_cannot_be():
    with pytest.raises(ConfigError, match="cot, judge and seed add up to 1.25"):
        load(split.Config, ["seeds=s", "out=o", "cot=0.75"])


@pytest.mark.slow
def test_the_seed_part_is_read_as_stages_read_it(tmp_path):
    made = seeds(tmp_path)
    split.run(split.Config(seeds=str(made), out=str(tmp_path / "split")))
    rows = read_seed(DataConfig(path=str(tmp_path / "split" / "gre_seed.jsonl")))
    wanted = [line for line in lines(made / "sidecar.jsonl") if split.part(line["sha256"], SHARES) == "seed"]
    assert [f"images/{row.image.parent.name}/{row.image.name}" for row in rows] == [one["image"] for one in wanted]
    first = json.loads((made / "seeds.jsonl").read_text().splitlines()[0])
    assert rows and all(f"<image>\n{row.instruction}" == first["instructions"] for row in rows)
    before = (tmp_path / "split" / "gre_seed.jsonl").read_bytes()
    split.run(split.Config(seeds=str(made), out=str(tmp_path / "split")))
    assert (tmp_path / "split" / "gre_seed.jsonl").read_bytes() == before
    with pytest.raises(UserError, match="another shares"):
        split.run(split.Config(seeds=str(made), out=str(tmp_path / "split"), cot=0.25, judge=0.5))
    with pytest.raises(UserError, match="no finished seeds folder"):
        split.run(split.Config(seeds=str(tmp_path), out=str(tmp_path / "other")))


@pytest.mark.parametrize("point, said", [
    (LatLon(48.8584, 2.2945), "Country: France\nRegion: Île-de-France Region\nCity: Paris"),
    (LatLon(-33.8568, 151.2153), "Country: Australia\nRegion: New South Wales\nCity: ")])
def test_a_chain_of_region_names_country_region_and_city(point, said):
    places = gazetteer(15000)
    (near,) = places.nearest([point])
    response = regions.chain_of_region(Photo(1, "", "", "", point), near, places)
    think, _, answer = response.partition("</think>")
    assert think.startswith("<think>Country: ") and [line.split(":")[0] for line in think[7:].split("\n")] == [
        "Country", "Region", "City"]
    assert think.split("\n")[0] == f"<think>{said.splitlines()[0]}" and parse_answer(response) == point
    assert answer == f"<answer>{point.lat_deg:.4f}, {point.lon_deg:.4f}</answer>"


@pytest.mark.slow
def test_every_photo_near_a_city_gets_its_chain(tmp_path):
    made = seeds(tmp_path)
    regions.run(regions.Config(seeds=str(made), out=str(tmp_path / "regions"), min_population=15000))
    rows = lines(tmp_path / "regions" / "chains.jsonl")
    assert [(row["row"], row["kind"], row["teacher"]) for row in rows] == [(n, "region", "gazetteer")
                                                                           for n in range(1, 9)]
    assert "Country: Egypt" in rows[3]["response"] and rows[3]["response"].endswith("30.0444, 31.2357</answer>")
    assert rows[0]["instruction"].startswith("Where was this photo taken? From what can be seen, name the country")
    regions.run(regions.Config(seeds=str(made), out=str(tmp_path / "near"), min_population=15000, within_km=0.2))
    left_out = lines(tmp_path / "near" / "dropped.jsonl")
    assert left_out and len(left_out) + len(lines(tmp_path / "near" / "chains.jsonl")) == 8
    assert all(one["fault"] == "no city near" and "is the nearest, at" in one["why"] for one in left_out)
