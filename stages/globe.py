"""GLOBE: GRPO on the place's name, on what is seen and on localizability, from the base or a stage 1 that names places.

Rewards are named in `weights` with what each is worth beside the others; one of weight 0 is not asked. `place` is
GLOBE's R_geo, `grounding` R_vis, `localizability` R_loc by a reward model (stages/localizability.py). `format` and
`gps` are those of the other stages; the distance is that of the city named when an answer gives no coordinates. Rows
are MP16-Reason's. What GLOBE's released code does otherwise is behind `place.match=upstream` and
`grounding.direction=upstream`; and a reward model that fails stops the run, where it recorded a 0.

    python -m stages.globe configs/globe7b/globe.yaml output_dir=runs/x/globe
"""
from collections import Counter
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from accelerate import PartialState
from torch import Tensor

from gre import manifest
from gre.config import UserError, check_least, main, option
from gre.data.records import ReasonRow, SeedRow, left_out, list_dropped, read_reason
from gre.geo.places import gazetteer
from gre.judge import localizability
from gre.judge.localizability import LocalizabilityConfig, UnlocalizableGuard, p_yes_rewards
from gre.judge.reward import judge_parent, rows_for
from gre.leave import leave
from gre.rewards.answers import Answers, Reward
from gre.rewards.format import format_rewards
from gre.rewards.gps import DistanceConfig
from gre.rewards.grounding import GroundingConfig, Vocabulary, grounding_rewards
from gre.rewards.place import (
    MIN_POPULATION,
    PlaceConfig,
    named_distance_km,
    named_distance_rewards,
    place_rewards,
)
from gre.training import rl
from gre.training.inputs import check_inputs, plan
from gre.training.stage import Stage
from gre.training.watching.metrics import Meter

PARENTS = {manifest.BASE, "stage1"}


@dataclass
class WeightsConfig:
    """What each reward is worth beside the others; 0: it is not asked."""

    format: float = option(1.0, "the form of a completion")
    place: float = option(1.0, "the country's and the city's name")
    grounding: float = option(0.5, "what the chain claims to see")
    localizability: float = option(0.0, "what the reward model says of picture and chain")
    gps: float = option(0.0, "the distance")

    def __post_init__(self):
        check_least("weights.", self, dict.fromkeys((field.name for field in fields(self)), 0))
        if not any(vars(self).values()):
            raise ValueError("weights are all 0: nothing would be learned")


@dataclass
class Config(rl.RLConfig):
    """Keys of GLOBE."""

    weights: WeightsConfig = option(WeightsConfig, "the rewards")
    place: PlaceConfig = option(PlaceConfig, "the place reward")
    grounding: GroundingConfig = option(GroundingConfig, "the grounding reward")
    judge: LocalizabilityConfig = option(LocalizabilityConfig, "the reward model of localizability")
    gps: DistanceConfig = option(DistanceConfig, "the distance reward")


def run(config: Config) -> None:
    """Check the reward model, train and hand on `output_dir`."""
    setup = rl.prepare(*read(config))
    rewards: dict[str, Reward] = {"format": format_rewards}
    places, known = gazetteer(MIN_POPULATION), Vocabulary(row.entities for row in setup.rows)
    rewards["place"] = partial(place_rewards, config.place, places)
    rewards["grounding"] = partial(grounding_rewards, config.grounding, known)
    rewards["gps"] = partial(named_distance_rewards, config.gps, places)
    made_of, metrics, guard = {}, {"gazetteer": places.provenance}, None
    if config.weights.localizability:
        checked = localizability.check(config.judge, setup)
        rewards["localizability"] = checked.reward(config.judge, config, p_yes_rewards)
        guard = UnlocalizableGuard(config.judge.max_rise, Path(config.output_dir) / "alarms.jsonl")
        made_of["judge"] = checked.parent.sha256
        metrics["judge"] = {**checked.parent.record(), **checked.measured}
    weights = {name: weight for name, weight in vars(config.weights).items() if weight}
    rl.train(setup, rl.Recipe(
        rewards={name: rewards[name] for name in weights}, weights=weights,
        distance=partial(named_distance_km, gazetteer=places), on_rollout=partial(on_rollout, guard),
        stateful={"localizability_guard": guard} if guard else {}, made_of=made_of, metrics=metrics))


def read(config: Config) -> tuple[Stage, list[ReasonRow], list[SeedRow]]:
    """All that is read before training: (stage, rows that can be rewarded, rows to validate on)."""
    check_inputs(config)
    stage, rows, validation = rl.read("globe", config, PARENTS, read_reason)
    faults = unrewardable(config.weights, rows, config.place)
    if PartialState().is_main_process:
        list_dropped(rows, faults, config.data)
    rows = left_out(rows, faults, config.data)
    if config.weights.place and PartialState().is_main_process and (
            cityless := sum(row.names.city is None for row in rows)):
        print(f"{cityless:,} of {len(rows):,} rows name no city: the place reward pays at most "
              f"{1 - config.place.alpha:.3g} there, for the country (1 - place.alpha)", flush=True)
    if config.weights.grounding and not any(row.entities for row in rows):
        raise UserError(f"no row of {config.data.path} lists entities, and the grounding reward is made of them: write "
                        "weights.grounding=0, or name a file that has them")
    if config.weights.localizability:
        if config.judge.model_name_or_path:
            rows = rows_for(judge_parent(config.judge, config, localizability.STAGE), rows, config)
        marked = Counter(row.localizable for row in rows)[False]
        if PartialState().is_main_process:
            seen = "these" if marked else "nothing (see mp16_reason_watched.jsonl in docs/data.md)"
            print(f"{marked:,} of {len(rows):,} pictures are marked unlocalizable: the guard against a gamed reward "
                  f"model watches {seen}", flush=True)
    return stage, rows, validation


def unrewardable(weights: WeightsConfig, rows: list[ReasonRow], place: PlaceConfig) -> dict[str, str]:
    """Row id -> what a reward of this stage lacks there."""
    faults = {}
    for row in rows:
        if weights.place and not row.names.country:
            faults[row.id] = "it names no country, which the place reward compares (weights.place)"
        elif weights.place and not row.names.city and place.alpha == 1:
            faults[row.id] = "it names no city, and with place.alpha=1 the place reward pays for nothing else"
        elif weights.gps and row.truth is None:
            faults[row.id] = "it has no gt_lat, gt_lon, which the distance reward measures to (weights.gps)"
    return faults


def on_rollout(guard: UnlocalizableGuard | None, step: int, groups: list[Answers], rewards: dict[str, Tensor],
               meter: Meter) -> None:
    """Log what the rewards mean, and stop the run when the reward model is being gamed."""
    if "place" in rewards:
        meter.add("place/country_and_city", rewards["place"] == 1)
    if guard is not None:
        right = rewards.get("place", rewards["localizability"] * 0)
        found = localizability.numbers(groups, rewards["localizability"], right)
        meter.add_numbers(found)
        if "localizability/unlocalizable" in found:
            guard.observe(step, found["localizability/unlocalizable"],
                          round(found["localizability/unlocalizable_pictures"]))


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
    leave()
