"""What is measured on completions and never rewarded, against numbers worked out by hand."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gre.config import UserError
from gre.geo.point import LatLon
from gre.rewards.answers import Answers
from gre.training.watching.completions import (
    CompletionNumbers,
    last_named,
    rank_correlation,
    read_places,
    summary,
    words,
)

NAN = float("nan")
PARIS, LYON, YORK, NEW_YORK = LatLon(48.86, 2.35), LatLon(45.76, 4.84), LatLon(53.96, -1.08), LatLon(40.71, -74.01)
PLACES = {"Paris": [PARIS], "Lyon": [LYON], "York": [YORK], "New York": [NEW_YORK],
          "San José": [LatLon(9.93, -84.08), LatLon(37.34, -121.89)]}


@pytest.mark.parametrize("a, b, expected", [
    ([1, 2, 3], [10, 20, 30], 1), ([1, 2, 3], [3, 2, 1], -1),
    ([0.1, 0.9, 0.5, 0.5], [1, 4, 2, 3], 0.9486833),  # ranks 1 4 2.5 2.5 and 1 4 2 3: 4.5 / sqrt(4.5 * 5)
    ([1, 1, 1], [1, 2, 3], None), ([1, 2], [5, 5], None), ([1], [2], None), ([], [], None), ([1, NAN], [1, 2], None)])
def test_rank_correlation(a, b, expected):
    assert rank_correlation(a, b) == (expected if expected is None else pytest.approx(expected))


def line(km, p_true, chain_km=NAN, characters=10):
    """A completion that answers `km` away; NaN: that cannot be read."""
    return [NAN if np.isnan(km) else 40.0, km, km, chain_km, characters, p_true]


def test_summary_by_hand():
    table = np.array([line(1, 0.9), line(10, 0.5), line(100, 0.1), line(NAN, 0.0),   # follows nearness: 1
                      line(5, 0.2, 300), line(50, 0.8, 100), line(50, 0.8, 200, 20), line(NAN, 0, NAN, 40),  # -1
                      line(7, 0.3), line(7, 0.6), line(7, 0.1), line(7, 0.2)])        # one distance: left out
    numbers = summary(table, num_generations=4)
    assert numbers == {
        "distance_km/mean": pytest.approx((111 + 105 + 28 + 2 * 20015) / 12), "distance_km/median": 8.5,
        "unreadable": pytest.approx(2 / 12), "think_characters": pytest.approx(160 / 12),
        "distinct_answers": 2.0,  # 1, 10, 100, 5, 50 and 7 km away, of three prompts
        "chain_to_answer_km": 200, "places_named": pytest.approx(0.3), "p_true": pytest.approx(0.45),
        "rank_correlation": pytest.approx(0, abs=1e-12), "rank_correlation_groups": 2}
    silent = summary(np.array([line(NAN, NAN)] * 4), num_generations=2)
    assert silent == {"distance_km/mean": 20015, "distance_km/median": 20015, "unreadable": 1, "think_characters": 10,
                      "distinct_answers": 0}


def test_an_unreadable_answer_says_nothing_about_the_judge():
    """Its reward is 0 and its distance 20,015 km by definition: counted, it would look like a judge that knows."""
    blind = [line(1, 0.5), line(10, 0.5), line(NAN, 0.0), line(NAN, 0.0)]
    assert "rank_correlation" not in summary(np.array(blind), num_generations=4)


@pytest.mark.parametrize("chain, expected", [
    ("First Paris, but no: Lyon.", [LYON]), ("LYON or paris", [PARIS]), ("It is New York!", [NEW_YORK]),
    ("It is York", [YORK]), ("Parisian bread", []), ("", []), ("in San José", PLACES["San José"])])
def test_the_last_place_named(chain, expected):
    assert last_named(chain, {tuple(words(name)): points for name, points in PLACES.items()}) == expected


def test_watch_reads_completions():
    group = Answers(SimpleNamespace(truth=PARIS), [
        "<think>So Paris.</think><answer>48.86, 2.35</answer>", "<think>So Lyon.</think><answer>48.86, 2.35</answer>",
        "<think>San José?</think><answer>37.34, -121.89</answer>", "<think>Paris</think><answer>?</answer>"],
        [True] * 4)
    numbers = CompletionNumbers(PLACES)([group], torch.tensor([[0.9, 0.8, 0.1, 0.0]]))
    assert numbers["distance_km/median"] == pytest.approx(8973 / 2, rel=0.01) and numbers["unreadable"] == 0.25
    assert numbers["chain_to_answer_km"] == 0  # 0, 392 and, by the nearer San José, 0 km
    assert numbers["places_named"] == 1 and numbers["distinct_answers"] == 2
    assert numbers["think_characters"] == (9 + 8 + 9 + 5) / 4
    assert numbers["rank_correlation"] == pytest.approx(0.8660254)  # ranks 3 2 1 and 2.5 2.5 1
    assert not {"chain_to_answer_km", "rank_correlation"} & CompletionNumbers({})([group]).keys()


def test_places_file(tmp_path):
    path = tmp_path / "places.csv"
    path.write_text("name,lat,lon\nParis,48.86,2.35\nParis,33.66,-95.56\n\"Lyon, France\",45.76,4.84\n")
    assert read_places(str(path)) == {"Paris": [PARIS, LatLon(33.66, -95.56)], "Lyon, France": [LYON]}
    assert read_places(None) == {}
    with pytest.raises(UserError, match="guards.places=gone.csv: no such file"):
        read_places("gone.csv")
    for bad in ("Paris,north,2.35", "Paris,91,2.35", "!,1,2", "Paris,1"):
        path.write_text(f"name,lat,lon\n{bad}\n")
        with pytest.raises(UserError, match="places.csv, line 2"):
            read_places(str(path))
