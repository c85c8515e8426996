"""R_geo by hand: names that mean one place, places that share letters, two places in one answer, and the released
rule."""
from dataclasses import dataclass

import pytest

from gre.geo.places import gazetteer
from gre.geo.point import LatLon
from gre.rewards.answers import Answers
from gre.rewards.gps import DistanceConfig
from gre.rewards.place import MIN_POPULATION, PlaceConfig, named_distance_rewards, place_rewards
from gre.text.named import Names, same_to_globe

GAZETTEER = gazetteer(MIN_POPULATION)
OURS, UPSTREAM = PlaceConfig(), PlaceConfig(match="upstream")


@dataclass
class Row:
    names: Names
    truth: LatLon = LatLon(48.14, 11.58)


def paid(answer: str, country: str, city: str, config: PlaceConfig = OURS) -> float:
    text = answer if "<" in answer else f"<think>x</think><answer>{answer}</answer>"
    return place_rewards(config, GAZETTEER, [Answers(Row(Names(country, city)), [text], [True])])[0][0]


@pytest.mark.parametrize("answer, country, city", [
    ("country: Germany\ncity: München", "Germany", "Munich"),
    ("country: Deutschland\ncity: Munich", "Germany", "München"),
    ("country: USA\ncity: New York City", "United States", "New York"),
    ("country: United States of America, city: New York", "USA", "New York City"),
    ("Country: Finland,  City: Helsinki", "Finland", "Helsinki"),
    ("country: UK\ncity: City of London", "United Kingdom", "London"),
    ('{"country": "Côte d’Ivoire", "city": "Abidjan"}', "Ivory Coast", "Abidjan"), ("Kyoto, Japan", "Japan", "Kyoto"),
    ("country: 日本; city: 京都市", "Japan", "Kyoto"), ("country: Niger\ncity: Niamey", "Niger", "Niamey"),
    ("country: United States\ncity: Springfield", "USA", "Springfield"),     # which one nobody says, on either side
    ("country: Peru\ncity: Zzyzx-sur-Mer", "Peru", "zzyzx sur mer"),         # in no gazetteer: spelled alike
    ("country: Trinidad and Tobago\ncity: Port of Spain", "Trinidad and Tobago", "Port of Spain"),
    ("country: USA\ncity: Paris, Texas", "United States", "Paris, TX"),
    ("country: USA\ncity: San Juan, Puerto Rico", "Puerto Rico", "San Juan"),
    ("country: Germany\ncity: Munich\n48.1, 11.6", "Germany", "Munich"),
    ("country: United States of America (USA)\ncity: Boston, MA", "United States", "Boston"),
    ("country: France (FR)\ncity: Paris (75001)", "France", "Paris"),
    ("country: [France]\ncity: [Paris]", "France", "Paris"),
    ("country: England, United Kingdom\ncity: London", "United Kingdom", "London"),
    ("country: UK, Scotland\ncity: Edinburgh", "United Kingdom", "Edinburgh"),
    ("country: California, USA\ncity: Los Angeles", "United States", "Los Angeles"),
    ("country: Hawaii, USA\ncity: Honolulu", "United States", "Honolulu"),
    ("country: Finland, Europe\ncity: Helsinki", "Finland", "Helsinki"),
    ("country: Probably Finland\ncity: probably Helsinki", "Finland", "Helsinki"),
    ("country: Georgia (USA)\ncity: Atlanta", "United States", "Atlanta"),
    ("country: Puerto Rico, USA\ncity: San Juan", "Puerto Rico", "San Juan"),
    ("country: Puerto Rico (USA)\ncity: San Juan", "United States", "San Juan, Puerto Rico"),
    ("country: Hong Kong (China)\ncity: Hong Kong", "Hong Kong", "Hong Kong"),
    ("country: Greenland (Denmark)\ncity: Nuuk", "Greenland", "Nuuk"),
    ("country: Reunion (France)\ncity: Saint-Denis", "Reunion", "Saint-Denis"),
    ("country: French Polynesia, France\ncity: Papeete", "French Polynesia", "Papeete"),
    ("city: Munich\ncity: München\ncountry: Germany", "Germany", "Munich"),
    ("country: USA\ncountry: United States\ncity: Boston", "United States", "Boston"),
    ("country: USA\ncountry: Puerto Rico\ncity: San Juan", "Puerto Rico", "San Juan"),
    ("country: Belgium\ncity: Brussels/Bruxelles", "Belgium", "Brussels"),
    ("country: Japan / 日本\ncity: Tokyo / 東京", "Japan", "Tokyo"), ("Tokyo (Japan)", "Japan", "Tokyo"),
    ("country: India\ncity: Delhi", "India", "New Delhi"), ("country: India\ncity: New Delhi", "India", "Delhi"),
    ("<think>x</think><answer><country>Finland</country><city>Helsinki</city></answer>", "Finland", "Helsinki"),
    ("country (likely): Finland\ncity (best guess): Helsinki", "Finland", "Helsinki"),
    ("country: Mexico\ncity: Mexico City - Centro", "Mexico", "Mexico City"),
    ("country: USA\ncity: New York City (Manhattan)", "United States", "New York"),
    ("country: France\ncity: near Lyon", "France", "Lyon"), ("country: France\ncity: Lyon region", "France", "Lyon"),
    ("country: Italy\ncity: Outskirts of Florence, Tuscany", "Italy", "Florence"),
    ("country: France\ncity: Chartres (near Paris)", "France", "Chartres"),    # 80 km off: where, not what
    ("country: USA\ncity: San Francisco Bay Area", "United States", "San Francisco"),
    ("country: Finland\ncity: Helsinki or a similar city", "Finland", "Helsinki"),
    ("country: Sweden\ncity: Stockholm and its surroundings", "Sweden", "Stockholm"),
    ("country: Germany\ncity: The city is likely Munich", "Germany", "Munich"),
    ("country: Germany\ncity: Berlin (Kreuzberg)", "Germany", "Berlin"),     # Berlin Kreuzberg has an entry of its own
    ("country: USA\ncity: Denver or another city in Colorado", "United States", "Denver"),
    ("country: Germany\ncity: Munich. The twin towers are those of the church.", "Germany", "Munich"),
    ("country: USA\ncity: St. Louis. The arch is seen.", "United States", "St. Louis"),
    ("country: Norway/Scandinavia\ncity: Oslo", "Norway", "Oslo"),
    ("Country/Region: Japan\nCity/Town: Tokyo", "Japan", "Tokyo"),
    ("Country: Japan\nCity or region: Tokyo", "Japan", "Tokyo"),
    ("Country name: Japan\nCity name: Tokyo", "Japan", "Tokyo"),
    # letters of regions: QC is Quezon City, D.C. Washington, NL the Netherlands elsewhere
    ("country: Canada\ncity: Montreal, QC", "Canada", "Montréal"),
    ("country: Colombia\ncity: Bogotá, D.C.", "Colombia", "Bogotá"),
    ("country: Canada\ncity: St. John's, NL", "Canada", "St. John's"),
    ("country: Australia\ncity: Perth, WA", "Australia", "Perth"), ("Vancouver, BC, Canada", "Canada", "Vancouver"),
    # in no gazetteer of 15,000 people, and where it is
    ("country: Canada\ncity: Banff, Alberta", "Canada", "Banff"),
    ("country: Austria\ncity: Hallstatt (near Salzburg)", "Austria", "Hallstatt"),
    ("country: Ireland\ncity: Killarney, Co. Kerry", "Ireland", "Killarney"),
    # No city of 15,000 people; the nearest is Swiss, but France is near.
    ("country: France\ncity: Ferney-Voltaire\n46.2558, 6.1081", "France", "Ferney-Voltaire")])
def test_names_of_one_place_earn_all(answer, country, city):
    assert paid(answer, country, city) == 1.0


@pytest.mark.parametrize("answer, country, city, reward", [
    ("country: Germany\ncity: Berlin", "Germany", "Munich", 0.2), ("country: Germany", "Germany", "Munich", 0.2),
    ("country: Germany\ncity: unknown", "Germany", "Munich", 0.2),
    ("country: United States\ncity: Springfield, Illinois", "USA", "Springfield", 0.2),  # which one the row means?
    ("country: Canada\ncity: Banff, Jasper", "Canada", "Banff", 0.2),       # two places, which no gazetteer has
    ("country: Canada\ncity: Banff or Jasper", "Canada", "Banff", 0.2),
    ("country: United States\ncity: Portland, Ohio", "USA", "Portland", 0.2),
    ("country: France\ncity: Munich", "Germany", "Munich", 0.0), ("city: Munich", "Germany", "Munich", 0.0),
    ("country: Germany\ncity: Thale", "Germany", "Halle", 0.2),             # a town of its own, and no typo
    ("country: France\ncity: Versailles", "France", "Paris", 0.2),          # 17 km off, and not called Paris
    ("country: Nigeria\ncity: Niamey", "Niger", "Niamey", 0.0),
    ("country: Niger\ncity: Lagos", "Nigeria", "Lagos", 0.0),
    ("country: Austria\ncity: Sydney", "Australia", "Sydney", 0.0),
    ("48.14, 11.58", "Germany", "Munich", 0.0), ("", "Germany", "Munich", 0.0),
    ("<think>country: Germany\ncity: Munich", "Germany", "Munich", 0.0)])  # a chain that never ends
def test_other_places_earn_what_is_right_of_them(answer, country, city, reward):
    assert paid(answer, country, city) == pytest.approx(reward)


@pytest.mark.parametrize("answer", [
    "country: Germany\ncity: Munich\ncity: Berlin", "country: Germany\ncountry: France\ncity: Munich",
    "country: Germany\ncity: Munich or Berlin", "country: Germany\ncity: Munich, Berlin",
    "country: Germany\ncity: Munich / Hamburg", "country: Germany\ncity: Munich (or Hamburg)",
    "country: Germany\ncity: Munich, possibly Hamburg", "country: Germany\ncity: Munich, or Augsburg, or Ulm",
    "country: Germany\ncity: Munich\nor Augsburg", "country: Germany\nor Austria\ncity: Munich",
    "country: Germany\ncity: near Munich or Berlin",
    "country: Germany\ncity: Munich, Germany or Berlin, Germany", "country: Germany\ncity: Munich & Augsburg",
    "country: Germany\ncity: Munich\n48.1, 11.6 or 52.5, 13.4", "country: Germany or France\ncity: Munich",
    "country: Germany\ncity: Munich (or the City of London)", "country: Germany\ncity: Munich, London",
    "country: France, Germany\ncity: Munich",
    "country: Germany\ncity: Munich\n-33.9, 151.2", "country: Germany\n35.7, 139.7",
    '[{"country": "Germany", "city": "Munich"}, {"country": "Germany", "city": "Berlin"}]'])
def test_two_places_are_no_answer(answer):
    assert paid(answer, "Germany", "Munich") == 0.0
    row = Answers(Row(Names("Germany", "Munich")), [f"<answer>{answer}</answer>"], [True])
    assert named_distance_rewards(DistanceConfig(), GAZETTEER, [row]) == [[0.0]]


ANSWER = "country: France\ncity: Paris"


@pytest.mark.parametrize("more", [
    "\nLyon", "\n- Lyon", "\n**Lyon**", "\n2. Lyon", "\nMünchen", "\n\nGermany, Berlin", "\nTokyo (Japan)", "\nUSA",
    "\nLyon / Marseille", "\ncity 2: Lyon", "\ncity (alternative): Lyon", "\nalternative city: Lyon",
    "\nLocation: Berlin, Germany", "\n<city>Lyon</city>", "; alternative city: Lyon", ", alternative: Lyon",
    " | second guess: Lyon", "\nAlternatively: Lyon, France", "\nAlternatively, it might be Lyon.", "\nelse Lyon",
    "\nif not, Lyon", "\nIf wrong: Springfield", "\n(or Lyon)", "\nor in Lyon", "\nPossibly Lyon",
    "\nIt could also be Lyon", "\nAnother city: Lyon", "\nAnother country is Belgium",
    "\nSecond guess: Brussels, Belgium", "\nother possibilities - Lyon or Nice"])
def test_a_second_guess_behind_an_answer_is_a_second_place(more):
    assert paid(ANSWER + more, "France", "Paris") == 0.0


@pytest.mark.parametrize("answer, reward", [
    ("country: Japan\ncity: Tokyo\n\nAlternatively, it could be Osaka.", 0.0),  # not the region
    ("country: Germany\ncity: Munich\n\nIt could also be Bavaria.", 1.0)])
def test_a_guess_that_is_a_region_too_is_the_city(answer, reward):
    country, city = ("Japan", "Tokyo") if "Japan" in answer else ("Germany", "Munich")
    assert paid(answer, country, city) == reward


@pytest.mark.parametrize("more", [
    "\nParis", "\n- Paris\n- France", "\nParis, France", "\nFinal answer: Paris, France", "\n48.86, 2.35",
    "\nMontmartre",
    "\nregion: Île-de-France", "\nÎle-de-France", "\nEurope", "\ncontinent: Western Europe", "\nBoulogne-Billancourt",
    "\nThe tower is higher than that of Lyon.", "\nIt is not Lyon or Marseille, because of the tower.",
    "\n\nReasoning: the signs are in French, as in Belgium.", "\nNice", "\nOld Town", "\nnearest city: Lyon",
    "\nConfidence: high", "\nPerhaps near the border with Belgium", "\nIt could be confused with Lyon",
    "\nIt could be Paris in the spring", "\nMaybe Montmartre", "\n- Car\n- Metro\n- Forest\n- Bar", "\nBrick\nHonda",
    "\nOther countries such as Germany have similar buildings.", "\nPerhaps March", "\nnear Brussels",
    "\nAnother country with such signs is Belgium, but the script differs.",
    "\nThe architecture, or what I see of it, is French"])
def test_what_goes_with_an_answer_is_no_second_place(more):
    assert paid(ANSWER + more, "France", "Paris") == 1.0


@pytest.mark.parametrize("more", ['"alternative_city": "Lyon"', '"alternatives": ["Lyon", "Nice"]', '"city_2": "Lyon"'])
def test_a_second_guess_in_json(more):
    answer = '{"country": "France", "city": "Paris"'
    assert paid(f"{answer}, {more}}}", "France", "Paris") == 0.0
    assert paid(f'{answer}, "region": "Île-de-France", "sure": 0.9}}', "France", "Paris") == 1.0
    assert paid(f"{answer}}}\ncity: Lyon", "France", "Paris") == 0.0


@pytest.mark.parametrize("answer, country, city", [
    ("country: USA\ncity: Atlanta\nGeorgia", "United States", "Atlanta"),
    ("country: USA\ncity: San Juan\nPuerto Rico", "Puerto Rico", "San Juan"),
    ("country: Peru\ncity: Zzyzx-sur-Mer\nZzyzx-sur-Mer, Peru", "Peru", "Zzyzx-sur-Mer")])
def test_a_line_that_says_where_the_answer_lies_is_no_second_place(answer, country, city):
    assert paid(answer, country, city) == 1.0


def test_alpha_is_the_citys_share():
    for alpha in (0.0, 0.5, 1.0):
        config = PlaceConfig(alpha)
        assert paid("country: Germany\ncity: Munich", "Germany", "Munich", config) == 1.0
        assert paid("country: Germany\ncity: Berlin", "Germany", "Munich", config) == 1 - alpha
    with pytest.raises(ValueError, match="place.alpha is 1.5"):
        PlaceConfig(1.5)
    with pytest.raises(ValueError, match="write gazetteer or upstream"):
        PlaceConfig(match="fuzzy")


def test_a_name_is_rewarded_by_distance_where_no_coordinates_are_said():
    """The gazetteer's Munich is 0.4 km from 48.14, 11.58, and Augsburg about 57 km."""
    texts = [f"<answer>{answer}</answer>" for answer in (
        "country: Germany\ncity: Munich", "country: Germany\ncity: Augsburg",
        "country: Germany\ncity: Munich\n48.5, 11.58", "country: Germany", "country: Germany\ncity: Zzyzx")]
    row = Answers(Row(Names("Germany", "Munich")), texts, [True] * 5)
    rewards = named_distance_rewards(DistanceConfig("piecewise"), GAZETTEER, [row])[0]
    assert rewards[0] == 1.0 and rewards[1] == pytest.approx(0.8 - 0.2 * (57 - 25) / 175, abs=0.01)
    assert rewards[2] == pytest.approx(0.8 - 0.2 * (40.03 - 25) / 175, abs=1e-3) and rewards[3:] == [0.0, 0.0]


@pytest.mark.parametrize("a, b, same", [
    ("lyon", "Lyon", True), ("LYON", "lyon", True), ("", "", False), ("", "lyon", False),
    ("abcdefg", "abcdefghij", True), ("abcdef", "abcdefghij", False),  # 0.7 of the length, and 0.6
    ("defghij", "abcdefghij", True), ("cdefghi", "abcdefghij", True), ("acdefgh", "abcdefghij", False),
    ("bristol", "Bristol UK", True), ("hamburg", "Hamburger", True),  # 0.7, and 0.78
    ("niger", "Nigeria", True), ("new york", "New York City", False), ("usa", "United States", False),
    ("munich", "München", False), ("roma", "Rome", False)])
def test_the_released_comparison_both_ways(a, b, same):
    assert same_to_globe(a, b) is same_to_globe(b, a) is same


@pytest.mark.parametrize("answer, country, city, upstream, ours", [
    ("country: Finland,  city: Helsinki", "Finland", "Helsinki", 0.0, 1.0),  # the paper's own answer
    ("Country: Finland\nCity: Helsinki", "Finland", "Helsinki", 0.0, 1.0),
    ("country: USA\ncity: Boston", "United States", "Boston", 0.0, 1.0),
    ("country: Germany\ncity: München", "Germany", "Munich", 0.2, 1.0),
    ("country: United States\ncity: New York City", "United States", "New York", 0.2, 1.0),
    ("country: Nigeria\ncity: Lagos", "Niger", "Lagos", 1.0, 0.0),           # Niger is Nigeria to it
    ("country: Peru\ncity: Lima", "Peru", "Lima", 1.0, 1.0), ("country: Peru\ncity: Cusco", "Peru", "Lima", 0.2, 0.2),
    ("country: Chile\ncity: Lima", "Peru", "Lima", 0.0, 0.0),
    ("country: Peru\ncity: Lima\ncity: Cusco", "Peru", "Lima", 1.0, 0.0),    # the first of two places counts
    ("country: Peru\ncity: Lima", "Peru", "", 0.2, 0.2)])
def test_every_defect_of_the_released_rule_is_there_with_upstream_and_mended_without(answer, country, city, upstream,
                                                                                    ours):
    assert paid(answer, country, city, UPSTREAM) == pytest.approx(upstream)
    assert paid(answer, country, city) == pytest.approx(ours)


def test_the_released_reward_reads_no_answer_without_tags():
    assert paid("<think>x</think>country: Peru\ncity: Lima", "Peru", "Lima", UPSTREAM) == 0.0
    assert paid("<think>x</think>country: Peru\ncity: Lima", "Peru", "Lima") == 1.0
