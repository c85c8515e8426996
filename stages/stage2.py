"""Stage 2, RL on a judge: GRPO on the format and on P(True) of the policy's own chains, starting from stage 1.

The paper trains the policy to say True or False about given chains; here a judge trained for that on GRE30K-Judge
(stages/judge.py) rewards what the policy itself writes. A judge that cannot tell right from wrong, on held-out Judge
rows or on this policy's completions, is refused before anything is trained, and so are prompts with photos it has seen.
A policy that pleases the judge without coming nearer to the truth is stopped. No supervised loss.

`mode: verdict` is the paper's form: GRPO on the policy's own True or False about GRE30K-Judge rows, reward 1 for the
label. No judge is wanted. Verdicts on photos kept back, before training and after, go into the manifest.

    python -m stages.stage2 configs/gre7b/stage2.yaml model_name_or_path=runs/x/stage1 \
        judge.model_name_or_path=runs/x/judge output_dir=runs/x/stage2
"""
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from accelerate import PartialState
from torch import Tensor

from gre import manifest
from gre.config import UserError, main, option
from gre.data.images import load_image
from gre.models.judge import Judge, ServedJudge, completion_text
from gre.models.server import Server, together
from gre.models.vlm import load_model, load_processor
from gre.rewards.judge import judge_rewards
from gre.training import judging, rl, rollouts, verdict
from gre.training.arguments import weight_dtype
from gre.training.gate import check_gate
from gre.training.grpo import Answers
from gre.training.guards import JudgeGuard
from gre.training.meter import Meter
from gre.training.photos import judged_photos, unseen_rows
from gre.training.pictures import Loader, picture_loader
from gre.training.watch import Watch, read_places

STAGE = "stage2"
MODES = ("judge", "verdict")


@dataclass
class JudgeConfig:
    """The judge and what is asked of it."""

    model_name_or_path: str | None = option(None, "the judge's folder")
    url: str = option("", "of a server of that folder, which scripts/serve.sh started; empty: judged in this process")
    timeout_s: float = option(600.0, "seconds the server may take for a verdict")
    min_auc: float = option(0.7, "lowest AUC, on held-out Judge rows and on stage 1's completions, RL starts with")
    batch_size: int = option(8, "pictures judged at a time")
    num_photos: int = option(64, "photos to measure it on, when its manifest has no measure of this very policy")
    num_generations: int = option(4, "completions a photo, for that measure")
    true_within_km: float = option(200.0, "an answer this near to the truth is right, for that measure")
    accept_seen_photos: bool = option(False, "train on photos the judge has seen, or may have seen")
    min_rank_correlation: float = option(0.05, "lowest mean rank correlation of P(True) with nearness, within groups")
    guard_steps: int = option(20, "steps that mean is taken over; below it the run stops")

    def __post_init__(self):
        if self.guard_steps < 1:
            raise ValueError("judge.guard_steps must be at least 1; judge.min_rank_correlation=-1 never stops a run")


@dataclass
class Config(rl.RLConfig):
    """Keys of stage 2."""

    mode: str = option("judge", "judge: a judge rewards the policy's chains; verdict: the policy judges GRE30K-Judge")
    judge: JudgeConfig = option(JudgeConfig, "the judge, in mode judge")
    held_out_share: float = option(0.1, "share of photos kept for measuring, in mode verdict")

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}: write {' or '.join(MODES)}")


def run(config: Config) -> None:
    """Train and hand on `output_dir`."""
    (run_verdict if config.mode == "verdict" else run_judge)(config)


def run_judge(config: Config) -> None:
    """Check the judge, then train on its verdicts."""
    watch = Watch(read_places(config.guards.places))
    policy = rl.start(config, parent_stages={"stage1"})
    judge, judge_parent, measured = start_judge(config, policy)
    check_gate(measured, config.judge.min_auc)
    load = picture_loader(judge.processor, config.data, config.output_dir)
    pay = partial(p_true_rewards, judge, config.judge.batch_size, load=load)
    rewards = {"format": rl.format_rewards, "judge": partial(together, pay) if config.judge.url else pay}
    guard = JudgeGuard(config.judge.min_rank_correlation, config.judge.guard_steps,
                       Path(config.output_dir) / "alarms.jsonl")
    rl.train(config, policy, rewards, stage=STAGE, on_rollout=partial(on_rollout, watch, guard),
             metrics={"judge": {**judge_parent.record(), **measured}}, made_of={"judge": judge_parent.sha256},
             stateful={"judge_guard": guard})


def run_verdict(config: Config) -> None:
    """Train on the policy's own verdicts, and measure them on held-out photos."""
    if config.judge.model_name_or_path:
        raise UserError("mode=verdict has no judge: leave judge.model_name_or_path out, or write mode=judge")
    policy = rl.start(config, {"stage1"}, verdict.read, verdict.prompt_length)
    policy.rows, held_out = judging.split_by_photo(policy.rows, config.held_out_share, config.seed)
    judging.check_split(policy.rows, held_out)
    model = load_model(policy.parent.model_dir, weight_dtype(config.train, config.model)).to(policy.args.device)
    exam = verdict.Exam(policy.processor, policy.rollout, held_out, config.grpo.num_generations, config.seed)
    parent = exam.sit(model)
    exam.check(parent, policy.parent.name)
    del model
    rl.train(config, policy, {"verdict": verdict.rewards}, stage=STAGE, metrics={"mode": config.mode},
             encode=verdict.encode, measure=lambda trained: {"verdict": exam.metrics(parent, exam.sit(trained))},
             on_rollout=verdict.Watch(Path(config.output_dir) / "alarms.jsonl"),
             labels=[row.label for row in policy.rows])


def start_judge(config: Config, policy: rl.Policy) -> tuple[Judge | ServedJudge, manifest.Parent, dict]:
    """(the judge, its folder's record, its quality): on held-out rows as its manifest says, and on this policy's own
    completions, measured here unless the manifest holds that of this very policy."""
    if config.judge.model_name_or_path is None:
        raise UserError("no judge is given: write judge.model_name_or_path=FOLDER (stages/judge.py trains one)")
    parent = manifest.verify_parent(config.judge.model_name_or_path, {"judge"}, config.accept_parent)
    if not config.judge.accept_seen_photos:
        policy.rows = unseen_rows(policy.rows, judged_photos(parent), drop=config.data.on_bad_row == "drop")
    metrics = parent.manifest["metrics"] if parent.manifest else {}
    judge = serve_judge(config, parent) if config.judge.url else Judge(
        load_model(parent.model_dir, weight_dtype(config.train, config.model)).to(policy.args.device),
        load_processor(parent.model_dir))
    if metrics.get("policy_sha256") != policy.parent.sha256:
        metrics = {**metrics, **measure_on_policy(config, policy, judge)}
    names = ("auc", "auc_on_policy", "calibration_error", "n", "n_on_policy")
    return judge, parent, {name: metrics[name] for name in names if metrics.get(name) is not None}


def serve_judge(config: Config, parent: manifest.Parent) -> ServedJudge:
    """The judge at judge.url. UserError unless it serves this very folder with what this run needs."""
    if config.data.cache_gib:
        raise UserError("data.cache_gib keeps processed pictures, and a served judge processes pictures itself: write "
                        "data.cache_gib=0 or leave judge.url out")
    server, processor = Server(config.judge.url, config.judge.timeout_s), load_processor(parent.model_dir)
    dtype = weight_dtype(config.train, config.model)
    wanted = rollouts.judge_server(parent, processor, config.model.max_length, dtype)
    together(lambda: PartialState().is_main_process and server.check(wanted))
    if PartialState().is_main_process:
        print(f"judge: served at {server.url}, in {dtype}", flush=True)
    return ServedJudge(server, processor)


def measure_on_policy(config: Config, policy: rl.Policy, judge: Judge | ServedJudge) -> dict:
    """The judge's AUC on completions that the parent samples for some of the rows."""
    settings = config.judge
    rows = random.Random(config.seed).sample(policy.rows, min(settings.num_photos, len(policy.rows)))
    model = load_model(policy.parent.model_dir, weight_dtype(config.train, config.model)).to(policy.args.device)
    texts = judging.sample_completions(model, policy.processor, policy.rollout, rows, settings.num_generations,
                                       config.seed)
    metrics = judging.on_policy_metrics(judge, rows, texts, settings.true_within_km, settings.batch_size)
    if metrics["auc_on_policy"] is None:
        raise UserError(
            f"the judge cannot be measured on the completions of {policy.parent.name}: {metrics['n_on_policy']} have a "
            f"readable answer and {metrics['right_on_policy']:.0%} of these lie within judge.true_within_km="
            f"{settings.true_within_km}; both kinds are needed. Change it, or raise judge.num_photos")
    return metrics


def p_true_rewards(judge: Judge | ServedJudge, batch_size: int, groups: list[Answers],
                   load: Loader = load_image) -> list[list[float]]:
    """P(True) of every completion, 0 without a readable answer; a picture is shown to the judge once per group."""
    pictures = [group.row.image for group in groups for _ in group.texts]
    texts = [text for group in groups for text in group.texts]

    def ask(readable: list[int]) -> list[float]:
        questions = [(pictures[i], completion_text(texts[i])) for i in readable]
        return judging.ask(judge, questions, batch_size, load).p_true.tolist()

    rewards = iter(judge_rewards(texts, ask))
    return [[next(rewards) for _ in group.texts] for group in groups]


def on_rollout(watch: Watch, guard: JudgeGuard, step: int, groups: list[Answers], rewards: dict[str, Tensor],
               meter: Meter) -> None:
    """Log what the completions are like, and stop the run when the judge is being gamed."""
    numbers = watch(groups, rewards["judge"])
    meter.add_numbers(numbers)
    guard.observe(step, numbers)


def plan(config: Config) -> dict[str, list[str]]:
    """What a run reads and writes."""
    reads = [config.model_name_or_path, config.judge.model_name_or_path, config.data.path, config.guards.places]
    return {"reads": [path for path in reads if path], "writes": [config.output_dir]}


if __name__ == "__main__":
    main(run, Config, __doc__, plan)
