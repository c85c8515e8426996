"""R_vis by hand: what counts as a claim, what is found, what gaming it earns, and the released rule."""
from dataclasses import dataclass

import pytest

from gre.rewards.answers import Answers
from gre.rewards.grounding import (
    GroundingConfig,
    Vocabulary,
    forms,
    grounding_reward,
    grounding_rewards,
    upstream_reward,
)

FILE = [("palm trees", "car", "red tower", "flag of Peru"), ("Church", "snow", "bus"), ("tree", "road sign"), ("boat",),
        ()]
SEEN = FILE[0]
VOCABULARY = Vocabulary(FILE)


@dataclass
class Row:
    entities: tuple[str, ...] = SEEN


def paid(chain: str, entities=SEEN, direction="precision", min_entities=1) -> float:
    text = f"<think>{chain}</think><answer>1, 2</answer>"
    config = GroundingConfig(direction, min_entities)
    return grounding_rewards(config, VOCABULARY, [Answers(Row(entities), [text], [True])])[0][0]


@pytest.mark.parametrize("chain, claimed", [
    ("A palm tree stands by the road signs.", 2), ("Palm trees. Palm tree! PALM TREE", 1),
    ("Take care of a careful carpet", 0), ("two cars, and a car", 1), ("buses and a bus", 1), ("churches", 1),
    ("churchyard", 0), ("tree-lined", 0), ("trees", 1),
    ("a tree, and a palm tree", 2), ("", 0), ("the sky", 0), ("Palm-trees", 0),
    ("no palm trees", 0), ("There are no cars or buses.", 0), ("without snow", 0), ("It is not a church", 0),
    ("neither snow nor a church", 0), ("a lack of snow", 0), ("Snow is absent here", 0),
    ("The cars are not to be seen", 0),
    ("I don’t see a church", 0), ("not only cars", 1), ("no snow, palm trees", 1), ("no snow but a church", 1),
    ("No. A church.", 1), ("nobody on the bus", 1), ("A church without snow", 1)])
def test_claims_by_hand(chain, claimed):
    assert len(VOCABULARY.claims(chain)) == claimed


@pytest.mark.parametrize("chain", [
    "Palm trees aren't visible", "Palm trees cannot be seen here", "Palm trees can’t be seen", "Cars were not visible",
    "Palm trees do not appear", "Palm trees are hardly visible", "Palm trees don't seem to be present",
    "Palm trees and cars are not visible", "The church isn't there", "I couldn't see palm trees",
    "It hasn't any cars", "It won't be a church", "Absent are palm trees", "Free of snow", "Devoid of cars",
    "There are no palm trees, churches, or cars", "no palm trees, churches or cars", "no snow, or cars",
    "no trees such as palm trees"])
def test_what_is_denied_is_no_claim(chain):
    assert VOCABULARY.claims(chain) == []


@pytest.mark.parametrize("chain, claimed", [
    ("It is not Spain because palm trees line the road", "palm tree"),
    ("There is no doubt that palm trees are there", "palm tree"),
    ("It is not Lima, since a church is there", "church"), ("not so cold as snow", "snow"),
    ("Not far from the church", "church"), ("nothing but palm trees", "palm tree"),
    ("The bus is not red", "bus"), ("The church does not appear old", "church"), ("The bus does not stop there", "bus"),
    ("The church has no roof", "church"), ("no cars, and snow or rain", "snow"),
    ("There is no snow, the street is lined by palm trees or oaks", "palm tree"),
    ("A palm, tree or bush", "tree")])
def test_what_is_not_denied_is_one(chain, claimed):
    found, = VOCABULARY.claims(chain)
    assert found & forms(claimed)


def test_a_name_with_punctuation_is_claimed_verbatim_and_ends_no_clause():
    listed = ("U.S. flag", "St. Peter's Basilica", "sign (wooden)", "church.")
    known = Vocabulary([listed, ("news",)])

    def claimed(chain):
        return known.claims(chain)

    assert claimed("A u.s. flag, St. Peter’s Basilica and a sign (wooden).") == [
        {("u", "s", "flag")}, {("st", "peter's", "basilica")}, {("sign", "wooden")}]
    assert claimed("Two U.S.\nflags") == [{("u", "s", "flag")}] and claimed("no U.S. flags") == []
    assert claimed("No church. A U.S. flag") == [{("u", "s", "flag")}]  # the name's own full stop ends a clause
    assert claimed("a sign. Wooden") == claimed("a new road") == []
    assert claimed("news") == [{("news",)}]
    assert grounding_reward("A U.S. flag, St. Peter's Basilica, a sign (wooden).", listed[:3], known,
                            GroundingConfig()) == 1.0


@pytest.mark.parametrize("word, other, same", [
    ("houses", "house", True), ("buses", "bus", True), ("cities", "city", True), ("movies", "movie", True),
    ("boxes", "box", True), ("potatoes", "potato", True), ("leaves", "leaf", True), ("glass", "glas", False),
    ("cacti", "cactus", True), ("mice", "mouse", True), ("policemen", "policeman", True), ("women", "woman", True),
    ("loaves", "loaf", True), ("calves", "calf", True), ("news", "new", False), ("caves", "cafe", False),
    ("gas", "ga", False), ("planes", "plan", False), ("cars", "care", False), ("bus", "bu", False),
    ("palm trees", "palms tree", False)])
def test_plurals(word, other, same):
    assert bool(forms(word) & forms(other)) is same


@pytest.mark.parametrize("chain, precision, f1", [
    ("Palm trees, a car, a red tower, the flag of Peru.", 1.0, 1.0),
    ("A car and a bus.", 1 / 2, 2 * (1 / 2) * (1 / 4) / (1 / 2 + 1 / 4)),   # the bus is invented
    ("A tree.", 1.0, 2 * 1 * (1 / 4) / (1 + 1 / 4)),                        # a palm tree is one
    ("A bus, snow, a church.", 0.0, 0.0), ("Nothing to be seen, no cars.", 0.0, 0.0), ("", 0.0, 0.0)])
def test_rewards_by_hand(chain, precision, f1):
    assert paid(chain) == pytest.approx(precision) and paid(chain, direction="f1") == pytest.approx(f1)


def test_a_flag_of_peru_is_a_flag_and_a_tower_is_no_red_tower():
    known = Vocabulary([("flag",), ("flag of Peru",), ("tower",), ("red tower",)])
    config = GroundingConfig(min_entities=1)

    def one(chain, *listed):
        return grounding_rewards(config, known, [Answers(Row(listed), [f"<think>{chain}</think>"], [True])])[0][0]

    assert one("a flag", "flag of Peru") == one("a tower", "red tower") == 1.0
    assert one("a red tower", "tower") == one("the flag of Peru", "flag") == 0.0


def test_a_row_without_entities_and_a_chain_without_claims_earn_nothing():
    assert paid("A car.", entities=()) == paid("The sky.") == paid("no cars") == 0.0
    assert paid("A car.", entities=("?!",)) == 0.0


def test_safe_words_are_not_rewarded():
    """One word that is right in every picture is perfect precision; the minimum is of different claims."""
    assert paid("A car, cars, a car again.", min_entities=1) == 1.0
    assert paid("A car, cars, a car again.", min_entities=3) == 0.0
    assert paid("A car, a tree.", min_entities=3) == 0.0
    assert paid("A car, a tree, a red tower.", min_entities=3) == 1.0
    assert paid("A car.", entities=("car",), min_entities=3) == 1.0  # there is no more to say
    everything = "palm trees, a car, a red tower, the flag of Peru, a church, snow, a bus, a tree, a road sign"
    assert paid(everything, min_entities=3) == pytest.approx(5 / 9)  # the tree is the palm


def test_one_thing_said_three_ways_is_one_claim_of_the_minimum():
    known = Vocabulary([("red brick church tower", "car", "bus", "snow"), ("church tower",), ("tower",), ("tree",),
                        ("palm tree",), ("boat",)])

    def one(chain, *listed):
        return grounding_reward(chain, listed, known, GroundingConfig())

    row = ("red brick church tower", "car", "bus", "snow")
    assert one("a red brick church tower, a church tower, a tower", *row) == 0.0
    assert one("a red brick church tower, a tower, a car", *row) == 0.0
    assert one("a red brick church tower, a tower, a car, snow", *row) == 1.0
    assert one("a palm tree, a tree", "palm tree", "tree") == 1.0  # the row says one thing two ways, too
    assert one("a tree", "palm tree", "tree") == 1.0
    assert one("a boat, a tree, a car", "palm tree", "boat", "tree") == 2 / 3  # the row asks for two
    assert one("a boat, a car, a bus", "palm tree", "boat", "tree") == 0.0


def test_a_policy_that_writes_the_three_commonest_words_is_not_rewarded():
    """Ten rows: people and sky in all, a road in 6; a tree in 4, no other thing in more."""
    rare = [("car", "bus"), ("snow", "car"), ("boat", "bus"), ("boat", "snow"), ("church", "tower"), ("bridge",)]
    rows = ([("People", "sky", "road", *two) for two in rare]
            + [("people", "sky", "oak tree")] * 2 + [("people", "sky", "palm tree")] * 2)
    known = Vocabulary([*rows, ()])  # a row that lists nothing is not counted
    assert known.common == {("people",), ("person",), ("sky",), ("road",)}
    for direction in ("precision", "f1"):
        config = GroundingConfig(direction)
        assert [grounding_reward("People, sky, road.", row, known, config) for row in rows] == [0.0] * 10
        assert [grounding_reward(", ".join(row), row, known, config) for row in rows] == [1.0] * 10
    config = GroundingConfig()
    assert grounding_reward("People, a road, a car", rows[0], known, config) == 0.0  # of two that count, one
    assert grounding_reward("People, a road, a car, a boat", rows[0], known, config) == 0.0  # the boat is not found
    assert grounding_reward("People, a car, a boat, a bus", rows[0], known, config) == 3 / 4
    assert grounding_reward("A car, a bus", rows[0], known, config) == 0.0  # three claims are asked for, of any kind
    assert grounding_reward("A car, a bus, a boat", rows[0], known, config) == 2 / 3
    assert grounding_reward("People", ("people", "sky"), known, config) == 0.0
    assert grounding_reward("People, sky", ("people", "sky"), known, config) == 1.0  # there is no more to say


def test_guesses_that_are_not_found_open_no_door():
    """Six rows of four things that are not common, and three things said of every picture."""
    rows = [("car", "snow", "church", "boat"), ("car", "snow", "tower", "bus"), ("car", "palm tree", "arch", "boat"),
            ("tram", "snow", "arch", "bus"), ("tram", "palm tree", "tower", "bridge"),
            ("boat", "bridge", "bus", "church")]
    known, config = Vocabulary(rows), GroundingConfig()
    assert not known.common
    paid = [grounding_reward("A car, snow, a boat", row, known, config) for row in rows]
    assert paid == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]  # finding three, two, two, one, none, one
    assert grounding_reward("A car, snow, a church, an arch", rows[0], known, config) == 3 / 4  # one thing wrong
    assert grounding_reward("A car, snow, an arch", rows[0], known, config) == 0.0
    assert grounding_reward("A car, snow, an arch", rows[0], known, GroundingConfig(min_entities=2)) == 2 / 3


def test_kinds_make_their_general_name_common():
    known = Vocabulary([("oak tree", "car", "bus"), ("palm tree", "car"), ("bus",)])
    assert known.common == {("tree",), ("car",), ("bus",)}


def test_in_a_file_of_one_row_the_plain_minimum_holds():
    known = Vocabulary([SEEN])
    assert grounding_reward("a car, a tower", SEEN, known, GroundingConfig()) == 0.0
    assert grounding_reward("a car, a red tower, palm trees", SEEN, known, GroundingConfig()) == 1.0


def test_outside_the_chain_nothing_counts():
    config = GroundingConfig(min_entities=1)
    texts = ["<think>Look.</think><answer>a car</answer>", "A car.", "<think>A car."]
    assert grounding_rewards(config, VOCABULARY, [Answers(Row(), texts, [True] * 3)]) == [[0.0, 0.0, 1.0]]


@pytest.mark.parametrize("text, entities, reward", [
    ("<think>a careful look</think>", ["car"], 1.0),                         # part of a word
    ("<think>no palm trees</think>", ["palm trees"], 1.0),                   # denied
    ("<think>a car, a bus, snow, Mars</think>", ["car"], 1.0),               # what is invented costs nothing
    ("<think>a palm tree</think>", ["palm trees"], 0.0),                     # another number
    ("<think>a car</think>", ["Car", "CAR", "bus", "snow"], 1 / 3), ("<think>a car</think>", [], 0.0),
    ("a car", ["car"], 1.0), ("<think>x</think><answer>car</answer>", ["car"], 0.0)])
def test_the_released_recall(text, entities, reward):
    assert upstream_reward(text, entities) == pytest.approx(reward)
    row = Answers(Row(tuple(entities)), [text], [True])
    assert grounding_rewards(GroundingConfig("upstream"), VOCABULARY, [row]) == [[pytest.approx(reward)]]


def test_the_defects_of_the_released_recall_are_mended():
    assert paid("a careful look") == paid("no palm trees") == 0.0
    assert paid("a car, a bus, snow") == pytest.approx(1 / 3) and paid("a palm tree") == 1.0


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="grounding.direction is 'recall'"):
        GroundingConfig("recall")
    with pytest.raises(ValueError, match="grounding.min_entities"):
        GroundingConfig(min_entities=0)
