"""Fine-tuning a judge, whatever it is asked."""
import gc
from collections.abc import Sequence
from functools import partial

from gre.data.records import JudgeRow
from gre.judge.model import Judge, Question
from gre.judge.rows import encode
from gre.training.sft import SFTTrainer
from gre.training.stage import Stage, training_metrics


def fit(stage: Stage, rows: Sequence[JudgeRow], question: Question) -> dict:
    """Train the stage's parent on the rows, save it, and give its memory back; the training's metrics."""
    config = stage.config
    model = stage.load_trained()
    Judge(model, stage.processor, question)  # refuses a tokenizer without the two words as single tokens
    stage.begin(rows)
    trainer = SFTTrainer(model, stage.args, rows,
                         partial(encode, stage.processor, load=stage.picture_loader(), question=question),
                         tokens_per_pass=config.train.tokens_per_pass, callbacks=stage.callbacks())
    stage.train(trainer)
    stage.save(trainer)
    metrics = {**training_metrics(trainer), "rows": len(rows)}
    trainer.accelerator.free_memory()
    del trainer, model
    gc.collect()
    return metrics
