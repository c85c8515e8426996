"""The life of a stage, the same for all: from its config to `model/` and `manifest.json`.

    stage = Stage("stage3", config, parents={"stage2"})     # verified parent and processor
    rows = stage.fitting(read_seed(config.data), length)
    model = stage.load_trained()
    stage.begin(rows)                                       # locks OUTPUT and finds the checkpoint to resume from
    trainer = SFTTrainer(model, stage.args, rows, encode, callbacks=stage.callbacks())
    stage.train(trainer)                                    # to the end, or to a checkpoint at a signal
    stage.hand_on(trainer, rows)

Killed at any moment, the same command resumes from the last whole checkpoint; a finished stage is never trained away.
Every process calls all of it.
"""
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ProgressCallback

from gre import manifest
from gre.config import REQUIRED, UserError, option, save
from gre.data.records import DataConfig, SeedRow
from gre.models import adapter, lora, zero
from gre.models import folder as model_folder
from gre.models.vlm import ModelConfig, freeze_vision, load_model, load_processor
from gre.provenance import readable_as_others
from gre.training.arguments import TrainConfig, training_arguments, weight_dtype
from gre.training.data import Loader, TrainingData, picture_loader, row_prompt_length, usable_rows
from gre.training.look import look_at
from gre.training.trainer import checkpoints, identity
from gre.training.trainer.resumable import ResumableTrainer
from gre.training.watching.metrics import MetricsFile
from gre.training.watching.terminal import StepLines


@dataclass
class StageConfig:
    """Keys that every stage has; each adds its own."""

    output_dir: str = option(REQUIRED, "folder of this stage, such as runs/NAME/stage1")
    model_name_or_path: str = option(REQUIRED, "the parent: the folder of the stage before")
    accept_parent: str = option("verified", "verified, or any: take an unfinished, altered or wrong-stage parent")
    accept_changes: list[str] = option([], "what may differ from the checkpoint that is resumed, by the names the "
                                           "refusal gives: processes, rows, rewards.NAME, train.max_steps, "
                                           "train.num_train_epochs; recorded in the manifest")
    seed: int = option(0, "seed of row order, sampling and whatever else is drawn")
    handoff: str = option("last", "which model is handed on: last, or best on validation; with last the best one lies "
                                  "in best/")
    data: TrainingData = option(TrainingData, "the rows")
    model: ModelConfig = option(ModelConfig, "the model")
    train: TrainConfig = option(TrainConfig, "the optimiser")

    def __post_init__(self):
        if not self.output_dir.strip():
            raise ValueError("output_dir is empty: name a folder, such as runs/NAME/stage1")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}: it must lie between 0 and 4294967295")
        share = getattr(self, "held_out_share", 0.1)  # of stages that measure a judge
        if not 0 < share < 1:
            raise ValueError(f"held_out_share is {share}: it must lie between 0 and 1, both left out")
        if wrong := [key for key in self.accept_changes if not key.startswith(identity.ACCEPTABLE)]:
            raise ValueError(f"accept_changes does not take {wrong[0]}: a run with another one is another run. It "
                             "takes processes, rows, rewards.NAME, train.max_steps and train.num_train_epochs")
        if self.handoff not in ("last", "best"):
            raise ValueError(f"handoff is {self.handoff!r}: write last or best")
        validation = getattr(self, "validation", None)  # the judge has none
        if self.handoff == "best" and not (validation and validation.eval_every):
            raise ValueError("handoff=best needs validation.eval_every above 0 and validation.data")
        manifest.check_accepted(self.accept_parent)


class Stage:
    """A stage that has been checked and not begun: its arguments, its verified parent, and the parent's processor.

    name: what the manifest calls it. parents: the stages its parent may come from. dtype: of models that are not
    trained (reference, judge). Raises UserError for whatever is wrong with the config or the parent.
    """

    def __init__(self, name: str, config: StageConfig, parents: Collection[str]):
        self.name, self.config, self.folder = name, config, Path(config.output_dir)
        self.args = training_arguments(config.train, config.output_dir, config.seed,
                                       config.model.gradient_checkpointing)
        self.parent = manifest.verify_parent(config.model_name_or_path, parents, config.accept_parent)
        budget = manifest.child_budget(self.parent, config.model.min_pixels, config.model.max_pixels,
                                       config.accept_parent)
        if model_folder.holds_adapter(self.parent.model_dir) and not config.model.lora.r:
            raise UserError(f"{self.parent.name} is a base and an adapter, and model.lora.r=0 would train the base "
                            "beside it: set model.lora.r (the adapters are joined), or merge the two first, which "
                            f"rounds: python -m gre.export model={config.model_name_or_path} out=FOLDER")
        self.processor = load_processor(self.parent.model_dir, budget.min_pixels, budget.max_pixels)
        self.dtype = weight_dtype(config.train, config.model)
        self._whole_photos = self.folder.absolute().parent / "whole_photos.json"  # the run's stages share it
        self._made_of: dict[str, Any] = {}
        self._checkpoint: Path | None = None

    def fitting(self, rows: Sequence[Any], length: Callable[[Any], int]) -> list[Any]:
        """The rows that can be trained on, of at most model.max_length tokens; see `usable_rows`. What they say is
        counted and printed; see `gre.training.look`."""
        said = look_at(rows, self.config.data.path)
        if PartialState().is_main_process:
            print(said, flush=True)
        return usable_rows(rows, self.config.data, length, self.config.model.max_length, self._whole_photos)

    def askable(self, rows: Sequence[SeedRow], path: str) -> list[SeedRow]:
        """Of rows that are only asked, such as those of validation, the ones that can be. path: their file."""
        data = DataConfig(path, on_bad_row=self.config.data.on_bad_row)
        return usable_rows(rows, data, partial(row_prompt_length, self.processor), None, self._whole_photos)

    def load_trained(self):
        """The parent's model as this stage trains it: which weights, in which type, and with an adapter or without."""
        config, model = self.config, load_model(self.parent.model_dir, self.dtype, to_train=True)
        if config.model.freeze_vision:
            freeze_vision(model)
        if config.model.lora.r:
            lora.adapt(model, config.model.lora, config.seed)
        return model

    def load_frozen(self, folder: str | Path | None = None):
        """A model that is only asked, whole on this process's device: the parent's, or that of another folder."""
        return load_model(folder or self.parent.model_dir, self.dtype).to(self.args.device)

    def picture_loader(self) -> Loader:
        """How this stage's photos are loaded."""
        return picture_loader(self.processor, self.config.data, self.folder)

    def callbacks(self) -> list[TrainerCallback]:
        """What every stage's trainer tells the outside."""
        return [MetricsFile(self.folder / "metrics.jsonl")]

    def begin(self, rows: Sequence[Any], **made_of: str) -> None:
        """Open the stage's folder, write its config and find the checkpoint to resume from.

        rows: what is trained on. made_of: sha256 of what else the weights come from, such as a judge.
        Raises UserError when another process trains there, or when a checkpoint or a finished stage there belongs to
        another run, and SystemExit(0) when this very run is finished.
        """
        found: list[Any] = [None, {}, False]
        if self.args.process_index == 0:
            run = identity.made_of(self.config, processes=self.args.world_size, parent=self.parent.sha256,
                                   rows=identity.rows_hash(rows), **made_of)
            found[1:] = run, finished(self.folder, run, self.config.accept_changes)
            if not found[2]:
                checkpoints.lock(self.folder / "checkpoints")
                found[0], run[identity.CHANGES] = checkpoints.newest(self.folder / "checkpoints", run,
                                                                     self.config.accept_changes)
                save(self.config, manifest.begin(self.folder) / "config.yaml")
        self._checkpoint, self._made_of, done = broadcast_object_list(found)
        if done:
            raise SystemExit(0)
        if self.config.train.deepspeed and any(change["key"] == "processes" for change in self._made_of["changes"]):
            raise UserError("DeepSpeed's checkpoints are cut by the number of processes: resume this one on as many as "
                            "before")

    def train(self, trainer: ResumableTrainer) -> None:
        """Train to the end, or to a checkpoint at a signal; see `ResumableTrainer.train_or_stop`."""
        trainer.remove_callback(ProgressCallback)  # whose dict of numbers is for the file
        trainer.add_callback(StepLines())
        trainer.train_or_stop(self._made_of, self._checkpoint)

    def hand_on(self, trainer: ResumableTrainer, rows: Sequence[Any], metrics: dict | None = None) -> None:
        """Write `model/` and, last, its manifest. rows: what it was trained on, each with the instruction that was
        asked. metrics: numbers, beside the training's own.

        With handoff=best `model/` is the best on validation; else that one lies in `best/`, a folder like the stage's.
        """
        instructions, best = [row.instruction for row in rows], trainer.best_step
        numbers = {**training_metrics(trainer), "rows": len(rows), **(metrics or {})}
        at_best = {**numbers, "steps": best, **validated(trainer, best)}
        if best and self.config.handoff == "best":
            self._hand_checkpoint_on(best, self.folder)
            self.finish(at_best, instructions=instructions)
            return
        self.save(trainer)
        if best and best != trainer.state.global_step and self.args.process_index == 0:
            folder = manifest.begin(self.folder / "best")
            save(self.config, folder / "config.yaml")
            self._hand_checkpoint_on(best, folder)
            self._write_manifest(folder, at_best, instructions)
        self.finish(numbers, instructions=instructions)

    def save(self, trainer: Trainer) -> None:
        """Write `model/` alone, for a stage that measures it before it is handed on. No pickle is written, so
        Trainer.save_model is not used."""
        with checkpoints.saying_that_the_disk_is_full(self.folder, self.folder / "checkpoints"):
            if not self.config.model.lora.r:
                save_model(trainer, self.processor, self.folder)
            elif self.args.process_index == 0:
                self._save_adapter(trainer.model, self.folder / "model")

    def finish(self, metrics: dict, *, instructions: Iterable[str], data: Iterable[str | Path] = ()) -> None:
        """Check `model/`, write the manifest and remove the checkpoints. instructions: of every row it was trained on.
        data: files read besides data.path. Raises UserError when the saved model is not whole."""
        if self.args.process_index == 0:
            self._write_manifest(self.folder, metrics, instructions, data)
            checkpoints.clear(self.folder / "checkpoints", self.config.train.keep_last_checkpoint)
        PartialState().wait_for_everyone()

    def _write_manifest(self, folder: Path, metrics: dict, instructions: Iterable[str],
                        data: Iterable[str | Path] = ()) -> None:
        manifest.finish(folder, stage=self.name, parent=self.parent, data=[self.config.data.path, *data],
                        instructions=instructions, metrics=metrics, made_of=self._made_of)

    def _hand_checkpoint_on(self, step: int, folder: Path) -> None:
        """Write `folder/model` from the checkpoint of a step."""
        if self.args.process_index:
            return
        checkpoint = self.folder / "checkpoints" / f"checkpoint-{step}"
        with checkpoints.saying_that_the_disk_is_full(folder, self.folder / "checkpoints"):
            if self.config.model.lora.r:
                model = load_model(self.parent.model_dir, self.dtype)
                lora.adapt(model, self.config.model.lora, self.config.seed)
                lora.load(model, checkpoint)
                self._save_adapter(model, folder / "model")
            else:
                load_model(checkpoint, self.dtype).save_pretrained(folder / "model")
                self.processor.save_pretrained(folder / "model")
                readable_as_others(folder / "model")

    def _save_adapter(self, model, folder: Path) -> None:
        """Write `model`, whose weights are the parent's, as base and adapter."""
        base = folder / model_folder.BASE
        load_model(model_folder.weights_folder(self.parent.model_dir), self.dtype).save_pretrained(base)
        adapter.write(dict(lora.weights(model)), folder)
        for place in (folder, base):
            self.processor.save_pretrained(place)
        for name in ("config.json", "generation_config.json"):
            shutil.copyfile(base / name, folder / name)
        readable_as_others(folder)


def finished(folder: Path, run: dict[str, Any], accepted: Sequence[str] = ()) -> bool:
    """Whether the stage in `folder` was handed on by this very run, on however many processes. Raises UserError when it
    was by another one, unless the change is accepted and its last checkpoint was kept to go on from."""
    if not (folder / manifest.MANIFEST).exists():
        return False
    before = manifest.read_manifest(folder).get("made_of")
    if not before:
        raise UserError(f"{folder} holds a finished stage that does not say what it is made of: write another "
                        "output_dir, or remove that folder to train it anew")
    same = {**before, "processes": 0}, {**run, "processes": 0}
    if not identity.differences(*same):
        print(f"{folder} holds this very stage, finished: nothing is left to do (remove the folder to train it anew)",
              flush=True)
        return True
    identity.check_same(f"the finished stage in {folder}", *same, accepted,
                        "write another output_dir, or remove that folder to train it anew")
    if not checkpoints.in_order(folder / "checkpoints"):
        raise UserError(f"{folder} is finished, and its checkpoints were removed when it was: only a stage trained "
                        "with train.keep_last_checkpoint=true can be trained longer. Write another output_dir, with "
                        "this stage as its parent and accept_parent=any")
    return False


def save_model(trainer: Trainer, processor, output_dir: str | Path) -> None:
    """Write `output_dir/model`. Every process must call it: under ZeRO-3 gathering the weights is a collective."""
    if not zero.takes_part_in_saving(trainer):
        return
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        folder, model = Path(output_dir) / "model", trainer.accelerator.unwrap_model(trainer.model)
        for name in model.all_tied_weights_keys:  # under ZeRO-2 a copy, which save_pretrained would write a second time
            weights.pop(name, None)
        model.save_pretrained(folder, state_dict=weights)
        processor.save_pretrained(folder)
        readable_as_others(folder)


def validated(trainer: Trainer, step: int | None) -> dict:
    """What validation said at a step."""
    return {name: value for log in trainer.state.log_history if log["step"] == step
            for name, value in log.items() if name.startswith("eval/")}


def training_metrics(trainer: Trainer) -> dict:
    """Steps, seconds, the mean training loss and the last one logged (absent in a run shorter than logging_steps)."""
    history = trainer.state.log_history
    losses = [log["loss"] for log in history if "loss" in log]
    return {"steps": trainer.state.global_step, "train_loss": history[-1]["train_loss"],
            "train_seconds": history[-1]["train_runtime"], **({"last_loss": losses[-1]} if losses else {})}
