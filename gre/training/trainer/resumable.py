"""A trainer that survives being killed: the same command resumes from the last whole checkpoint, to the same weights.

What a step depends on is in the checkpoint: weights, optimizer, schedule and step by Trainer, the random numbers of
Python, numpy and torch too, and, as JSON, whatever a part of the run has to remember (`Stateful`). Rollouts need
nothing: they depend on (seed, step, group, completion) alone.
"""
import json
import time
from collections import ChainMap
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback
from transformers.trainer import TRAINING_ARGS_NAME

from gre.models import lora, zero
from gre.models.vlm import load_model
from gre.training.trainer import checkpoints, workers
from gre.training.trainer.stopping import StopSignal


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
    """Trainer whose checkpoints are whole or do not count, and from which training resumes bit for bit.

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

    def train_or_stop(self, made_of: dict[str, Any], checkpoint: Path | None = None) -> None:
        """Train to the end, from `checkpoint` if there is one. A signal makes it write a checkpoint, say so and exit
        with status 143 (130 after Ctrl-C).

        made_of: what the run is made of, for its checkpoints.
        """
        self.run = made_of
        if checkpoint and self.is_world_process_zero():
            print(f"resuming from {checkpoint}", flush=True)
        with self.stop.listening():
            self.train(checkpoint)
        if self.stop.agreed(self.accelerator) and self.saved_step == self.state.global_step:
            if self.is_world_process_zero():
                print(f"stopped at step {self.state.global_step}; the same command resumes from there", flush=True)
            raise SystemExit(self.stop.status)

    def get_train_dataloader(self):
        """Trainer's, whose photo workers begin as `workers.begin` says."""
        loader = super().get_train_dataloader()
        inner = loader.base_dataloader  # what accelerate's wrapper iterates: what is set on the wrapper stays there
        inner.worker_init_fn = partial(workers.begin, inner.worker_init_fn)
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
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with checkpoints.saying_that_the_disk_is_full(folder, folder.parent):
            super()._save_checkpoint(model, trial)
            self._write_state(folder / self._state_name())
        self.args.save_total_limit = keep
        if self.is_world_process_zero():
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)  # a pickle, which nobody reads
        self.accelerator.wait_for_everyone()
        hashes = gather_object([checkpoints.share_of_hashes(folder, self.args.process_index, self.args.world_size)])
        if self.is_world_process_zero():
            with checkpoints.saying_that_the_disk_is_full(folder, folder.parent):
                checkpoints.complete(folder, self.state.global_step, self.run, ChainMap(*hashes))
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

    def _read_state(self, checkpoint: Path) -> None:
        """What this process wrote; the first one's where it is one more than there were."""
        path, parts = checkpoint / self._state_name(), self._stateful()
        state = json.loads((path if path.exists() else checkpoint / "state-0.json").read_text(encoding="utf-8"))
        if state["parts"].keys() != parts.keys():
            raise ValueError(f"{path} holds the state of {sorted(state['parts'])}, this run has {sorted(parts)}")
        own, losses = state["trainer"], [json.loads(each.read_text(encoding="utf-8"))["trainer"]["loss"]
                                         for each in checkpoint.glob("state-*.json")]
        if len(losses) != self.args.world_size:  # what is logged is the mean over processes
            own["loss"] = sum(losses) / len(losses)
        self._tr_loss = torch.tensor(own["loss"], device=self.args.device)
        self._total_loss_scalar, self._globalstep_last_logged = own["total_loss"], own["logged_step"]
        self.best_step, self._seconds_before = own["best_step"], own["seconds"]
        self._initial_global_step = 0  # the mean loss is that of the whole training
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])


class _Keeper(TrainerCallback):
    """Gives a resumed run its memory back, and stops at a signal where the run can be resumed."""

    def __init__(self, trainer: ResumableTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        model.train()  # Trainer does so after the first step's batches are made, which a resumed step must not notice
        if self.trainer._checkpoint:
            state.compute_steps(args, state.max_steps)  # a resumed state brings the old logging_steps and save_steps
            self.trainer._read_state(self.trainer._checkpoint)

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        """Tell the sampler the epoch: after a resume inside one, accelerate's wrappers hide it from Trainer."""
        node = train_dataloader
        while (node := getattr(node, "batch_sampler", None)) is not None:
            if hasattr(getattr(node, "sampler", None), "set_epoch"):
                node.sampler.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.stop.agreed(self.trainer.accelerator) and self.trainer.at_border():
            control.should_save = control.should_training_stop = True
