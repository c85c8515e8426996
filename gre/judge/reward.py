"""The judge as a reward: P(True) of a policy's own chains, by a judge that was checked first."""
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from accelerate import PartialState

from gre import manifest
from gre.config import UserError, check_least, option
from gre.data.images import load_image
from gre.data.records import SeedRow
from gre.judge.model import RIGHT, Judge, Question, ServedJudge, completion_text
from gre.judge.photos import judged_photos, unseen_rows
from gre.judge.quality import (
    MIN_AUC,
    NUM_GENERATIONS,
    NUM_PHOTOS,
    TRUE_WITHIN_KM,
    ask,
    check_gate,
    on_policy_metrics,
    sample_completions,
    sampling,
)
from gre.models import adapter
from gre.models.vlm import load_processor
from gre.rewards.answers import Answers, Reward
from gre.rollout.completion import Rollout
from gre.rollout.engines import judge_server
from gre.rollout.vllm.client import Server, together
from gre.rollout.vllm.start import ADAPTER
from gre.text.answers import parse_answer
from gre.training.arguments import weight_dtype
from gre.training.data import Loader, picture_loader
from gre.training.rl import RLConfig, Setup

TIMEOUT_S = 600.0  # a served judge may take for a verdict


@dataclass
class AskedConfig:
    """A judge and how it is asked."""

    model_name_or_path: str | None = option(None, "the judge's folder")
    url: str = option("", "of a server of that folder, which scripts/serve.sh started; empty: judged in this process")
    min_auc: float = option(MIN_AUC, "lowest AUC, on held-out Judge rows and on stage 1's completions, RL starts with")
    batch_size: int = option(8, "photos judged at a time")
    accept_seen_photos: bool = option(False, "train on photos the judge has seen, or may have seen")

    def __post_init__(self):
        check_least("judge.", self, {"min_auc": 0, "batch_size": 1})


@dataclass
class JudgeConfig(AskedConfig):
    """The judge and what is asked of it."""

    min_rank_correlation: float = option(0.05, "lowest mean rank correlation of P(True) with nearness, within groups, "
                                               "over 20 steps; below it the run stops. -1 never stops one")

    def __post_init__(self):
        super().__post_init__()
        check_least("judge.", self, {"min_rank_correlation": -1})


@dataclass(frozen=True)
class Checked:
    """A judge that may reward: its folder's record, and how good it was found."""

    judge: Judge | ServedJudge
    parent: manifest.Parent
    measured: dict

    def reward(self, settings: AskedConfig, config: RLConfig, pay: Callable[..., list[list[float]]]) -> Reward:
        """`pay` (judge, batch size, groups, load) for a step. A served judge is asked by all processes together: where
        one fails, all stop."""
        load = picture_loader(self.judge.processor, config.data, config.output_dir)
        pay = partial(pay, self.judge, settings.batch_size, load=load)
        return partial(together, pay) if settings.url else pay


def load_judge(settings: AskedConfig, setup: Setup, parent: manifest.Parent,
               question: Question = RIGHT) -> Judge | ServedJudge:
    """The judge in `parent`, in this process or behind judge.url."""
    if settings.url:
        return served_judge(settings, setup.stage.config, parent, question)
    return Judge(setup.stage.load_frozen(parent.model_dir), load_processor(parent.model_dir), question)


def check_judge(settings: JudgeConfig, setup: Setup) -> Checked:
    """The judge of a stage. Its quality is that of its manifest on held-out rows, and on this policy's own completions:
    measured here unless its manifest holds that of this very policy.

    Raises UserError when it is not there or falls short of judge.min_auc.
    """
    config: RLConfig = setup.stage.config
    parent = judge_parent(settings, config)
    metrics = parent.manifest["metrics"] if parent.manifest else {}
    judge = load_judge(settings, setup, parent)
    if metrics.get("policy_sha256") == setup.stage.parent.sha256 and "policy_sampling" in metrics:
        check_sampling(metrics["policy_sampling"], setup.rollout)
    else:  # another policy, or an older judge that does not say how that one was sampled
        metrics = {**metrics, **measure_on_policy(settings, setup, judge)}
    names = ("auc", "auc_on_policy", "calibration_error", "n", "n_on_policy")
    measured = {name: metrics[name] for name in names if name in metrics}
    check_gate(measured, settings.min_auc)
    return Checked(judge, parent, measured)


def judge_parent(settings: AskedConfig, config: RLConfig, stage: str = "judge") -> manifest.Parent:
    """The judge's folder, verified. stage: that trains such judges. Raises UserError when none is given."""
    if settings.model_name_or_path is None:
        raise UserError(f"no judge is given: write judge.model_name_or_path=FOLDER (stages/{stage}.py trains one)")
    return manifest.verify_parent(settings.model_name_or_path, {stage}, config.accept_parent)


def rows_for(judge: manifest.Parent, rows: list[SeedRow], config: RLConfig) -> list[SeedRow]:
    """The rows whose photos a judge has not seen. Raises UserError unless it may leave the others out."""
    if config.judge.accept_seen_photos:
        return rows
    return unseen_rows(rows, judged_photos(judge), config.data)


def check_sampling(measured: dict, rollout: Rollout) -> None:
    """Raise UserError when the judge was measured on completions of another distribution than RL samples from: its AUC
    there says nothing about what it will reward here."""
    here = sampling(rollout)
    if measured != here:
        differences = ", ".join(f"policy.{name}={value:g} (rollout.{name} is {here[name]:g})"
                                for name, value in measured.items() if value != here[name])
        raise UserError(f"the judge was measured on completions of another distribution, with {differences}: set the "
                        "rollout's key to the judge's value, or train the judge with the rollout's")


def served_judge(settings: AskedConfig, config: RLConfig, parent: manifest.Parent,
                 question: Question = RIGHT) -> ServedJudge:
    """The judge at judge.url. UserError unless it serves this very folder with what this run needs."""
    if config.data.cache_gib:
        raise UserError("data.cache_gib keeps processed photos, and a served judge processes photos itself: write "
                        "data.cache_gib=0 or leave judge.url out")
    server = Server(settings.url, TIMEOUT_S, ADAPTER if adapter.rank(parent.model_dir) else None)
    processor = load_processor(parent.model_dir)
    dtype = weight_dtype(config.train, config.model)
    wanted = judge_server(parent, processor, config.model.max_length, dtype)
    together(lambda: PartialState().is_main_process and server.check(wanted))
    if PartialState().is_main_process:
        print(f"judge: served at {server.url}, in {dtype}", flush=True)
    return ServedJudge(server, processor, question)


def measure_on_policy(settings: JudgeConfig, setup: Setup, judge: Judge | ServedJudge) -> dict:
    """The judge's AUC on completions that the parent samples for some of the rows."""
    stage = setup.stage
    rows = random.Random(stage.config.seed).sample(setup.rows, min(NUM_PHOTOS, len(setup.rows)))
    texts = sample_completions(stage.load_frozen(), stage.processor, setup.rollout, rows, NUM_GENERATIONS,
                               stage.config.seed)
    metrics = on_policy_metrics(judge, rows, texts, TRUE_WITHIN_KM, settings.batch_size)
    if metrics["auc_on_policy"] is None:
        raise UserError(
            f"the judge cannot be measured on the completions of {stage.parent.name}: {metrics['n_on_policy']} have a "
            f"readable answer and {metrics['right_on_policy']:.0%} of these lie within {TRUE_WITHIN_KM:g} km; both "
            "kinds are needed. Train a judge with policy.model_name_or_path=FOLDER, which measures it on other photos")
    return metrics


def p_true_rewards(judge: Judge | ServedJudge, batch_size: int, groups: list[Answers],
                   load: Loader = load_image) -> list[list[float]]:
    """P(True) of every completion, 0 without a readable answer; a photo is shown to the judge once per group."""
    photos = [group.row.image for group in groups for _ in group.texts]
    texts = [text for group in groups for text in group.texts]

    def p_true(readable: list[int]) -> list[float]:
        questions = [(photos[i], completion_text(texts[i])) for i in readable]
        return ask(judge, questions, batch_size, load).p_true.tolist()

    rewards = iter(judge_rewards(texts, p_true))
    return [[next(rewards) for _ in group.texts] for group in groups]


def judge_rewards(completions: Sequence[str], p_true: Callable[[list[int]], Sequence[float]]) -> list[float]:
    """P(True) of each completion; one without a readable answer gets 0 and the judge is not asked.

    p_true: the judge, given the indices of the completions to judge; answers with a probability for each. Its errors
    pass through: a failing judge stops the run and never turns into a reward.
    """
    rewards = [0.0] * len(completions)
    readable = [index for index, text in enumerate(completions) if parse_answer(text) is not None]
    if readable:
        for index, probability in zip(readable, p_true(readable), strict=True):
            rewards[index] = float(probability)
    return rewards
