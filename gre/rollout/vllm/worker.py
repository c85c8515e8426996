"""Inside vLLM's worker: the trainer's weights are loaded, all of them, or it is an error. vLLM loads this file by its
name for a server; it needs vLLM only where it is used."""
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor, nn

from gre.models import adapter
from gre.rollout.vllm.channel import RECEIVER, Channel

NAMED = 4  # weights named in a message


class Served:
    """What scripts/serve.sh adds to the worker of a `vllm serve`, to be called by /collective_rpc."""

    gre_store = gre_channel = None  # by which weights come without a folder

    def gre_settings(self) -> dict:
        """What this engine really works with, by the names of vLLM's settings."""
        import vllm

        model = self.vllm_config.model_config
        return {"vllm": vllm.__version__, "dtype": str(model.dtype).removeprefix("torch."),
                "max_model_len": model.max_model_len, "logprobs_mode": model.logprobs_mode,
                "generation_config": model.generation_config, "logits_processors": model.logits_processors,
                "mm_processor_kwargs": model.multimodal_config.mm_processor_kwargs,
                "additional_config": self.vllm_config.additional_config}

    def gre_load(self, folder: str) -> None:
        """Load the weights of a folder that `gre.rollout.vllm.transfer` has written."""
        files = sorted(Path(folder).glob("*.safetensors"))
        if not files:
            raise FileNotFoundError(f"the server sees no weights in {folder}")
        take(self, tensors(files))

    def gre_listen(self, timeout_s: float) -> int:
        """Open the store of a channel that the trainer is going to join; its port. One that was open is closed."""
        if self.vllm_config.parallel_config.world_size > 1:
            raise RuntimeError("this server has several workers: set rollout.weights_dir=FOLDER")
        self.gre_channel = None
        self.gre_store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False,
                                       timeout=timedelta(seconds=timeout_s))
        return self.gre_store.port

    def gre_receive(self, timeout_s: float) -> None:
        """Load the weights that the trainer sends through the channel, which is joined the first time."""
        if self.gre_store is None:
            raise RuntimeError("this server was started anew since the last step")
        if self.gre_channel is None:
            self.gre_channel = Channel(self.gre_store, RECEIVER, self.device, timeout_s)
        with closing(self.gre_channel.receive()) as weights:
            take(self, weights)


def tensors(files: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    """(name, weight) of safetensors files, read one at a time."""
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():
                yield name, opened.get_tensor(name)


def take(worker, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Load what the trainer sends: all weights, or, where an adapter stands beside them, the adapter."""
    (load_adapter if worker.vllm_config.lora_config else load)(worker, weights)


def load_adapter(worker, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Put a new adapter in the old one's place. Raises RuntimeError unless every layer that takes one is given it."""
    from vllm.lora.request import LoRARequest

    from gre.rollout.vllm.start import ADAPTER

    with TemporaryDirectory() as folder:
        adapter.write(dict(weights), Path(folder))
        worker.add_lora(LoRARequest(ADAPTER, 1, folder, load_inplace=True))
    manager = worker.model_runner.lora_manager._adapter_manager
    given = manager.get_adapter(1).loras
    empty = [name for name in manager.modules if ".layers." in name and not _whole(given.get(name))]
    if empty:
        raise RuntimeError(f"vLLM was not sent an adapter for all of its layers: {', '.join(empty[:NAMED])}")


def _whole(factors) -> bool:
    """Whether the factors of a layer are there, of all it is joined from (q, k and v, for instance)."""
    parts = [] if factors is None else factors.lora_a if isinstance(factors.lora_a, list) else [factors.lora_a]
    return bool(parts) and all(part is not None for part in parts)


@torch.no_grad()
def load(worker, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Load all weights, or raise RuntimeError. vLLM itself only warns and keeps the old ones."""
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    model = worker.model_runner.get_model()
    with set_current_vllm_config(worker.vllm_config):
        initialize_layerwise_reload(model)
        try:
            model.load_weights(weights)
            missing = unfilled(model)
        except ValueError as error:  # a name or a shape it does not know
            raise RuntimeError(f"vLLM does not take the trainer's weights: {error}") from error
        finally:
            finalize_layerwise_reload(model, worker.model_config)
    if missing:
        raise RuntimeError(f"vLLM was not sent all of its weights: {', '.join(missing[:NAMED])}"
                           + (f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""))


def unfilled(model: nn.Module) -> list[str]:
    """Modules of vLLM's model, in the midst of a reload, that have not been sent as many elements as they hold. (vLLM
    joins some weights, q, k and v for instance: a name that arrived does not mean that all of it did.)"""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
    from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

    names = []
    for name, module in model.named_modules():
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        if isinstance(module, VocabParallelEmbedding):
            own = module.org_vocab_size * module.embedding_dim  # without the rows that pad it
        info = get_layerwise_info(module)
        if own and info.can_load() and info.load_numel < own:  # a module that is complete can load no more
            names.append(name)
    return names
