"""The optimiser's settings and what becomes of them: transformers' TrainingArguments."""
import json
import os
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import TrainingArguments

from gre.config import UserError, check_least, option, shipped
from gre.models.vlm import ModelConfig
from gre.training.waiting import told_when_late

CHECKPOINTS_KEPT = 2  # the newest ones while training: the one before serves when the last is damaged
SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup",
             "inverse_sqrt")  # transformers' others need settings that are no keys here
REPORTS = ("none", "tensorboard", "wandb")
LEAST = {"learning_rate": 0, "per_device_batch_size": 1, "tokens_per_pass": 0, "gradient_accumulation_steps": 1,
         "max_steps": -1, "warmup_steps": 0, "weight_decay": 0, "max_grad_norm": 0, "logging_steps": 1, "save_steps": 0,
         "dataloader_num_workers": 0}
DDP_TIMEOUT_SECONDS = 4 * 3600  # a rank may wait for rollouts, a judge or a large file


@dataclass
class TrainConfig:
    """How a model is trained. Batch sizes count rows: a photo with its completion, in RL a prompt with its group."""

    learning_rate: float = option(1e-5, "peak learning rate of AdamW")
    per_device_batch_size: int = option(8, "rows per device and micro-batch")
    tokens_per_pass: int = option(0, "most tokens of a forward pass, prompts and completions counted: a micro-batch is "
                                     "packed into as few passes as that allows; 0: into one")
    gradient_accumulation_steps: int = option(1, "micro-batches per optimiser step")
    num_train_epochs: float = option(1.0, "passes over the data")
    max_steps: int = option(-1, "optimiser steps; -1: as many as num_train_epochs makes")
    warmup_steps: float = option(0.03, "steps of linear warm-up; below 1, a share of all steps")
    lr_scheduler_type: str = option("cosine", "learning-rate schedule, by transformers' name")
    weight_decay: float = option(0.0, "AdamW's decoupled weight decay; under offload of biases and norms too")
    max_grad_norm: float = option(1.0, "norm to which gradients are clipped")
    bf16: bool = option(False, "bfloat16: autocast over float32 weights, or DeepSpeed's with a float32 master")
    deepspeed: str | None = option(None, "DeepSpeed's JSON config")
    logging_steps: int = option(1, "steps between two lines of metrics.jsonl")
    save_steps: int = option(0, "steps between two checkpoints, of which the newest two are kept; 0: only at a signal")
    keep_last_checkpoint: bool = option(False, "keep the last checkpoint of a finished stage, many times as large as "
                                               "its model, so that it can be trained longer")
    dataloader_num_workers: int = option(0, "processes that decode photos; 0: the training process does")
    report_to: str = option("none", "none, tensorboard or wandb")

    def __post_init__(self):
        check_least("train.", self, LEAST)
        if self.max_steps == 0:  # transformers would take it for -1
            raise ValueError("train.max_steps is 0: write -1 for as many steps as train.num_train_epochs makes, or 1 "
                             "and more")
        if not self.num_train_epochs > 0:
            raise ValueError(f"train.num_train_epochs is {self.num_train_epochs}: it must be above 0")
        if self.report_to not in REPORTS:
            raise ValueError(f"train.report_to is {self.report_to!r}: write {' or '.join(REPORTS)}")
        if self.lr_scheduler_type not in SCHEDULES:
            raise ValueError(f"train.lr_scheduler_type is {self.lr_scheduler_type!r}: write {' or '.join(SCHEDULES)}")
        if self.keep_last_checkpoint and not self.save_steps:
            raise ValueError("train.keep_last_checkpoint needs train.save_steps above 0: no checkpoint is written else")


def training_arguments(train: TrainConfig, output_dir: str | Path, seed: int,
                       gradient_checkpointing: bool = False, on_cpu: bool = False) -> TrainingArguments:
    """TrainingArguments for a run in `output_dir`, whose checkpoints go to `output_dir/checkpoints`. on_cpu: even where
    there is a GPU.

    Raises UserError when the DeepSpeed config is missing or would save no weights, when one process sees several GPUs,
    and when wandb is asked for and not installed.
    """
    if train.deepspeed:
        check_deepspeed(shipped(train.deepspeed))
        from gre.training import extensions  # what only compiling needs

        extensions.install()
        if "WORLD_SIZE" not in os.environ:
            os.environ.update(launcher_environment())
    if train.report_to == "wandb" and find_spec("wandb") is None:
        raise UserError("train.report_to=wandb, and wandb is not installed: EXTRAS=wandb bash environment.sh")
    if train.report_to == "tensorboard":
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(Path(output_dir) / "tensorboard"))
    settings = dict(
        output_dir=str(Path(output_dir) / "checkpoints"), seed=seed, learning_rate=train.learning_rate,
        per_device_train_batch_size=train.per_device_batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps, num_train_epochs=train.num_train_epochs,
        max_steps=train.max_steps, warmup_steps=train.warmup_steps, lr_scheduler_type=train.lr_scheduler_type,
        weight_decay=train.weight_decay, max_grad_norm=train.max_grad_norm, bf16=train.bf16,
        deepspeed=str(shipped(train.deepspeed)) if train.deepspeed else None,
        logging_steps=train.logging_steps, save_strategy="steps" if train.save_steps else "no",
        save_steps=train.save_steps or 500, save_total_limit=CHECKPOINTS_KEPT,
        dataloader_num_workers=train.dataloader_num_workers, report_to=train.report_to,
        gradient_checkpointing=gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if gradient_checkpointing else None,
        use_cpu=on_cpu or not torch.cuda.is_available(), remove_unused_columns=False, logging_nan_inf_filter=False,
        ddp_timeout=DDP_TIMEOUT_SECONDS, ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False, disable_tqdm=False)  # buffers, frozen adapters among them, never change
    with told_when_late(meeting()):
        try:
            arguments = TrainingArguments(**settings)
            gpus = arguments.n_gpu  # here the processes meet
        except ValueError as error:  # what only this machine can tell: bf16 on a GPU that lacks it, say
            raise UserError(f"train: transformers refuses these settings, or the environment ({error})") from None
        if gpus > 1:  # Trainer would wrap the model in DataParallel, which cannot split groups
            raise UserError(f"one process sees {gpus} GPUs: show it one with CUDA_VISIBLE_DEVICES=0, or start one "
                            "process a GPU with torchrun")
        if train.deepspeed and arguments.use_cpu:
            from deepspeed import init_distributed

            init_distributed("gloo")  # accelerate does it on GPUs only; ZeRO-3, not told, would count one process
    return arguments


def meeting() -> str:
    """What a process waits for at its start, by the environment that says so."""
    count, rank, address, port = (os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR",
                                                                        "MASTER_PORT"))
    return (f"process {rank or '0'} waits for the others: WORLD_SIZE={count or '1'} says how many there are, and they "
            f"meet at {address or 'this machine'}:{port}. Left over from something else? "
            "`unset WORLD_SIZE RANK LOCAL_RANK`, and it trains alone")


def launcher_environment() -> dict[str, str]:
    """What a launcher would tell the one process of a run, which DeepSpeed asks for."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def check_deepspeed(path: Path) -> None:
    """Raise UserError unless DeepSpeed's config is there and lets ZeRO-3 save whole weights: its own default saves a
    folder without any, and only warns."""
    try:
        zero = json.loads(path.read_text(encoding="utf-8"))["zero_optimization"]
        stage = zero["stage"]
    except FileNotFoundError:
        raise UserError(f"there is no DeepSpeed config {path}: set train.deepspeed to a JSON file or null") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no DeepSpeed config with zero_optimization.stage: {error!r}") from None
    if stage == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        raise UserError(f"with {path} no weights would be saved: set stage3_gather_16bit_weights_on_model_save to true "
                        "in its zero_optimization")


def weight_dtype(train: TrainConfig, model: ModelConfig) -> torch.dtype:
    """What a stage's models are loaded as: bfloat16 only where DeepSpeed keeps a float32 master of what is trained, or
    where an adapter is. Reference and judge are loaded the same way, and a judge is measured as it will be asked."""
    return torch.bfloat16 if train.bf16 and (train.deepspeed or model.lora.r) else torch.float32


def check_weights(model, args: TrainingArguments) -> None:
    """Raise UserError unless trained weights are float32 or DeepSpeed keeps a float32 master of them.

    Without one, 98 % of bfloat16 weights do not move at a learning rate of 1e-6.
    """
    low = sorted({str(p.dtype) for p in model.parameters() if p.requires_grad and p.dtype != torch.float32})
    if low and not (args.deepspeed and args.bf16):
        raise UserError(f"the weights to be trained are {', '.join(low)}: load them as float32 and let train.bf16 "
                        "autocast, or train with train.deepspeed, which keeps a float32 master")
