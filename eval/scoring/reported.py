"""Scores as a run of Weights & Biases, for those who keep training there (train.report_to=wandb)."""
import os
from collections.abc import Mapping

WANDB = "wandb"
PROJECT = "geo-localization"  # where WANDB_PROJECT names none


def to_wandb(scores: Mapping) -> None:
    """One run of the type `eval`: its summary holds the numbers, its config where they come from.

    WANDB_PROJECT, WANDB_NAME, WANDB_RUN_GROUP and WANDB_MODE=offline are wandb's own variables, as in training.
    """
    import wandb

    config = {key: scores[key] for key in ("commit", "command", "versions", "protocol", "files")}
    with wandb.init(project=os.environ.get("WANDB_PROJECT", PROJECT), job_type="eval", config=config) as run:
        run.summary.update(flat(scores))


def flat(scores: Mapping) -> dict[str, float]:
    """Name → number: MODEL/MEASURE with its /low and /high (None, a withheld interval, is left out), what could not be
    read and why, GeoScore by slice, and the chains'."""
    found: dict[str, float | None] = {"n": scores["n"]}
    for model, measures in scores["all"].items():
        if isinstance(measures, Mapping):
            for measure, estimate in measures.items():
                name = f"{model}/{measure}"
                found |= {name: estimate["value"], f"{name}/low": estimate["low"], f"{name}/high": estimate["high"]}
    for reason in ("unparsed", "refused", "filtered", "cut_off"):
        found |= {f"{model}/{reason}": count for model, count in scores[reason].items()}
    for field, labels in scores["slices"].items():
        for label, block in labels.items():
            found |= {f"{model}/{field}/{label}/geoscore": block[model]["geoscore"]["value"]
                      for model in scores["unparsed"]}
    if scores["chain"]:
        found |= {f"predictions/chain/{measure}": one["mean"] for measure, one in scores["chain"]["all"].items()}
    return {name: value for name, value in found.items() if value is not None}
