"""The life of a stage, the same for all: from its config to `model/` and `manifest.json`.

    stage = Stage("stage3", config, parents={"stage2"})     # verified parent and processor; nothing is written yet
    rows = stage.fitting(read_seed(config.data), length)
    model = stage.load_trained()
    stage.begin()                                           # locks OUTPUT and finds the checkpoint to resume from
    trainer = SFTTrainer(model, stage.args, rows, encode, callbacks=stage.callbacks())
    stage.train(trainer)                                    # to the end, or to a checkpoint at a signal
    stage.hand_on(trainer, rows)

Killed at any moment, the same command resumes from the last whole checkpoint; a finished stage is never trained away.
Every process calls all of it.
"""
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import Trainer, TrainerCallback

from gre import manifest
from gre.config import REQUIRED, UserError, option, save
from gre.models import lora, zero
from gre.models.vlm import ModelConfig, freeze_vision, load_model, load_processor
from gre.provenance import file_hash, write_atomically
from gre.training.arguments import TrainConfig, training_arguments, weight_dtype
from gre.training.data import Loader, TrainingData, fitting_rows, picture_loader
from gre.training.trainer import checkpoints
from gre.training.trainer.resumable import ResumableTrainer
from gre.training.watching.metrics import MetricsFile

MADE_OF = "made_of.json"  # of a finished stage: what its checkpoints said the run is made of


@dataclass
class StageConfig:
    """Keys that every stage has; each adds its own."""

    output_dir: str = option(REQUIRED, "folder of this stage, such as runs/NAME/stage1")
    model_name_or_path: str = option(REQUIRED, "the parent: the folder of the stage before")
    accept_parent: str = option("verified", "verified, or any: take an unfinished, altered or wrong-stage parent")
    seed: int = option(0, "seed of row order, sampling and whatever else is drawn")
    data: TrainingData = option(TrainingData, "the rows")
    model: ModelConfig = option(ModelConfig, "the model")
    train: TrainConfig = option(TrainConfig, "the optimiser")


class Stage:
    """A stage that has been checked and not begun: its arguments, its verified parent, and the parent's processor.

    name: what the manifest calls it. parents: the stages its parent may come from. dtype: of models that are not
    trained (reference, judge). Raises UserError for whatever is wrong with the config or the parent.
    """

    def __init__(self, name: str, config: StageConfig, parents: set[str]):
        self.name, self.config, self.folder = name, config, Path(config.output_dir)
        self.args = training_arguments(config.train, config.output_dir, config.seed,
                                       config.model.gradient_checkpointing)
        self.parent = manifest.verify_parent(config.model_name_or_path, parents, config.accept_parent)
        budget = manifest.child_budget(self.parent, config.model.min_pixels, config.model.max_pixels,
                                       config.accept_parent)
        self.processor = load_processor(self.parent.model_dir, budget.min_pixels, budget.max_pixels)
        self.dtype = weight_dtype(config.train, config.model)
        self._made_of: dict[str, Any] = {}
        self._checkpoint: Path | None = None

    def fitting(self, rows: Sequence[Any], length: Callable[[Any], int]) -> list[Any]:
        """The rows of at most model.max_length tokens; see `fitting_rows`."""
        return fitting_rows(rows, length, self.config.model.max_length, drop=self.config.data.on_bad_row == "drop")

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

    def begin(self, **made_of: str) -> None:
        """Open the stage's folder, write its config and find the checkpoint to resume from.

        made_of: sha256 of what else the weights come from, such as a judge.
        Raises UserError when another process trains there, or when a checkpoint or a finished stage there belongs to
        another run, and SystemExit(0) when this very run is finished.
        """
        self._made_of = {**checkpoints.settings_of(self.config), "parent": self.parent.sha256,
                         "data": file_hash(self.config.data.path), "processes": self.args.world_size, **made_of}
        if finished(self.folder, self._made_of):
            raise SystemExit(0)
        found: list[Path | None] = [None]
        if self.args.process_index == 0:
            checkpoints.lock(self.folder / "checkpoints")
            found[0] = checkpoints.newest(self.folder / "checkpoints", self._made_of)
            save(self.config, manifest.begin(self.folder) / "config.yaml")
        (self._checkpoint,) = broadcast_object_list(found)

    def train(self, trainer: ResumableTrainer) -> None:
        """Train to the end, or to a checkpoint at a signal; see `ResumableTrainer.train_or_stop`."""
        trainer.train_or_stop(self._made_of, self._checkpoint)

    def hand_on(self, trainer: ResumableTrainer, rows: Sequence[Any], metrics: dict | None = None) -> None:
        """Write `model/` and, last, its manifest. rows: what it was trained on, each with the instruction that was
        asked. metrics: numbers, beside the training's own."""
        self.save(trainer)
        self.finish({**training_metrics(trainer), "rows": len(rows), **(metrics or {})},
                    instructions=[row.instruction for row in rows], best_step=trainer.best_step)

    def save(self, trainer: Trainer) -> None:
        """Write `model/` alone, for a stage that measures it before it is handed on. No pickle is written, so
        Trainer.save_model is not used."""
        save_model(trainer, self.processor, self.folder)

    def finish(self, metrics: dict, *, instructions: Iterable[str], data: Iterable[str | Path] = (),
               best_step: int | None = None) -> None:
        """Check `model/`, write the manifest and remove the checkpoints. instructions: of every row it was trained on.
        data: files read besides data.path. best_step: of the checkpoint whose model stays. Raises UserError when the
        saved model is not whole."""
        if self.args.process_index == 0:
            manifest.finish(self.folder, stage=self.name, parent=self.parent, data=[self.config.data.path, *data],
                            instructions=instructions, metrics=metrics)
            write_atomically(self.folder / MADE_OF, json.dumps(self._made_of, indent=1) + "\n")
            checkpoints.clear(self.folder / "checkpoints", self.processor, best_step)
        PartialState().wait_for_everyone()


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


def save_model(trainer: Trainer, processor, output_dir: str | Path) -> None:
    """Write `output_dir/model`; an adapter is merged into the trainer's model first. Every process must call it: under
    ZeRO-3 gathering the weights is a collective."""
    if lora.adapted(trainer.model):
        lora.merge(trainer.model)
    if not zero.takes_part_in_saving(trainer):
        return
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        folder, model = Path(output_dir) / "model", trainer.accelerator.unwrap_model(trainer.model)
        for name in model.all_tied_weights_keys:  # under ZeRO-2 a copy, which save_pretrained would write a second time
            weights.pop(name, None)
        model.save_pretrained(folder, state_dict=weights)
        processor.save_pretrained(folder)


def training_metrics(trainer: Trainer) -> dict:
    """Steps, seconds, the mean training loss and the last one logged (absent in a run shorter than logging_steps)."""
    history = trainer.state.log_history
    losses = [log["loss"] for log in history if "loss" in log]
    return {"steps": trainer.state.global_step, "train_loss": history[-1]["train_loss"],
            "train_seconds": history[-1]["train_runtime"], **({"last_loss": losses[-1]} if losses else {})}
