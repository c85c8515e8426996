"""What verify reads out of a chain's text: each check on cases whose answer is plain."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.verify import looks, place, text
from gre.geo.places import gazetteer
from gre.geo.point import LatLon, distance_km
from gre.text.prompts import COT_INSTRUCTION, TEACHER_INSTRUCTION

PARIS, STRASBOURG, SAN_JUAN = LatLon(48.8566, 2.3522), LatLon(48.5734, 7.7521), LatLon(18.4655, -66.1057)
ATLANTA, MEXICO_CITY, SPITSBERGEN = LatLon(33.749, -84.388), LatLon(19.4326, -99.1332), LatLon(78.9, 16.0)


@pytest.fixture(scope="module")
def places():
    return gazetteer(15000)


@pytest.mark.parametrize("chain, good", [
    ("The signs are in French, and the plates have a blue band at either end. So this is Paris.", True),
    ("Die Schilder sind auf Deutsch, und die Häuser haben rote Dächer. Also ist das München.", False),
    ("Les panneaux sont en français et la plaque est bleue. Donc c'est Paris.", False),
    ("看起来像是日本的街道，招牌上写着日文。所以是东京。", False), ("", False),
    ("The sign says „Straße gesperrt“, which is German for a road that is closed to the traffic.", True)])
def test_language(chain, good):
    assert (text.language(chain) == "") == good


@pytest.mark.parametrize("chain, good", [
    ("So it is at 48.85, 2.35.", False), ("It is at 48°51'N, 2°21'E.", False),
    ("The latitude is about 48.86. The longitude must be near 2.33.", False),
    ("Rua 25 de Abril 12, 14 is on the sign, and bus 48 goes there.", True),
    ("The price is 3.50, 4.20 euros a kilo.", True), ("It is between 40 and 50 degrees north.", True),
    ("It might be New York, 40.71, -74.01, but it is not.", True)])
def test_coordinates(chain, good):
    assert (text.coordinates(chain, PARIS) == "") == good


def test_echo():
    assert text.echo("I reason step by step about architecture and street furniture, text on signs.", COT_INSTRUCTION)
    assert not text.echo("There are signs, plates, palms and a bus. The kerbs are high.", COT_INSTRUCTION,
                         TEACHER_INSTRUCTION)


@pytest.mark.slow
@given(st.text(max_size=300))
def test_no_text_breaks_a_check(chain):
    for said in (text.form(chain), text.length(chain, 1, 100), text.language(chain), text.coordinates(chain, PARIS),
                 text.echo(chain, COT_INSTRUCTION)):
        assert isinstance(said, str)


@pytest.mark.slow
@pytest.mark.parametrize("chain, truth, wrong", [
    ("It could be Spain. So this is Paris, France.", PARIS, ""),
    ("It could be France. So this is Madrid, Spain.", PARIS, "comes to Spain, and the photo is from France"),
    ("Is it Spain? The café is in Montmartre, Paris.", PARIS, ""), ("So it is Île-de-France.", PARIS, ""),
    ("It is somewhere in the south.", PARIS, "names no country"), ("So this is Germany.", STRASBOURG, ""),
    ("So this is the United States.", SAN_JUAN, ""), ("So it is Atlanta, Georgia.", ATLANTA, ""),
    ("So it is Tbilisi, Georgia.", PARIS, "comes to Georgia"),
    ("Not Guatemala. So Mexico City.", MEXICO_CITY, ""), ("So it is New Mexico.", PARIS, "names no country"),
    ("We ate turkey and chad.", PARIS, "names no country"), ("So it is Svalbard, Norway.", SPITSBERGEN, "")])
def test_place(places, chain, truth, wrong):
    said = place.place(chain, truth, places, 50.0)
    assert said.startswith(wrong) and bool(said) == bool(wrong)


@pytest.mark.slow
def test_cities_around_a_point_are_those_within_the_distance(places):
    for point, km in ((PARIS, 30.0), (LatLon(-17.8, 179.9), 400.0), (LatLon(89.0, 0.0), 3000.0)):
        wanted = {city.id for city in places.cities if distance_km(point, city.point) <= km}
        found = places.around(point, km)
        assert {city.id for city in found} <= wanted and len(wanted) - len(found) <= 2  # some stand on one another
        assert [city.population for city in found] == sorted((city.population for city in found), reverse=True)


def test_what_the_looker_says():
    assert looks.not_localizable('{"told": true}') == ""
    assert looks.not_localizable('```json\n{"told": false, "why": "fog"}\n```') == "the place cannot be told: 'fog'"
    assert looks.invented(*looks.seen('{"seen": ["a tram", "a sign"], "unseen": ["palms"]}'), 0.6) == ""
    assert looks.invented(*looks.seen('{"seen": ["a tram"], "unseen": ["palms"]}'), 0.6) == (
        "50% of what it names is there; not 'palms'")
    assert looks.invented([], [], 0.0) == "names nothing that could be in the photo"
    for reply in ("yes", "[]", '{"told": "yes"}', '{"seen": ["a"]}', '{"seen": [1], "unseen": []}'):
        with pytest.raises(ValueError):
            looks.not_localizable(reply)
        with pytest.raises(ValueError):
            looks.seen(reply)
