"""Everything after training: `python -m eval.quickstart.run run=runs/NAME data=runs/NAME/data base=gre/tiny/base`.

All checkpoints and controls answer the test photos, the judge reads the answers, and results.json, scores.json and
report.html are written. Interrupted, the same command resumes where it stopped.
"""
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from eval import predict
from eval.quickstart import STARTED, judged, report, results
from eval.scoring.printed import percent
from gre.config import REQUIRED, main, option
from gre.manifest import read_manifest


@dataclass
class Config:
    run: str = option(REQUIRED, "the run's folder, runs/NAME, with stage1, judge, stage2 and stage3")
    data: str = option(REQUIRED, "the data folder, laid out as gre.tiny.world writes it")
    base: str = option(REQUIRED, "the model that stage 1 started from")
    seed: int = option(0, "the run's seed; deals the swapped photos, draws the bootstrap and the photos shown")
    batch_size: int | None = option(None, "photos answered at once; null: 64, with vLLM 512")
    max_new_tokens: int | None = option(None, "tokens of an answer; null: as in stage 3's rollouts")
    processes: int = option(1, "models that answer at a time; 1 on a GPU")
    dtype: str = option("auto", "weights while answering: float32, bfloat16, or auto: as they are on disk")


def plan(config: Config) -> dict[str, list[str]]:
    """What a run would read and write."""
    writes = ("predictions", "results.json", "scores.json", "report.html")
    return {"reads": [*(f"{config.run}/{stage}" for stage in ("stage1", "judge", "stage2", "stage3")), config.data,
                      config.base], "writes": [f"{config.run}/{name}" for name in writes]}


def run(config: Config) -> None:
    """Predict, judge, score, report. Raises UserError naming what is missing."""
    folder, data = Path(config.run), Path(config.data)
    models = {"base": config.base, **{stage: str(folder / stage) for stage in results.CHECKPOINTS[1:]}}
    budget = read_manifest(folder / "stage1")["pixel_budget"]  # the base sees what its children see
    max_new_tokens = config.max_new_tokens or results.stage_config(folder, "stage3").rollout.max_new_tokens

    def asked(name: str, model: str, split: str, pictures: str = "own") -> predict.Config:
        return predict.Config(
            model=model, data=str(data / results.DATA[split]), out=str(folder / "predictions" / f"{name}.jsonl"),
            places=str(data / "truth.jsonl"), pictures=pictures, seed=config.seed, batch_size=config.batch_size,
            max_new_tokens=max_new_tokens, dtype=config.dtype, **budget)

    answers = predict_all([*(asked(name, model, "test") for name, model in models.items()),
                           *(asked(pictures, models["stage1"], "test", pictures) for pictures in ("blank", "swapped")),
                           *(asked(f"{results.NEW_PLACES}/{name}", model, results.NEW_PLACES)
                             for name, model in models.items())], config.processes)
    test = dict(zip(models, answers))
    if results.has_judge(folder):
        judged.write(folder, test, (data / results.DATA["test"]).parent)
    seconds = results.seconds(folder, results.PHASES[:-1]) | {"evaluation": round(time.monotonic() - STARTED, 2)}
    made, scores = results.assemble(folder, data, config.seed, seconds)
    results.write(folder, made, scores)
    report.run(report.Config(run=config.run, data=config.data, seed=config.seed))
    for name, block in {**made["controls"], **made["checkpoints"]}.items():
        print(f"{name:>9}: GeoScore {block['mean_geoscore']:5.0f}, "
              f"within 750 km {percent(block['within_km']['750']):>5} %, unparsed {block['unparsed']} of {block['n']} "
              f"({scores['cut_off'][name]} cut off)")


def predict_all(asked: list[predict.Config], processes: int) -> list[list]:
    """The answers of each, some at a time: each process has its share of the cores, and gains little by more."""
    if processes == 1:
        return [predict.run(one) for one in asked]
    with ProcessPoolExecutor(processes, initializer=share_cores, initargs=(processes,)) as pool:
        return list(pool.map(predict.run, asked))


def share_cores(processes: int) -> None:
    """Let this process compute on its share of the cores."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
