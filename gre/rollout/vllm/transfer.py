"""How the policy's weights reach a server: by a folder that both see, or straight from the first process's memory."""
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from gre.config import UserError
from gre.provenance import readable_as_others
from gre.rollout.vllm.channel import SENDER, Channel
from gre.rollout.vllm.client import Server

SHARD_BYTES = 2**30  # of a file of weights, and of what waits in memory to be written


class ByFolder:
    """As safetensors files, gone once they are loaded."""

    def __init__(self, folder: Path):
        self.folder, self.way = folder, f"through {folder}"

    def send(self, server: Server, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Have the server load the weights. Raises UserError when they cannot be written, or the server refuses."""
        try:
            write(weights, self.folder)
        except (OSError, SafetensorError) as error:
            raise UserError(f"the weights for the server cannot be written to {self.folder} ({error}): make room, or "
                            "set rollout.weights_dir") from None
        server.load(str(self.folder.absolute()))
        shutil.rmtree(self.folder)


class ByBroadcast:
    """Through a `Channel`, opened at the first step: no disk, and no folder that both must see."""

    def __init__(self, device: torch.device):
        self.device, self.channel = device, None
        self.way = "by NCCL" if device.type == "cuda" else "by gloo"

    def send(self, server: Server, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Have the server take the weights. Raises UserError when it is lost on the way, or refuses."""
        port = None if self.channel else server.listen()
        with ThreadPoolExecutor(1) as pool:
            taken = pool.submit(server.receive)
            try:
                self.channel = self.channel or self._open(server, port)
                self.channel.send(weights)
            except (RuntimeError, OSError) as error:
                if self.channel:
                    self.channel.abort()
                self.channel, lost = None, error
            else:
                lost = None
            taken.result()  # what the server says of it comes first
        if lost:
            raise UserError(f"new weights: {server.url} was lost while they were sent ({_first_line(lost)}). Start it "
                            "again and run the same command, which resumes from the last checkpoint; or send them "
                            "through a folder: rollout.weights_dir=FOLDER")

    def _open(self, server: Server, port: int) -> Channel:
        store = dist.TCPStore(urlsplit(server.url).hostname, port, is_master=False,
                              timeout=timedelta(seconds=server.timeout_s))
        return Channel(store, SENDER, self.device, server.timeout_s)


def write(weights: Iterable[tuple[str, Tensor]], folder: Path) -> None:
    """Write weights as safetensors files into an empty folder, some at a time."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shard, size, number = {}, 0, 0
    for name, tensor in weights:
        shard[name] = tensor.to("cpu", copy=True).contiguous()  # the head may be the embedding: a file wants each apart
        size += tensor.nbytes
        if size >= SHARD_BYTES:
            save_file(shard, folder / f"{number:05}.safetensors")
            shard, size, number = {}, 0, number + 1
    if shard:
        save_file(shard, folder / f"{number:05}.safetensors")
    readable_as_others(folder)  # the server may be another user's


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
