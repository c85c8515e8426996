"""Does a chain come to the place where the photo was taken? By the gazetteer.

What counts is the last step that names a country, the region or a city near the photo. A country must be the photo's;
near a border that is any country with a city within BORDER_KM.
"""

from gre.geo import names
from gre.geo.places import TERRITORIES, Gazetteer
from gre.geo.point import LatLon
from gre.text.chains import split_steps

BORDER_KM = 30.0
MOTHERS = {code: mother for mother, codes in TERRITORIES.items() for code in codes}  # Puerto Rico is the USA, too


def place(chain: str, truth: LatLon, places: Gazetteer, near_km: float) -> str:
    """What is wrong, or an empty text. near_km: farthest city that may stand for the place."""
    (nearest,) = places.nearest([truth])
    here = {nearest.country.code, *(city.country for city in places.around(truth, BORDER_KM))}
    here |= {MOTHERS[code] for code in here & MOTHERS.keys()}
    cities = [nearest.city, *places.around(truth, near_km)]
    known = {name for city in cities for name in places.called(city)}
    known |= {names.fold(places.region_name(city)) for city in cities} - {""}
    for step in reversed(split_steps(chain)):
        if named := places.countries_in(step):
            if any(codes & here for codes in named):
                return ""
            said = ", ".join(dict.fromkeys(places.countries[min(codes)].name for codes in named))
            return f"comes to {said}, and the photo is from {nearest.country.name}"
        text = f" {names.fold(step)} "
        if any(len(name) > 3 and f" {name} " in text for name in known):
            return ""
    return f"names no country, and neither the region nor a city near {nearest.city.name}, {nearest.country.name}"
