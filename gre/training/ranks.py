"""Work that the processes of a run share."""
from accelerate import Accelerator, PartialState


def turns(state: Accelerator | PartialState, count: int) -> tuple[list[int], int]:
    """Which of `count` things this process works on, one after the other, and how many of these count. All processes
    get as many: at the end some do the first thing once more, not to be counted, since a forward pass under ZeRO-3 is a
    meeting of all."""
    own = list(range(state.process_index, count, state.num_processes))
    return own + [0] * (-(-count // state.num_processes) - len(own)), len(own)
