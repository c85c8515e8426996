"""A run that survives being killed: the same command goes on from the last whole checkpoint, to the same weights.

What a step depends on is in the checkpoint: weights, optimizer, schedule and step by Trainer, the random numbers of
Python, numpy and torch too, and, as JSON, whatever a part of the run has to remember (`Stateful`). Rollouts need
nothing: they depend on (seed, step, group, completion) alone.

`begin` opens a stage's folder, `train` goes through to the end or stops at a signal, `end` cleans up.
"""
import fcntl
import json
import os
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME

from gre import manifest, provenance
from gre.config import UserError, save
from gre.models import lora, zero
from gre.models.vlm import load_model
from gre.provenance import write_atomically
from gre.training import checkpoints, workers
from gre.training.stopping import STATUS, StopSignal

LOCK = "lock"
MADE_OF = "made_of.json"  # of a stage that was handed on: what its checkpoints said of the run
MODEL_FILES = ("config.json", "generation_config.json", "adapter_config.json")


class Stateful(Protocol):
    """A part of a run that remembers something from step to step: a curriculum's level, an alarm's count.

    `state_dict` gives it as JSON values, `load_state_dict` takes it back; both are called on every process, which gets
    back what it gave. Give such objects to a trainer as `stateful={"name": object}`; a callback of the trainer that has
    both methods needs no mention. They are asked when a checkpoint is written, after all callbacks' `on_step_end` and
    after the step was logged, and told before the first resumed step. A run without checkpoint never calls them.
    """

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class ResumableTrainer(Trainer):
    """Trainer whose checkpoints are whole or do not count, and from which training goes on bit for bit.

    stateful: what has to remember something, by name. run: what the run is made of; it is written into every
    checkpoint. border: steps between two moments at which a run may be cut, more than 1 when steps share completions.
    """

    border = 1

    def __init__(self, *args, stateful: dict[str, Stateful] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        if not hasattr(Trainer, "loss_is_scaled_for_ga"):  # transformers 5.17 reads this instead
            self.model_accepts_loss_kwargs = True
        self.stateful = dict(stateful or {})
        self.run: dict[str, Any] = {}
        self.best_step: int | None = None  # of the checkpoint that is kept beside the newest ones
        self.saved_step: int | None = None
        self.stop = StopSignal()
        self._checkpoint: Path | None = None
        self._rng_is_due = False
        self._seconds_before, self._started = 0.0, time.perf_counter()
        self.add_callback(_Keeper(self))

    def cut_only_every(self, steps: int) -> None:
        """Let checkpoints lie only at multiples of `steps`: train.save_steps is raised to one, and said so."""
        self.border = steps
        if self.args.save_strategy == "steps" and self.args.save_steps % steps:
            raised = self.args.save_steps + steps - self.args.save_steps % steps
            print(f"checkpoints every {raised} steps, not {int(self.args.save_steps)}: {steps} updates share their "
                  "completions (grpo.num_iterations)", flush=True)
            self.args.save_steps = raised

    def at_border(self) -> bool:
        """Whether the run may be cut after this step."""
        return self.state.global_step % self.border == 0

    def train(self, resume_from_checkpoint: str | Path | None = None, **kwargs):
        self._checkpoint = Path(resume_from_checkpoint) if resume_from_checkpoint else None
        self._rng_is_due, self._started = resume_from_checkpoint is not None, time.perf_counter()
        return super().train(resume_from_checkpoint and str(resume_from_checkpoint), **kwargs)

    def get_train_dataloader(self):
        loader = super().get_train_dataloader()
        loader.worker_init_fn = partial(workers.begin, loader.worker_init_fn)
        return loader

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Trainer's, by those that have a part in it: below ZeRO-3 it copies the model in every process's memory, and
        only the first one writes."""
        if zero.takes_part_in_saving(self):
            super().save_model(output_dir, _internal_call)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The micro-batches of a step. In a resumed run the random numbers are restored right after the first ones are
        fetched; Trainer does it later, after a subclass has worked on them."""
        if self.state.global_step >= self.state.max_steps:  # resumed after the last step: Trainer would make one more
            self.control.should_training_stop = True
            return [], None
        batches = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._checkpoint:
            self._load_rng_state(str(self._checkpoint))
        return batches

    def log(self, logs, start_time=None):
        """Trainer's numbers; those of the whole training count the time before a resume too."""
        if "train_runtime" in logs:
            here = logs["train_runtime"]
            whole = here + self._seconds_before
            rates = {name: value * (here / whole) for name, value in logs.items() if name.endswith("_per_second")}
            logs = {**logs, **(rates if self._seconds_before else {}), "train_runtime": whole}
        super().log(logs, start_time)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        """Trainer's own takes the file's names for the model's, finds none of them, warns and starts over. `load_model`
        maps the names and refuses a missing or unexpected one. Of a model with an adapter, that alone was saved."""
        if lora.adapted(self.model):
            lora.load(self.model, resume_from_checkpoint)
            return
        loaded = load_model(resume_from_checkpoint, next(self.model.parameters()).dtype)
        self.model.load_state_dict(loaded.state_dict(), strict=True)

    def _load_rng_state(self, checkpoint) -> None:
        if self._rng_is_due:
            self._rng_is_due = False
            super()._load_rng_state(checkpoint)

    def _save_checkpoint(self, model, trial) -> None:
        """Every process writes its part; when all have, the first one marks the checkpoint and prunes the old ones."""
        keep, self.args.save_total_limit = self.args.save_total_limit, None  # Trainer prunes before we have marked
        super()._save_checkpoint(model, trial)
        self.args.save_total_limit = keep
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        self._write_state(folder / self._state_name())
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)  # a pickle, which nobody reads
            checkpoints.complete(folder, self.state.global_step, self.run)
            checkpoints.prune(folder.parent, keep, self.best_step)
        self.saved_step = self.state.global_step

    def _state_name(self) -> str:
        return f"state-{self.args.process_index}.json"

    def _stateful(self) -> dict[str, Stateful]:
        """Everything that remembers, by name."""
        callbacks = {type(callback).__name__: callback for callback in self.callback_handler.callbacks
                     if hasattr(callback, "state_dict")}
        if twice := callbacks.keys() & self.stateful.keys():
            raise ValueError(f"two parts of the run are called {sorted(twice)}: name them apart")
        return {**callbacks, **self.stateful}

    def _write_state(self, path: Path) -> None:
        own = {"loss": self._tr_loss.item(), "total_loss": self._total_loss_scalar,
               "logged_step": self._globalstep_last_logged, "best_step": self.best_step,
               "seconds": self._seconds_before + time.perf_counter() - self._started}
        parts = {name: part.state_dict() for name, part in self._stateful().items()}
        path.write_text(json.dumps({"trainer": own, "parts": parts}, allow_nan=False), encoding="utf-8")

    def _read_state(self, path: Path) -> None:
        state, parts = json.loads(path.read_text(encoding="utf-8")), self._stateful()
        if state["parts"].keys() != parts.keys():
            raise ValueError(f"{path} holds the state of {sorted(state['parts'])}, this run has {sorted(parts)}")
        own = state["trainer"]
        self._tr_loss = torch.tensor(own["loss"], device=self.args.device)
        self._total_loss_scalar, self._globalstep_last_logged = own["total_loss"], own["logged_step"]
        self.best_step, self._seconds_before = own["best_step"], own["seconds"]
        self._initial_global_step = 0  # the mean loss is that of the whole training
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])


class _Keeper(TrainerCallback):
    """Gives a resumed run its memory back, and stops at a signal where the run can go on."""

    def __init__(self, trainer: ResumableTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        model.train()  # Trainer does so after the first step's batches are made, which a resumed step must not notice
        if self.trainer._checkpoint:
            state.compute_steps(args, state.max_steps)  # a resumed state brings the old logging_steps and save_steps
            self.trainer._read_state(self.trainer._checkpoint / self.trainer._state_name())

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        """Tell the sampler the epoch: after a resume inside one, accelerate's wrappers hide it from Trainer."""
        node = train_dataloader
        while (node := getattr(node, "batch_sampler", None)) is not None:
            if hasattr(getattr(node, "sampler", None), "set_epoch"):
                node.sampler.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.stop.agreed(self.trainer.accelerator) and self.trainer.at_border():
            control.should_save = control.should_training_stop = True


@dataclass(frozen=True)
class Run:
    """A stage's training: its folder, what it is made of, and the checkpoint it goes on from, if there is one."""

    folder: Path
    made_of: dict[str, Any]
    checkpoint: Path | None


def begin(config: Any, args: TrainingArguments, parent: manifest.Parent, **made_of: str) -> Run:
    """Open the stage's folder and write its config. Every process must call it.

    config: with output_dir and data. made_of: sha256 of what else the weights come from, such as a judge.
    Raises UserError when another process trains there, or a checkpoint or a finished stage there belongs to another
    run, and SystemExit(0) when this very run is finished: a stage that was handed on is never trained away.
    """
    folder = Path(config.output_dir)
    run = {**checkpoints.settings_of(config), "parent": parent.sha256, "data": provenance.file_hash(config.data.path),
           "processes": args.world_size, **made_of}
    if finished(folder, run):
        raise SystemExit(0)
    found: list[Path | None] = [None]
    if args.process_index == 0:
        _lock(folder / "checkpoints")
        found[0] = checkpoints.newest(folder / "checkpoints", run)
        save(config, manifest.begin(folder) / "config.yaml")
    return Run(folder, run, broadcast_object_list(found)[0])


def finished(folder: Path, run: dict[str, Any]) -> bool:
    """Whether the stage in `folder` was handed on by this very run, on however many processes. Raises UserError when it
    was by another one."""
    if not (folder / manifest.MANIFEST).exists() or not (folder / MADE_OF).exists():
        return False
    before = json.loads((folder / MADE_OF).read_text(encoding="utf-8"))
    changed = checkpoints.changes({**before, "processes": 0}, {**run, "processes": 0})
    if changed:
        raise UserError(f"{folder} holds a finished stage of other settings: {', '.join(changed)}. Write another "
                        "output_dir, or remove that folder to train it anew")
    if PartialState().is_main_process:
        print(f"{folder} holds this very stage, finished: nothing is left to do (remove the folder to train it anew)",
              flush=True)
    return True


def train(trainer: ResumableTrainer, run: Run) -> None:
    """Train to the end. A signal makes it write a checkpoint, say so and exit with status 143."""
    trainer.run = run.made_of
    if run.checkpoint and trainer.is_world_process_zero():
        print(f"going on from {run.checkpoint}", flush=True)
    with trainer.stop.listening():
        trainer.train(run.checkpoint)
    if trainer.stop.agreed(trainer.accelerator) and trainer.saved_step == trainer.state.global_step:
        if trainer.is_world_process_zero():
            print(f"stopped at step {trainer.state.global_step}; the same command goes on from there", flush=True)
        raise SystemExit(STATUS)


def end(run: Run, processor, best_step: int | None = None) -> None:
    """Remove the checkpoints of a stage that was handed on: they are several times as large as `model/`, which is all
    that the next stage needs. Of the best one on validation, if there is one, the model stays, with its processor."""
    if not PartialState().is_main_process:
        return
    write_atomically(run.folder / MADE_OF, json.dumps(run.made_of, indent=1) + "\n")
    for folder in checkpoints.in_order(run.folder / "checkpoints"):
        if checkpoints.step_of(folder) != best_step:
            checkpoints.remove(folder)
            continue
        (folder / checkpoints.MARKER).unlink()
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in MODEL_FILES and not path.name.startswith(("model", "adapter_model")):
                path.unlink()
        processor.save_pretrained(folder)
    (run.folder / "checkpoints" / LOCK).unlink()


def file_state(path: Path) -> dict[str, int]:
    """The state of a file that lines are added to: its length, once what is in it has reached the disk."""
    if not path.exists():
        return {"bytes": 0}
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
        return {"bytes": os.fstat(stream.fileno()).st_size}


def cut_back(path: Path, state: dict[str, int]) -> None:
    """Take away what was added to a file after `file_state`, so that a resumed run neither loses nor repeats a line."""
    if not PartialState().is_main_process:
        return
    if (path.stat().st_size if path.exists() else 0) < state["bytes"]:
        raise UserError(f"{path} is shorter than when the checkpoint was written: put it back, or remove the "
                        "checkpoints beside it to start over")
    path.touch()
    os.truncate(path, state["bytes"])


def _lock(folder: Path) -> None:
    """Keep a second process out of a run until this one ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)  # stays open: closing it would free the lock
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise UserError(f"{folder.parent} is being trained by another process: wait for it to end, or stop "
                        "it") from None
    except OSError as error:
        raise UserError(f"{folder / LOCK} cannot be locked ({error.strerror}): write output_dir on a file system with "
                        "locks (Lustre: mounted with flock)") from error
