"""Groups dealt anew to processes: by hand, and on two processes with nothing lost and the numbers of one."""
import json
from itertools import chain
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gre.training.trainer.balance import balanced, deal, spread
from tests.helpers import balance_ranks


def test_one_group_a_pass_by_hand():
    """Three micro-batches of one group on two processes: in each the two are alike, the longer one goes where there is
    less so far. Sums 8 + 5 + 4 and 7 + 6 + 3."""
    assert deal([8, 3, 6, 5, 4, 7], [1, 1, 1], 2) == [[[0], [5]], [[3], [2]], [[4], [1]]]


def test_two_groups_a_pass_by_hand():
    """Longest first into the emptiest of four parts of two: 9+1, 8+2, 7+3, 6+4; a part of ten each."""
    assert deal([9, 8, 7, 6, 4, 3, 2, 1], [2, 2], 2) == [[[0, 7], [1, 6]], [[2, 5], [3, 4]]]


def test_a_last_micro_batch_that_is_smaller_stays_so():
    """5 + 1 and 4 + 1, then 2 and 3: eight and eight."""
    assert deal([5, 4, 3, 2, 1, 1], [2, 1], 2) == [[[0, 5], [1, 4]], [[3], [2]]]


def test_without_room_places_are_spread_by_sum():
    assert spread([7, 6, 5, 4, 2], 2) == [[0, 3, 4], [1, 2]]
    assert spread([7, 6, 5, 4], 2, [1, 3]) == [[0], [1, 2, 3]]


@given(st.integers(1, 5), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_every_group_goes_to_one_place_and_sizes_stay(processes, sizes, data):
    count = processes * sum(sizes)
    tokens = data.draw(st.lists(st.integers(0, 2000), min_size=count, max_size=count))
    dealt = deal(tokens, sizes, processes)
    assert [[len(part) for part in batch] for batch in dealt] == [[size] * processes for size in sizes]
    assert sorted(place for batch in dealt for part in batch for place in part) == list(range(count))


def test_one_process_keeps_its_order():
    batches = [["long", "b"], ["c"]]
    assert balanced(SimpleNamespace(num_processes=1), batches, len) is batches


@pytest.fixture
def found(balance_ranks_folder):
    """What two processes found."""
    return [json.loads((balance_ranks_folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("per_pass", [1, 2])
@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_groups_move_whole_and_a_step_stays_that_of_one_process(found, tmp_path, kind, per_pass):
    steps = [each[f"{kind}_{per_pass}"] for each in found]
    had, forwarded = ([[list(map(tuple, batch)) for batch in step[name]] for step in steps]
                      for name in ("had", "forwarded"))                            # [process][micro-batch]
    (first, second), (now_first, now_second) = ([set(chain(*each)) for each in these] for these in (had, forwarded))
    assert first | second == now_first | now_second and len(first | second) == 8  # nothing lost, nothing changed
    assert len(now_first) == len(now_second) == 4 and now_first != first
    assert lasting(forwarded) < lasting(had)
    alone = balance_ranks.step(kind, tmp_path, 4)
    assert [step["loss"] for step in steps] == pytest.approx([alone["loss"]] * 2, abs=1e-5)
    assert [step["grad_norm"] for step in steps] == pytest.approx([alone["grad_norm"]] * 2, rel=1e-5)


def lasting(processes: list) -> int:
    """Tokens of each micro-batch's fullest process, in all."""
    return sum(max(sum(tokens for _, tokens, _ in part) for part in batch) for batch in zip(*processes, strict=True))


@pytest.mark.slow
def test_an_exchange_takes_what_a_tensor_shows_and_no_more(found):
    first, second = (each["exchanged"] for each in found)
    assert first == [["from", 1, "to", 0], [0, 1, 2, 3], 4 * 8]  # bytes: of four numbers, not of a million
    assert second == [["from", 0, "to", 1], [1, 2, 3], 3 * 8]
