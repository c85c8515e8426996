"""The end of a training stage: whole weights, processor and manifest, on one rank or many."""
from collections.abc import Iterable
from pathlib import Path

from transformers import Trainer

from gre import handoff
from gre.models import lora, zero


def save_model(trainer: Trainer, processor, output_dir: str | Path) -> None:
    """Write `output_dir/model`; an adapter is merged into the trainer's model first. Every rank must call it, since
    ZeRO-3 gathers the weights.

    No pickle is handed on, so Trainer.save_model is not used.
    """
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


def hand_on(trainer: Trainer, processor, output_dir: str | Path, *, stage: str, parent: handoff.Parent,
            data: Iterable[str | Path], instructions: Iterable[str], metrics: dict) -> None:
    """Write `output_dir/model` and its manifest; every rank must call it. UserError when the saved model is not whole.
    """
    save_model(trainer, processor, output_dir)
    if trainer.is_world_process_zero():
        handoff.finish(output_dir, stage=stage, parent=parent, data=data, instructions=instructions,
                       metrics=metrics)
    trainer.accelerator.wait_for_everyone()


def training_metrics(trainer: Trainer) -> dict:
    """Steps, seconds, the mean training loss and the last one logged (absent in a run shorter than logging_steps)."""
    history = trainer.state.log_history
    losses = [log["loss"] for log in history if "loss" in log]
    return {"steps": trainer.state.global_step, "train_loss": history[-1]["train_loss"],
            "train_seconds": history[-1]["train_runtime"], **({"last_loss": losses[-1]} if losses else {})}
