"""GLOBE's reward model: a judge of whether a photo's place can be told from what is to be seen in it.

Trained on teachers' reasoning and on whether they found the picture localizable (`response` and `localizability` of
MP16-Reason rows); GLOBE's own 200,000 rows are not published. Training, template and measures are those of the judge
(stages/judge.py) with another question. Photos are split before training. `auc_text_only` is the same model's AUC on
grey pictures: where it is as high, teachers' phrases were learned and not pictures, and a warning says so.
stages/globe.py refuses a model that falls short, and photos it has seen.

    python -m stages.localizability configs/globe7b/localizability.yaml output_dir=runs/x/localizability
"""
from dataclasses import dataclass

from gre import manifest
from gre.config import REQUIRED, UserError, main, option
from gre.data.records import JudgeRow, read_reason
from gre.judge.fit import fit
from gre.judge.localizability import MIN_AUC, STAGE, blindness, check_gate, check_labels, judge_row, metrics_of
from gre.judge.model import LOCALIZABLE, Judge
from gre.judge.photos import write_photos
from gre.judge.rows import check_split, length, split_by_photo
from gre.leave import leave
from gre.models.vlm import load_processor
from gre.training.inputs import check_inputs, plan
from gre.training.stage import Stage, StageConfig

PARENTS = {manifest.BASE, "stage1"}
AT_ONCE = 16  # photos judged at a time when it is measured


@dataclass
class Config(StageConfig):
    """Keys of the reward model."""

    model_name_or_path: str = option(REQUIRED, "the parent: the base, or a stage 1 checkpoint")
    held_out_share: float = option(0.1, "share of photos kept for measuring")


def run(config: Config) -> None:
    """Train, measure and hand on `output_dir`."""
    stage, train_rows, held_out = read(config)
    metrics = fit(stage, train_rows, LOCALIZABLE)
    if stage.args.process_index == 0:
        metrics |= measure(config, stage, held_out)
        metrics["photos_sha256"] = write_photos(stage.folder, {row.image for row in (*train_rows, *held_out)})
    stage.finish(metrics, instructions=[LOCALIZABLE.instruction] * len(train_rows))


def read(config: Config) -> tuple[Stage, list[JudgeRow], list[JudgeRow]]:
    """All that is read before training: (stage, rows, held-out rows)."""
    check_inputs(config)
    rows = read_reason(config.data)
    check_labels(list(map(judge_row, rows)), config.data.path)
    stage = Stage(STAGE, config, PARENTS)
    rows = stage.fitting(rows, lambda row: length(stage.processor, judge_row(row), LOCALIZABLE))
    train_rows, held_out = split_by_photo(list(map(judge_row, rows)), config.held_out_share, config.seed)
    check_split(train_rows, held_out)
    return stage, train_rows, held_out


def measure(config: Config, stage: Stage, held_out: list[JudgeRow]) -> dict:
    """The quality of the saved model, on this process alone."""
    folder = stage.folder / "model"
    judge = Judge(stage.load_frozen(folder), load_processor(folder), LOCALIZABLE)
    metrics = metrics_of(judge, held_out, config.seed, AT_ONCE)
    print("localizability: " + ", ".join(f"{name} {value:.3f}" for name, value in metrics.items()
                                         if isinstance(value, float)), flush=True)
    try:
        check_gate(metrics, MIN_AUC)
    except UserError as error:
        print(f"localizability: RL would refuse this model as it is: {error}", flush=True)
    if warning := blindness(metrics):
        print(f"warning: {warning}", flush=True)
    return metrics


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
    leave()
