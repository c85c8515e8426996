"""The one place a completion answers with, by name, by coordinates or by both.

Two places in one answer are no answer, however they are written: two names under one label, `Paris or Lyon`, `Paris
(or Lyon)`, `Paris, Lyon`, or the names of one place and the coordinates of another. Cities that lie no farther apart
than ONE_PLACE_KM are one place, and so are a city and what says where it is: `Montmartre, Paris`, `Paris, Texas`; a
territory and its state; and names of one place in several spellings, under one label, too: `Munich / München`.

What stands behind the first label is another guess, too, where it names another place than the one answered, and

- the line is nothing but names of places: `Lyon`, `- Lyon, France`, `city: Lyon`; or
- words of guessing stand before it, at the beginning of a line, a sentence or what a comma or a bracket sets off:
  `Alternatively: Lyon`, `alternative city: Lyon`, `It could also be Lyon`.

A line that says the answer's own country, region or city again is none, and neither is prose that names other places:
`The tower is higher than that of Lyon.`
"""
import re
from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import NamedTuple

from gre.geo import names as spelling
from gre.geo.cities import City, Country, names_of_all_places
from gre.geo.places import ONE_PLACE_KM, TERRITORIES, Gazetteer, Match, is_code
from gre.geo.point import LatLon, distance_km
from gre.text.answers import parse_answer, split_completion
from gre.text.coordinates import ambiguous
from gre.text.named import LABEL, Names, names_said

SAME_PLACE_KM = 200.0  # between the city named and the coordinates beside it: farther apart they are two places
LARGE = 100_000  # people of a city that is looked for in any country and by all its names; those of others are any word
LONGEST_NAME = 5  # words of a name that is looked for in a guess
_BETWEEN = re.compile(r"\s*(?:[/;|&,:()\[\]]|\s[-–—]\s|\b(?:or|and|and/or)\b)\s*", re.IGNORECASE)
_HEDGES = re.compile(r"^(?:(?:either|or|and|maybe|perhaps|possibly|probably|likely|alternatively|else)\b[\s,]*)+",
                     re.IGNORECASE)
_START = r"(?:^|[.!?,;|({\[])[^\w\n]{0,8}"
_GUESS = re.compile(
    rf"{_START}(?:(?:it|this|that|the (?:place|photo|picture|image|location|city|country)) )?(?:(?:is|or|and|but) )*"
    r"(?:alternat\w*|alt|else|otherwise|if (?:not|wrong)|failing that|runner[- ]up|(?:city|country)[ _]?[2-9]|"
    r"(?:could|might|may) (?:(?:also|well|even) )*be(?! confused| mistaken)|"
    r"(?:second|2nd|third|3rd|next|other|another|backup|fallback|less likely)[ _-](?:(?:best|likely|possible)[ _-])?"
    r"(?:guess|choice|option|candidate|possibilit|answer|"
    r"(?:cit|countr|place)[a-z]*(?=\W*[:=]|\W+[-–—]|\W+(?:is|are|(?:could|might|may|would) be)\b))[a-z]*)(?![^\W_])"
    r"(?P<rest>.*)",
    re.IGNORECASE | re.MULTILINE)
_MAYBE = re.compile(rf"{_START}(?:(?:or|maybe|perhaps|possibly|probably|likely)\b\W{0,8})+(?:(?:in|the) )*(?P<rest>.*)",
                    re.IGNORECASE | re.MULTILINE)  # a name must follow at once
_SAYS = re.compile(r"^(?:(?:final |best )?(?:country|city|location|place|answer|guess|prediction)\b|[\W\d_])+",
                   re.IGNORECASE)
_NO_NAMES = {"old town", "downtown", "north", "south", "east", "west", "central", "no", "of", "nice", "bay", "island",
             "port", "temple", "university", "market", "car", "vine", "thai", "metro", "marina", "forest", "spring",
             "bar", "bank", "airport", "fountain", "dome", "union", "liberty",
             "name"}  # that places have, and that mean none on a line of their own
_WORD = re.compile(r"[^\W\d_]+(?:['’.-][^\W\d_]+)*")


class OnePlace(NamedTuple):
    """The one place a completion answers with: by name, and where that is: the coordinates it gives, else those of the
    city named. None for what it does not say."""

    names: Names
    point: LatLon | None


def read(text: str, gazetteer: Gazetteer) -> OnePlace | None:
    """The place of a completion; None where it says two."""
    said, answer = names_said(text), split_completion(text)[1] or ""
    if ambiguous(answer):
        return None
    countries, cities = said.values()
    country = _one_name(countries, gazetteer.country)
    city = _one_name(cities, partial(gazetteer.find, country=country or ""))
    if countries and country is None or cities and city is None:
        return None
    place = one_place(Names(country, city), parse_answer(text), gazetteer)
    return None if place is None or _guesses_on(answer, place.names, gazetteer) else place


def _one_name(said: list[str], find: Callable[[str], Match]) -> str | None:
    """The name under a label; of several that mean one place the one that says it best."""
    if len(said) < 2:
        return said[0] if said else None
    whole = find(" / ".join(said))
    return next((name for name in said if find(name).place == whole.place), None) if whole.status == "found" else None


def one_place(names: Names, point: LatLon | None, gazetteer: Gazetteer) -> OnePlace | None:
    """The place of names, and of coordinates where there are some; None where they say two."""
    country, city = names
    at_home = partial(gazetteer.find, country=country or "")

    def anywhere(name: str) -> Match[City]:  # `Munich, London` in Germany
        match = at_home(name)
        if match.status != "miss" or is_code(name) or not gazetteer.so_called(name)[2]:
            return match
        other = gazetteer.find(name)
        return other if other.place and other.place.population >= LARGE else match

    if country and _several(country, gazetteer.country) or city and _several(city, anywhere):
        return None
    match = at_home(city) if city else None
    if point is not None and _elsewhere(point, country, match, gazetteer):
        return None
    return OnePlace(names, point or (match.place.point if match and match.status == "found" else None))


def _several(name: str, find: Callable[[str], Match]) -> bool:
    """Whether a name is that of two places: `Paris or Lyon`, but not `Bosnia and Herzegovina`, and not `Paris, Texas`.
    """
    whole = find(name)
    if whole.status == "tie":
        return False
    rest = re.findall(r"[(\[]([^)\]]*)[)\]]", name)  # the gazetteer does not look into brackets
    written = [*whole.ignored, *rest] if whole.status == "found" else [name]
    parts = [_HEDGES.sub("", part) for text in written for part in _BETWEEN.split(text)]
    if not spelling.not_in_but_near(name):  # `Chartres (near Paris)`, but not `near Lyon or Paris`
        parts = [part for part in parts if not spelling.not_in_but_near(part)]
    matches = [find(part) for part in parts if part] + [whole]
    places = {match.place for match in matches if match.status == "found" and match.how != "typo"}
    return any(_apart(a, b) for a, b in combinations(places, 2))


def before_where(name: str, gazetteer: Gazetteer) -> str:
    """The name without what says where it is, for places that no gazetteer has: Banff of `Banff, Alberta`, Hallstatt of
    `Hallstatt (near Salzburg)`. Whole where another populated place is named: `Banff, Jasper`."""
    parts = [_HEDGES.sub("", part) for part in _BETWEEN.split(name) if spelling.fold(part)] or [name]
    for part in parts[1:]:
        codes, regions, cities = gazetteer.so_called(part)
        if not (codes or regions) and (cities or spelling.fold(part) in names_of_all_places()):
            return name
    return parts[0]


def _apart(a: City | Country, b: City | Country) -> bool:
    """Two countries are, but for a territory and its state, and two cities that are no neighbours."""
    if isinstance(a, City) and isinstance(b, City):
        return distance_km(a.point, b.point) > ONE_PLACE_KM
    return b.code not in TERRITORIES.get(a.code, ()) and a.code not in TERRITORIES.get(b.code, ())


def _guesses_on(answer: str, names: Names, gazetteer: Gazetteer) -> bool:
    """Whether an answer goes on with a guess of another place than the one of the names; see the head of the file."""
    country = gazetteer.country(names.country or "")
    city = gazetteer.find(names.city or "", names.country or "")
    homes = {place.country for place in city.candidates if city.status != "miss"} | {
        place.code for place in country.candidates}
    label = LABEL.search(answer) or re.search("<(?:country|city)>", answer, re.IGNORECASE)
    if not homes or not label:
        return False
    homes |= {land for state, lands in TERRITORIES.items() for land in (state, *lands) if homes & {state, *lands}}
    own = {spelling.fold(name) for name in names if name}
    cities = city.candidates if city.status != "miss" else ()
    own_regions = {(place.country, place.region) for place in cities}

    def elsewhere(name: str, guessed: bool = False) -> bool | None:
        """None for what names nothing. guessed: behind words of guessing, where Osaka is the city."""
        folded = spelling.fold(name)
        codes, regions, called = gazetteer.so_called(name)
        if guessed and cities and any(one.population >= LARGE for one in called):
            regions = regions & own_regions
        if folded in own or codes & homes or {code for code, _ in regions} & homes:
            return False
        if any(distance_km(one.point, place.point) <= ONE_PLACE_KM for one in called for place in cities) or (
                names.city is None and any(one.country in homes for one in called)):
            return False
        meant = [one for one in called if not is_code(name) and (one.population >= LARGE or (
            one.country in homes and spelling.fold(one.name) == folded))]
        named = bool(codes or meant) and folded not in _NO_NAMES and not spelling.larger_than_countries(folded)
        return True if named else False if regions or spelling.larger_than_countries(folded) else None

    for line in answer[label.start():].split("\n")[1:]:
        line = spelling.unhedged(" ".join(_SAYS.sub("", line).split()))
        parts = [_HEDGES.sub("", part) for part in _BETWEEN.split(line) if spelling.fold(part)]
        said = [elsewhere(part) for part in parts if part]
        if spelling.fold(line) not in own and None not in said and any(said):
            return True
    guessed = partial(elsewhere, guessed=True)
    guesses = [_first_names(guess["rest"], guessed) for guess in _GUESS.finditer(answer, label.end())]
    maybes = [_first_names(guess["rest"], guessed, 1) for guess in _MAYBE.finditer(answer, label.end())]
    return any(map(any, guesses + maybes))


def _first_names(text: str, named: Callable[[str], bool | None], words: int | None = None) -> list[bool]:
    """What `named` says of the names it knows, the longest first, that begin with one of a text's first words (None:
    with any). No name begins with a small letter."""
    said, at, written = [], 0, _WORD.findall(text)
    while at < len(written[:words]):
        long = range(LONGEST_NAME, 0, -1) if not written[at][0].islower() else ()
        for length in long:
            if (one := named(" ".join(written[at:at + length]))) is not None:
                said.append(one)
                at += length - 1
                break
        at += 1
    return said


def _elsewhere(point: LatLon, country: str | None, city: Match[City] | None, gazetteer: Gazetteer) -> bool:
    """Whether coordinates lie in another place than the one named. Of a city that may be several, none is near; of a
    country, no city is near, and another one's is the nearest."""
    if city and city.status != "miss":
        return all(distance_km(point, place.point) > SAME_PLACE_KM for place in city.candidates)
    named = gazetteer.country(country) if country else None
    if named is None or named.status == "miss":
        return False
    codes = {code for place in named.candidates for code in (place.code, *TERRITORIES.get(place.code, ()))}
    near = (*gazetteer.nearest_cities([point]), *gazetteer.around(point, SAME_PLACE_KM))
    return not any(place.country in codes for place in near)
