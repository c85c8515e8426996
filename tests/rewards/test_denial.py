"""What a chain denies: every kind beside a sentence like it that must stay a claim."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gre.rewards.grounding import GroundingConfig, Vocabulary, grounding_reward

NAMES = ("palm tree", "car", "church", "bus", "snow", "boat", "tram", "bridge")
KNOWN = Vocabulary([NAMES])


def claimed(chain: str) -> list[str]:
    return sorted(name for claim in KNOWN.claims(chain) for name in NAMES if (*name.split(),) in claim)


@pytest.mark.parametrize("denied, true, things", [
    ("zero cars", "zero degrees and cars", ["car"]),
    ("There are zero cars, zero buses and zero churches.", "There are cars, buses and a church",
     ["bus", "car", "church"]),
    ("0 cars", "10.0 cars", ["car"]),
    ("there aint cars", "there are cars", ["car"]),
    ("Unable to see snow, boats, trams", "Unable to read the plate, palm trees line the road", ["palm tree"]),
    ("fails to show a car", "A bus failed to stop at the church", ["bus", "church"]),
    ("Rather than snow", "Cars rather than buses", ["car"]),
    ("instead of palm trees", "cars instead of palm trees", ["car"]),
    ("Unlike snow", "Unlike Spain, palm trees line it", ["palm tree"]),
    ("If there were snow, boats and bridges", "If you look closely, palm trees are visible", ["palm tree"]),
    ("If there were snow, boats, it would be Oslo", "If there were snow, the cars would be white", ["car"]),
    ("I wonder if there is a church", "even if the church is small", ["church"]),
    ("Buses are not.", "Buses are not red.", ["bus"]),
    ("The buses aren't", "The buses aren't red", ["bus"]),
    ("palm trees are lacking", "The church is lacking a roof", ["church"]),
    ("palm trees (none)", "palm trees (none of them tall)", ["palm tree"]),
    ("cars – none", "cars – two", ["car"]),
    ("Cars? None.", "Signs: none. Transport: car.", ["car"]),
    ("cars, buses, and churches are not visible", "cars, buses, and churches are visible", ["bus", "car", "church"]),
    ("cars, buses and churches are absent", "A church, snow is absent", ["church"]),
    ("palm trees, cars, and boats cannot be seen", "A church, a car, and no boat is seen", ["car", "church"]),
    ("because cars, buses and boats are missing", "I see palm trees, a car, and snow is absent", ["car", "palm tree"]),
    ("cars, buses and churches: none", "cars, and no buses", ["car"]),
    ("cars, buses and boats aren't there", "cars, buses and a boat that isn't there", ["bus", "car"]),
    ("but cars, buses and churches are not", "Here are cars, buses and a church is not visible", ["bus", "car"]),
    ("no cars but no buses", "not only cars but buses", ["bus", "car"]),
    ("Snow isn't visible", "Snow is not only visible but deep", ["snow"]),
    ("the absence of snow", "the absence of snow suggests palm trees", ["palm tree"]),
    ("There are no cars and buses on a bridge", "There are no cars on the bridge", ["bridge"]),
    ("It is not on the bridge", "There is no snow behind the old church", ["church"]),
    ("Cars are not clearly visible", "The bridge doesn't have any visible signs", ["bridge"]),
    ("It is not in the snow", "There are no cars in the snow", ["snow"]),
    ("I see no cars and no buses", "There are no cars and the church is old", ["church"]),
    ("There are no cars and buses", "The cars are not new and the bus is old", ["bus", "car"]),
    ("no cars and trams", "The road has no signs and is lined with palm trees", ["palm tree"]),
    ("no cars and the trams that are usual", "It is not cold and there are palm trees", ["palm tree"]),
    ("not a car and not a bus", "not a car and many buses", ["bus"]),
    ("The lack of snow and boats", "The lack of snow and the presence of palm trees", ["palm tree"]),
    ("If there were snow and the church was white", "It is not cold so the snow is old", ["snow"]),
    ("There would be snow", "There is snow", ["snow"]), ("I would expect snow", "As expected, snow", ["snow"]),
    ("no cars", "not many cars, not much snow, no longer a tram", ["car", "snow", "tram"]),
    ("I cannot see the bus", "I cannot read the bus", ["bus"]), ("no bus", "nothing except a bus", ["bus"]),
    ("None of the cars can be seen", "None of the cars are red", ["car"]),
    ("None of the buses is there", "None of the old buses is red", ["bus"]),
    ("**Cars**: Not visible\n**Trams**: none", "**Cars**: two", ["car"]),
    ("Such trams are not seen in the photo", "Such trams are not seen in Germany", ["tram"]),
    ("Trams are not found in Norway", "Trams like this are never found in the US", ["tram"]),
    ("no clues, such as cars or buses", "clues, such as the bus's number", ["bus"]),
    ("the absence of snow does not suggest palm trees", "A lack of boats and snow indicates a bridge, cars",
     ["bridge", "car"])])
def test_a_denial_and_a_claim_like_it(denied, true, things):
    assert claimed(denied) == [] and claimed(true) == things


def test_a_chain_of_denials_earns_nothing():
    row = ("car", "bus", "church")
    assert grounding_reward("There are zero cars, zero buses and zero churches.", row, KNOWN, GroundingConfig()) == 0.0
    assert grounding_reward("There are cars, buses and a church.", row, KNOWN, GroundingConfig()) == 1.0


@given(st.lists(st.sampled_from(NAMES), min_size=3, max_size=8, unique=True), st.sampled_from(["and", "or", ", and"]),
       st.sampled_from(["are not visible", "cannot be seen", "are absent", "are lacking", "are not", "aren't there"]))
def test_a_list_denied_behind_is_denied_whole_however_long(names, last, denial):
    listed = f"{', '.join(names[:-1])}{'' if last[0] == ',' else ' '}{last} {names[-1]}"
    assert claimed(f"It is dry. {listed} {denial}.") == []
    assert claimed(f"It is dry. {listed} are visible.") == sorted(names)
