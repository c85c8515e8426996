"""Stage 1, cold start: supervised fine-tuning on GRE30K-CoT, loss on the completion only.

The paper trains Qwen2.5-VL-7B for one epoch at learning rate 1e-5 and batch 128. It does not state the pixel budget;
ours is 1280 visual tokens a picture at most. Rows are packed, never padded and never cut.

    python -m stages.stage1 configs/gre7b/stage1.yaml model_name_or_path=Qwen/Qwen2.5-VL-7B-Instruct
"""
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gre import handoff
from gre.config import REQUIRED, main, option
from gre.data.images import load_image
from gre.data.records import CoTRow, read_cot
from gre.models.packing import Group
from gre.models.vlm import ModelConfig, encode_prompt, encode_response, load_processor
from gre.training import resume
from gre.training.arguments import TrainConfig, training_arguments
from gre.training.callbacks import MetricsFile
from gre.training.finish import hand_on, training_metrics
from gre.training.pictures import Loader, TrainingData, picture_loader
from gre.training.sft import SFTTrainer, fitting_rows, response_length
from gre.training.trained import load_trained
from gre.training.validation import ValidationConfig, validation_rows, watch


@dataclass
class Config:
    """Keys of stage 1."""

    output_dir: str = option(REQUIRED, "folder of this stage, such as runs/NAME/stage1")
    model_name_or_path: str = option(REQUIRED, "the base: a model folder or a hub name")
    accept_parent: str = option("verified", "verified, or any: take an unfinished, altered or wrong-stage parent")
    seed: int = option(0, "seed of row order and dropout")
    data: TrainingData = option(TrainingData, "GRE30K-CoT")
    model: ModelConfig = option(ModelConfig, "the model")
    train: TrainConfig = option(TrainConfig, "the optimiser")
    validation: ValidationConfig = option(ValidationConfig, "greedy answers while training")


def run(config: Config) -> None:
    """Train and hand on `output_dir`."""
    args = training_arguments(config.train, config.output_dir, config.seed, config.model.gradient_checkpointing)
    parent = handoff.verify_parent(config.model_name_or_path, {handoff.BASE}, config.accept_parent)
    budget = handoff.child_budget(parent, config.model.min_pixels, config.model.max_pixels, config.accept_parent)
    processor = load_processor(parent.model_dir, budget.min_pixels, budget.max_pixels)
    rows = fitting_rows(read_cot(config.data), partial(response_length, processor), config.model.max_length,
                        drop=config.data.on_bad_row == "drop")
    watched = validation_rows(config.validation)
    model = load_trained(parent.model_dir, config.model, config.train, config.seed)
    folder = Path(config.output_dir)
    begun = resume.begin(config, args, parent)
    load = picture_loader(processor, config.data, folder)
    trainer = SFTTrainer(model, args, rows, partial(encode, processor, load=load),
                         tokens_per_pass=config.train.tokens_per_pass,
                         callbacks=[MetricsFile(folder / "metrics.jsonl")])
    watch(trainer, processor, config.validation, watched)
    resume.train(trainer, begun)
    hand_on(trainer, processor, folder, stage="stage1", parent=parent, data=[config.data.path],
            instructions=[row.instruction for row in rows],
            metrics={**training_metrics(trainer), "rows": len(rows)})
    resume.end(begun, processor, trainer.best_step)


def encode(processor, row: CoTRow, load: Loader = load_image) -> Group:
    """A row as a group of one completion; its picture is decoded here."""
    return Group(encode_prompt(processor, row.instruction, load(row.image)),
                 [encode_response(processor, row.response)])


def plan(config: Config) -> dict[str, list[str]]:
    """What a run reads and writes."""
    return {"reads": [config.model_name_or_path, config.data.path], "writes": [config.output_dir]}


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
