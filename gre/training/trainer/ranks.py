"""Work that the processes of a run share."""
from collections.abc import Iterator

from accelerate import Accelerator, PartialState


def turns(state: Accelerator | PartialState, count: int, at_once: int) -> Iterator[tuple[list[int], int]]:
    """Batches of this process's places in `count` things, at most `at_once` each, and how many of a batch count.

    All processes get as many batches of the same sizes: at the end some are given place 0 once more, not to be counted,
    since a ZeRO-3 forward is a collective.
    """
    own = list(range(state.process_index, count, state.num_processes))
    places = own + [0] * (-(-count // state.num_processes) - len(own))
    for start in range(0, len(places), at_once):
        yield places[start:start + at_once], len(own[start:start + at_once])
