"""Stage 1, cold start: supervised fine-tuning on GRE30K-CoT, loss on the completion only.

The paper trains Qwen2.5-VL-7B for one epoch at learning rate 1e-5 and batch 128. It does not state the pixel budget;
ours is 1280 visual tokens a photo at most. Rows are packed, never padded and never cut. Rows of MP16-Reason, which
answer in names, are taken too, and then validation measures to the city that is named.

    python -m stages.stage1 configs/gre7b/stage1.yaml model_name_or_path=Qwen/Qwen2.5-VL-7B-Instruct
"""
from dataclasses import dataclass
from functools import partial

from gre.config import REQUIRED, main, option
from gre.data.images import load_image
from gre.data.records import CoTRow, SeedRow, read_taught
from gre.geo.places import gazetteer
from gre.leave import leave
from gre.manifest import BASE
from gre.models.packing import Group
from gre.models.vlm import encode_prompt, encode_response
from gre.rewards.answers import distance_km
from gre.rewards.place import MIN_POPULATION, named_distance_km
from gre.text.answers import parse_answer
from gre.training.data import Loader, response_length
from gre.training.inputs import check_inputs, plan
from gre.training.sft import SFTTrainer
from gre.training.stage import Stage, StageConfig
from gre.training.watching.validation import (
    Distance,
    ValidationConfig,
    add_validation,
    validation_rows,
    warn_of_trained,
)

PARENTS = {BASE}


@dataclass
class Config(StageConfig):
    """Keys of stage 1."""

    model_name_or_path: str = option(REQUIRED, "the base: a model folder or a hub name")
    validation: ValidationConfig = option(ValidationConfig, "greedy answers while training")


def run(config: Config) -> None:
    """Train on GRE30K-CoT and hand on `output_dir`."""
    stage, rows, validated = read(config)
    model = stage.load_trained()
    stage.begin(rows)
    trainer = SFTTrainer(model, stage.args, rows, partial(encode, stage.processor, load=stage.picture_loader()),
                         tokens_per_pass=config.train.tokens_per_pass, callbacks=stage.callbacks())
    add_validation(trainer, stage.processor, config.validation, validated, distance_to_answers(rows))
    stage.train(trainer)
    stage.hand_on(trainer, rows)


def read(config: Config) -> tuple[Stage, list[CoTRow], list[SeedRow]]:
    """All that is read before training: (stage, rows, rows to validate on)."""
    check_inputs(config)
    rows, validated = read_taught(config.data), validation_rows(config.validation, config.data.on_bad_row)
    stage = Stage("stage1", config, PARENTS)
    rows = stage.fitting(rows, partial(response_length, stage.processor))
    validated = stage.askable(validated, config.validation.data)
    warn_of_trained(validated, (row.image for row in rows))
    return stage, rows, validated


def distance_to_answers(rows: list[CoTRow]) -> Distance:
    """How far an answer is, in the form that the rows teach: coordinates, or names."""
    if parse_answer(rows[0].response) is not None:
        return distance_km
    return partial(named_distance_km, gazetteer=gazetteer(MIN_POPULATION))


def encode(processor, row: CoTRow, load: Loader = load_image) -> Group:
    """A row as a group of one completion; its photo is decoded here."""
    return Group(encode_prompt(processor, row.instruction, load(row.image)),
                 [encode_response(processor, row.response)])


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
    leave()
