"""The one place of any answer: nothing is raised, and what goes on with another place is never that of the first."""
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gre.geo.places import gazetteer
from gre.text.named import Names
from gre.text.one_place import read

GAZETTEER = gazetteer(15_000)
PIECE = st.sampled_from([
    "Paris", "Lyon", "France", "Germany", "Georgia", "USA", "or", "maybe", "(", ")", ",", "/", "\n", ": ", "city",
    "country", "alternative", "it could be", "2.", "- ", "<city>", "</city>", "東京", "48.9"])


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECE, max_size=14).map(" ".join))
def test_any_text_is_read_without_an_error(text):
    said = read(text, GAZETTEER)
    assert said is None or isinstance(said.names, Names)


@settings(deadline=None)
@given(st.sampled_from(["Berlin", "Tokyo", "Lima", "Marseille", "Italy"]),
       st.sampled_from(["", "- ", "* ", "2) ", "or ", "Alternatively: ", "second choice: ", "It may also be ",
                        "If not, "]),
       st.sampled_from(["", ".", "?", "!", " (maybe)", " probably"]))
def test_no_bullet_and_no_doubt_hides_a_second_place(place, before, after):
    answer = "country: France\ncity: Paris"
    assert read(answer, GAZETTEER).names == Names("France", "Paris")
    assert read(f"{answer}\n{before}{place}{after}", GAZETTEER) is None
    assert read(f"{answer}\n{before}Paris{after}", GAZETTEER).point == read(answer, GAZETTEER).point


@pytest.mark.parametrize("piece", [" ", ".", "or ", "maybe ", "(", "Paris ", "Paris\n", "<city>", "it is or ", ", ",
                                   "- "])
def test_the_time_grows_with_the_length_only(piece):
    def seconds(length):
        start = time.process_time()
        read("country: France\ncity: Paris\nIt is " + piece * (length // len(piece)), GAZETTEER)
        return time.process_time() - start

    assert seconds(80_000) < 8 * 3 * min(seconds(10_000) for _ in range(2)) + 0.2  # quadratic would be 64 times


def test_of_several_spellings_the_name_that_says_it_best_is_taken():
    said = read("country: USA\ncountry: Puerto Rico\ncity: San Juan", GAZETTEER)
    assert said.names == Names("Puerto Rico", "San Juan")
    assert read("country: Germany\ncity: Munich\ncity: München", GAZETTEER).names == Names("Germany", "Munich")
    assert read("country: Germany\ncity: Munich\ncity: Zzyzx", GAZETTEER) is None
