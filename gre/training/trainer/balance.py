"""Groups rebalanced over the processes of a step, so that all forward about as many tokens.

Photos and completions differ in length. Where each process learns from the groups it happens to have, a step lasts as
long as the fullest one, and under ZeRO-3, whose every pass is a collective, as long as the sum of each pass's
fullest. Gradients do not tell who forwarded what, so groups may go where there is room, photos and all.

Legend: W processes, n groups on each.
"""
import pickle
from collections.abc import Callable
from io import BytesIO
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torch.distributed import all_to_all_single

Item = TypeVar("Item")


def balanced(accelerator: Accelerator, batches: list[list[Item]],
             tokens: Callable[[Item], int]) -> list[list[Item]]:
    """This process's micro-batches of a step after all W have rebalanced theirs: a collective.

    batches: as many micro-batches, of the same sizes, on each process; the same come back. Items travel pickled, their
    tensors must lie on the CPU. One process keeps what it has, in its order.
    """
    if accelerator.num_processes == 1:
        return batches
    items, rank = [item for batch in batches for item in batch], accelerator.process_index
    counts = accelerator.gather(torch.tensor([tokens(item) for item in items], device=accelerator.device)).tolist()
    dealt = deal(counts, [len(batch) for batch in batches], accelerator.num_processes)
    first, n, made = rank * len(items), len(items), []
    for batch in dealt:  # one exchange each: what travels is held several times meanwhile
        sent = [[items[place - first] for place in part if place // n == rank] for part in batch]
        arrived = [iter(each) for each in exchange(accelerator, sent)]
        made.append([next(arrived[place // n]) for place in batch[rank]])
    return made


def deal(tokens: list[int], sizes: list[int], processes: int) -> list[list[list[int]]]:
    """[micro-batch][process] -> places in `tokens` (W n,), which holds the groups' tokens, process after process.

    Micro-batch i holds sizes[i] groups on every process. All parts are filled about evenly; where they cannot be, since
    they hold one or two groups, those of a micro-batch are alike. Of a micro-batch the fullest part goes to the process
    that has least so far.
    """
    room = [size for size in sizes for _ in range(processes)]
    parts = spread(tokens, len(room), room)
    totals, dealt = [0] * processes, []
    for start in range(0, len(parts), processes):
        fullest_first = sorted(parts[start:start + processes], key=lambda part: -sum(tokens[place] for place in part))
        emptiest_first = sorted(range(processes), key=totals.__getitem__)
        batch = dict(zip(emptiest_first, fullest_first, strict=True))
        totals = [total + sum(tokens[place] for place in batch[rank]) for rank, total in enumerate(totals)]
        dealt.append([batch[rank] for rank in range(processes)])
    return dealt


def spread(tokens: list[int], parts: int, room: list[int] | None = None) -> list[list[int]]:
    """Places in `tokens` by part, of about equal sums: the longest first, each into the part that holds least, of those
    that have room. room: how many places fit into each; None: any number."""
    held, sums, room = [[] for _ in range(parts)], [0] * parts, room or [len(tokens)] * parts
    for place in sorted(range(len(tokens)), key=lambda place: -tokens[place]):
        least = min((part for part in range(parts) if len(held[part]) < room[part]), key=sums.__getitem__)
        held[least].append(place)
        sums[least] += tokens[place]
    return [sorted(places) for places in held]


def exchange(accelerator: Accelerator, sent: list[list[Item]]) -> list[list[Item]]:
    """sent[k] goes to process k; what process k has sent here is the k-th of what is returned. Own items stay as they
    are. One collective of bytes on the accelerator's device, which NCCL and gloo both have."""
    rank, device = accelerator.process_index, accelerator.device
    parcels = [b"" if to == rank else _pickled(items) for to, items in enumerate(sent)]
    sizes = torch.tensor([len(parcel) for parcel in parcels], device=device)
    coming = torch.empty_like(sizes)
    all_to_all_single(coming, sizes)
    outgoing = torch.from_numpy(np.frombuffer(bytearray().join(parcels), np.uint8)).to(device)
    incoming = torch.empty(int(coming.sum()), dtype=torch.uint8, device=device)
    all_to_all_single(incoming, outgoing, coming.tolist(), sizes.tolist())
    received = incoming.cpu().numpy()
    ends = coming.cumsum(0).tolist()
    return [sent[rank] if source == rank else pickle.loads(received[end - size:end])
            for source, (end, size) in enumerate(zip(ends, coming.tolist(), strict=True))]


class _Pickler(pickle.Pickler):
    """Pickles of a tensor what it shows, not all of the storage that it may be a part of, and of a prompt all but the
    decoded photo: after the rollout only its pixels as the model reads them are needed."""

    def reducer_override(self, value):
        if isinstance(value, Image.Image):
            return type(None), ()
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented


def _pickled(items: list) -> bytes:
    buffer = BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(items)
    return buffer.getvalue()
