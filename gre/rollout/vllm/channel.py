"""A way for weights from the trainer's first process straight into the memory of a server's worker, tensor by tensor:
NCCL between GPUs, gloo between CPUs. Needs no vLLM.

Beside it goes torch's key-value store, by which the receiver says what it is ready for and the sender what comes; so
neither waits for a tensor that the other will not send or take.
"""
import json
from collections.abc import Iterable, Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

SENDER, RECEIVER = 0, 1


class Channel:
    """One end. Both are constructed at the same time, with a connection to the same store.

    rank: SENDER or RECEIVER. device: of the tensors received, and over which those sent go; of one kind on both ends.
    timeout_s: how long one end waits for the other. Raises RuntimeError when that does not come.
    """

    def __init__(self, store: dist.Store, rank: int, device: torch.device, timeout_s: float):
        timeout = timedelta(seconds=timeout_s)
        store.set_timeout(timeout)
        self.store, self.device = store, device
        self.number = 0  # of the next header
        if device.type == "cuda":
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = timeout
            self.group = dist.ProcessGroupNCCL(dist.PrefixStore("group", store), rank, 2, options)
        else:
            self.group = dist.ProcessGroupGloo(dist.PrefixStore("group", store), rank, 2, timeout)

    def send(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Send (name, tensor) pairs, as far as they are taken. Raises RuntimeError when the receiver is lost."""
        for name, tensor in weights:
            if not self._say([name, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]):
                return
            self._broadcast(tensor.to(self.device).contiguous())
        self._say(None)

    def receive(self) -> Iterator[tuple[str, Tensor]]:
        """The pairs that `send` sends, tensors on this end's device. Whoever stops asking must close this generator:
        the sender then stops too. Raises RuntimeError when the sender is lost."""
        taken = False
        try:
            while (header := self._ask()) is not None:
                name, shape, dtype = header
                tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)
                self._broadcast(tensor)
                yield name, tensor
            taken = True
        finally:
            if not taken:
                self.store.set(f"wanted/{self.number}", "no")
                self.number += 1

    def abort(self) -> None:
        """Give up what is still on its way: after a receiver is lost NCCL would wait for it until its time is up."""
        self.group.abort()

    def _say(self, header: list | None) -> bool:
        """Announce what comes next; whether it is wanted."""
        key = str(self.number)
        self.number += 1
        self.store.set(f"header/{key}", json.dumps(header))
        return self._taken(f"wanted/{key}") == b"yes"

    def _ask(self) -> list | None:
        key = str(self.number)
        self.store.set(f"wanted/{key}", "yes")
        self.number += 1
        return json.loads(self._taken(f"header/{key}"))

    def _taken(self, key: str) -> bytes:
        value = self.store.get(key)
        self.store.delete_key(key)
        return value

    def _broadcast(self, tensor: Tensor) -> None:
        options = dist.BroadcastOptions()
        options.rootRank = SENDER
        self.group.broadcast([tensor], options).wait()
