"""From a stage's config file to the Job whose memory is counted: what is trained, how, and on how much at a time."""
import json
from dataclasses import dataclass, replace
from pathlib import Path

from gre.config import REQUIRED, ConfigError, UserError, load, option, shipped
from gre.judge.quality import NUM_GENERATIONS, PolicyConfig
from gre.judge.reward import JudgeConfig
from gre.models.adapter import TEXT_LAYERS, rank
from gre.models.shapes import PATCHES_PER_TOKEN, PUBLISHED, Shape, read_shape
from gre.models.vlm import MAX_TOKENS, RELEASED_MAX_TOKENS, ModelConfig
from gre.plan.memory import GIB, Batch, Engine, Job
from gre.rollout.engines import RolloutConfig
from gre.training.arguments import TrainConfig
from gre.training.grpo import GRPOConfig
from gre.training.inputs import read_inputs

TEXT_TOKENS = 150  # of a prompt beside its photo: chat template and instruction
VLLM_REST_GIB = 3.0  # activations of the tokens it takes at a time, CUDA graphs; not measured


@dataclass
class Weights:
    """Of GLOBE's rewards the one that a model gives."""

    localizability: float = option(0.0, "what the reward model says of picture and chain")


@dataclass
class Recipe:
    """The keys of any stage that cost memory or time."""

    model_name_or_path: str = option(REQUIRED, "what is trained")
    model: ModelConfig = option(ModelConfig, "the model")
    train: TrainConfig = option(TrainConfig, "the optimiser")
    grpo: GRPOConfig = option(GRPOConfig, "the group and the loss")
    rollout: RolloutConfig = option(RolloutConfig, "sampling")
    judge: JudgeConfig = option(JudgeConfig, "the judge")
    weights: Weights = option(Weights, "what GLOBE's rewards are worth")
    policy: PolicyConfig = option(PolicyConfig, "measuring the judge")


@dataclass(frozen=True)
class Parent:
    """A model to start from. own_max_pixels: None where nothing says it. adapter_rank: of the adapter beside it."""

    shape: Shape
    own_max_pixels: int | None
    adapter_rank: int = 0

    @property
    def max_pixels(self) -> int:
        """The budget of a stage that names none."""
        shape = self.shape
        return self.own_max_pixels or shape.tiles * shape.tile_patches * shape.patch_size**2 or (
            MAX_TOKENS * shape.token_pixels)

    @property
    def adapter_weights(self) -> int:
        """Weights of that adapter."""
        return self.shape.adapter_parameters(self.adapter_rank, TEXT_LAYERS)


def read_recipe(argv: list[str]) -> Recipe:
    """The recipe of `CONFIG [key=value …]`; other keys of a stage are left to it. Raises ConfigError."""
    return load(Recipe, argv, partial=("", "judge", "weights"))


def job(recipe: Recipe, stage: str, file: Path, gpus: int) -> Job:
    """The largest moment of `stage` on each of `gpus` GPUs. Raises UserError when its model or engine is unknown."""
    parent, train = find_parent(recipe.model_name_or_path, file), recipe.train
    lora = recipe.model.lora
    adapter = parent.shape.adapter_parameters(lora.r, TEXT_LAYERS)
    engine = replace(read_engine(train, gpus, parent.shape), adapter=adapter, frozen_adapter=parent.adapter_weights)
    if adapter and engine.zero == 3:
        raise UserError(f"an adapter is not trained under ZeRO-3, which {train.deepspeed} asks for: name zero2.json")
    common = {"shape": parent.shape, "engine": engine, "accumulation": train.gradient_accumulation_steps,
              "checkpointing": recipe.model.gradient_checkpointing,
              "frozen_vision": recipe.model.freeze_vision or adapter > 0}
    visual = parent.shape.visual_tokens(recipe.model.max_pixels or parent.max_pixels)
    rows, whole = train.per_device_batch_size, recipe.model.max_length
    if stage in ("stage1", "judge", "localizability"):
        visual = _fitting(visual, whole, 1)
        prompt, length = visual + TEXT_TOKENS, whole - visual - TEXT_TOKENS
        batch = Batch(rows, prompt, visual * PATCHES_PER_TOKEN, 1, length, length if stage == "stage1" else 1)
        return Job(**_cut(batch, train.tokens_per_pass),
                   measured=_measured(recipe, visual) if stage == "judge" else None, **common)
    group, length = recipe.grpo.num_generations, recipe.rollout.max_new_tokens
    judged = stage == "stage2" or stage == "globe" and recipe.weights.localizability
    judge = _judge(recipe, stage, file) if judged and not recipe.judge.url else None
    visual = _fitting(visual, whole, length)
    prompt = whole - length if stage == "stage2_verdict" else visual + TEXT_TOKENS  # a chain to judge is long
    at_a_time = min(max(1, recipe.rollout.batch_size // group), rows * train.gradient_accumulation_steps)
    batch = Batch(rows, prompt, visual * PATCHES_PER_TOKEN, group, length, length)
    return Job(**_cut(batch, train.tokens_per_pass), sampled=at_a_time * group,
               served=_served(recipe, parent.shape),
               reference=(0 if adapter else engine.weight_bytes) if recipe.grpo.beta else None,
               judge=engine.weight_bytes if judge else 0, judge_shape=judge.shape if judge else None,
               judge_adapter=judge.adapter_weights if judge else 0, **common)


def _cut(batch: Batch, tokens_per_pass: int) -> dict[str, Batch]:
    """The largest forward pass of a micro-batch of the longest rows, as gre.training.trainer.passes cuts it."""
    fitting = max(1, tokens_per_pass * batch.prompts // batch.tokens) if tokens_per_pass else batch.prompts
    if fitting >= batch.prompts:
        return {"batch": batch}
    passes = -(-batch.prompts // fitting)
    return {"batch": replace(batch, prompts=-(-batch.prompts // passes)), "micro_batch": batch}


def _served(recipe: Recipe, shape: Shape) -> float:
    """Bytes of vLLM on a GPU while it is awake: weights, keys and values, and the rest; 0 where none runs beside the
    trainer."""
    if recipe.rollout.engine in ("transformers", "served"):
        return 0.0
    return (2 if recipe.train.bf16 else 4) * shape.parameters + (recipe.rollout.kv_cache_gib + VLLM_REST_GIB) * GIB


def _fitting(visual: int, max_length: int, length: int) -> int:
    """Visual tokens of the largest photo within budget and row: what is longer is refused or dropped, never cut."""
    left = max_length - length - TEXT_TOKENS
    if left < 1:
        raise UserError(f"model.max_length={max_length} does not hold a photo beside {TEXT_TOKENS} tokens of "
                        f"instruction and {length} of completion: raise it")
    return min(visual, left)


def find_parent(name: str, file: Path) -> Parent:
    """The model `name`: a folder here, whose config.json wins; a published name; or what a config beside `file` makes.

    Raises UserError when it is none of these.
    """
    folder = Path(name)
    for config in (folder / "model" / "config.json", folder / "config.json"):
        if config.is_file():
            shape = read_shape(config)
            return Parent(shape, _max_pixels(config.parent, shape), rank(config.parent))
    if name in PUBLISHED:
        return Parent(PUBLISHED[name], None)
    for other in sorted(file.parent.glob("*.yaml")):
        if other.name != file.name and _output_dir(other) == name:
            recipe = read_recipe([str(other)])
            parent = find_parent(recipe.model_name_or_path, other)
            return Parent(parent.shape, recipe.model.max_pixels or parent.own_max_pixels,
                          parent.adapter_rank + recipe.model.lora.r)
    raise UserError(f"the shape of {name} is not known: it is no model folder here and no config beside {file} makes "
                    f"it. Write model_name_or_path= with one of {', '.join(PUBLISHED)}, or a folder with a config.json")


def _output_dir(file: Path) -> str | None:
    """Where the stage of a config file is written; None when it is no stage's."""
    try:
        return read_inputs([str(file)]).output_dir
    except ConfigError:
        return None


def read_engine(train: TrainConfig, gpus: int, shape: Shape) -> Engine:
    """How DeepSpeed's config, or Trainer without one, holds the weights. Raises UserError for a missing file."""
    if train.deepspeed is None:
        return Engine(ranks=gpus, bf16=train.bf16)
    path = shipped(train.deepspeed)
    try:
        zero = json.loads(path.read_text(encoding="utf-8"))["zero_optimization"]
    except FileNotFoundError:
        raise UserError(f"there is no DeepSpeed config {path}: set train.deepspeed to a JSON file or null") from None
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is no DeepSpeed config with zero_optimization: {error}") from None
    own = Engine()
    bucket = zero.get("reduce_bucket_size", own.bucket)
    return Engine(ranks=gpus, zero=zero["stage"], bf16=train.bf16, offload_optimizer="offload_optimizer" in zero,
                  offload_weights="offload_param" in zero, live=int(zero.get("stage3_max_live_parameters", own.live)),
                  bucket=shape.hidden**2 if bucket == "auto" else int(bucket),  # what Trainer puts for auto
                  sub_group=int(zero.get("sub_group_size", own.sub_group)))


def _judge(recipe: Recipe, stage: str, file: Path) -> Parent:
    """The named judge's, or that of the config beside the file, by which stage2.sh or globe.sh trains one."""
    beside = file.with_name("localizability.yaml" if stage == "globe" else "judge.yaml")
    if recipe.judge.model_name_or_path is None and beside.is_file():
        own = read_recipe([str(beside)])
        parent = find_parent(own.model_name_or_path, beside)
        return replace(parent, adapter_rank=parent.adapter_rank + own.model.lora.r)
    if recipe.judge.model_name_or_path is None:
        raise UserError(f"no judge is given and there is no {beside}: write judge.model_name_or_path=FOLDER")
    return find_parent(recipe.judge.model_name_or_path, file)


def _measured(recipe: Recipe, visual: int) -> Batch | None:
    """The policy's completions that are sampled at a time to measure the judge."""
    policy = recipe.policy
    if policy.model_name_or_path is None:
        return None
    photos = min(max(1, policy.batch_size // NUM_GENERATIONS), policy.num_photos)
    return Batch(1, visual + TEXT_TOKENS, visual * PATCHES_PER_TOKEN, photos * NUM_GENERATIONS,
                 policy.max_new_tokens, policy.max_new_tokens)


def _max_pixels(model_dir: Path, shape: Shape) -> int | None:
    """The pixel budget of a model folder: its stage's manifest says it, or else its own processor's files."""
    manifest = model_dir.parent / "manifest.json"
    if model_dir.name == "model" and manifest.is_file():
        return json.loads(manifest.read_text(encoding="utf-8"))["pixel_budget"]["max_pixels"]
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (model_dir / name).is_file():
            content = json.loads((model_dir / name).read_text(encoding="utf-8"))
            own = content.get("image_processor", content)
            if "max_patches" in own:  # tiles
                return own["max_patches"] * shape.tile_patches * shape.patch_size**2
            limit = RELEASED_MAX_TOKENS * shape.token_pixels
            pixels = own.get("max_pixels") or own.get("size", {}).get("longest_edge", limit)
            return pixels if pixels < limit else None
    return None
