"""Bytes of one GPU, by part and by moment, from shapes alone. Pure arithmetic; loads no torch.

What is counted is what this code does: `score` keeps a micro-batch's logits and makes as much of gradients, in the
model's own type, with float32 for a few rows at a time; reference and judge are whole copies on every rank, and so is
the policy while it samples; generate keeps one cache of all completions it works on. Every completion is taken as long
as the config allows.

Letters: T row tokens, N scored ones, V vocabulary, h and f widths of the text model, v and w those of the vision tower.
"""
from collections import defaultdict
from dataclasses import dataclass

from gre.models.shapes import Shape

GIB = 2**30
LOGITS_COPIES = 2                # (N, V) tensors alive at once behind gre.models.scoring.score: logits, gradients
CHUNK_BYTES = 3 * 4 * 2**24      # float32 for the rows it works on: three times its CHUNK_ENTRIES
DRAW_BYTES = 40                  # bytes per vocabulary entry and completion while a token is drawn; the CDF is float64
CONTEXT_BYTES = 1.5 * GIB        # assumed, not measured: CUDA context, cuBLAS workspaces, NCCL's buffers
COMMUNICATOR_BYTES = 0.6 * GIB   # assumed, not measured: ZeRO-3 gathers by one of NCCL's and reduces by another
ASLEEP_BYTES = 1.2 * GIB         # assumed, not measured: of vLLM while it sleeps, CUDA graphs, buffers and workspaces
FRAGMENTATION = 0.03             # assumed, not measured: what the allocator holds and cannot use


@dataclass(frozen=True)
class Batch:
    """What one forward pass of one process holds: `prompts` photos, each with `completions` of `length` tokens.

    prompt: tokens, the photo's included; patches: of a photo; scored: tokens of a completion that meet the head.
    """

    prompts: int
    prompt: int
    patches: int
    completions: int
    length: int
    scored: int

    @property
    def tokens(self) -> int:
        """T of the packed row: every prompt but its last token once, then every completion."""
        return self.prompts * (self.prompt - 1 + self.completions * self.length)

    @property
    def seen_by_tails(self) -> int:
        """Keys that completions see, over all completions: their prompt's and their own."""
        return self.prompts * self.completions * (self.prompt - 1 + self.length)

    @property
    def seen(self) -> int:
        """The same with what the prompts see of themselves."""
        return self.prompts * (self.prompt - 1) + self.seen_by_tails

    @property
    def scored_tokens(self) -> int:
        """N: positions that meet the output head."""
        return self.prompts * self.completions * self.scored


@dataclass(frozen=True)
class Engine:
    """How weights are held: by Trainer alone (zero None) or by DeepSpeed's ZeRO stage `zero` over `ranks` GPUs.

    live, bucket, sub_group: DeepSpeed's stage3_max_live_parameters, reduce_bucket_size and sub_group_size, in weights.
    adapter: weights of a LoRA adapter, which then are all that is trained; 0 for none. frozen_adapter: those that
    earlier stages have trained.
    """

    ranks: int = 1
    zero: int | None = None
    offload_optimizer: bool = False
    offload_weights: bool = False
    bf16: bool = False
    live: int = 10**9
    bucket: int = 5 * 10**8
    sub_group: int = 10**9
    adapter: int = 0
    frozen_adapter: int = 0

    @property
    def low(self) -> bool:
        """Whether the weights themselves are bfloat16, with a float32 master in DeepSpeed or none, being frozen."""
        return self.bf16 and (self.zero is not None or self.adapter > 0)

    @property
    def autocast(self) -> bool:
        """Whether bfloat16 is autocast's."""
        return self.bf16 and self.zero is None

    @property
    def weight_bytes(self) -> int:
        return 2 if self.low else 4

    @property
    def activation_bytes(self) -> int:
        return 2 if self.bf16 else 4

    @property
    def stream_bytes(self) -> int:
        """Of the residual stream: autocast leaves it float32."""
        return self.weight_bytes

    def share(self, from_stage: int) -> float:
        """The share of something that ZeRO splits over the ranks from this stage on."""
        return 1 / self.ranks if self.zero is not None and self.zero >= from_stage else 1.0


@dataclass(frozen=True)
class Job:
    """One process of a training: the model, how it is held, and its largest batches.

    batch: of a forward pass. micro_batch: where train.tokens_per_pass cuts it into several, all of it; else None.
    sampled: completions generated at a time. reference, judge: bytes a weight of a second model, None and 0 for none;
    a reference of 0 bytes is the policy without its adapter. judge_adapter: weights of the one beside the judge.
    measured: the policy's completions sampled at a time when a finished judge is measured, with two models. on_gpu:
    whether to add what CUDA takes for itself. served: bytes of a vLLM that generates instead, on a GPU, asleep but for
    the rollout; 0 for none.
    """

    shape: Shape
    engine: Engine
    batch: Batch
    micro_batch: Batch | None = None
    accumulation: int = 1
    checkpointing: bool = False
    frozen_vision: bool = False
    sampled: int = 0
    reference: int | None = None
    judge: int = 0
    judge_shape: Shape | None = None
    judge_adapter: int = 0
    measured: Batch | None = None
    on_gpu: bool = True
    served: float = 0.0

    @property
    def kernels(self) -> bool:
        """Whether a variable-length kernel serves attention (gre.models.attention.varlen): CUDA, half precision."""
        return self.on_gpu and self.engine.bf16


def parts(job: Job) -> dict[str, float]:
    """{part: bytes} of one GPU, each at its own largest; they do not all meet, see `moments`."""
    shape, engine = job.shape, job.engine
    trained, served = _trained(job), job.served and job.on_gpu  # vLLM is sent the weights one at a time
    found = {
        "weights": shape.parameters * engine.weight_bytes * (0 if engine.offload_weights else engine.share(3))
        + (engine.adapter + engine.frozen_adapter) * (4 if engine.zero is None else engine.weight_bytes),
        "gathered weights": _gathered(job),
        "weights gathered to sample": (shape.parameters * engine.weight_bytes
                                       if job.sampled and engine.zero == 3 and not served else 0),
        "master weights and optimizer": trained * _optimizer_bytes(engine) * engine.share(1),
        "gradients": _gradients(engine, trained, shape),
        "float32 gradients": _step(engine, trained),
        "activations": _saved(job) + max(_text_backward(job), _vision_backward(job)) + _casts(job),
        "logits": _logits(job),
        "rollout engine": job.served if served else _rollout(shape, job.sampled, job.batch, engine.activation_bytes),
        "reference": shape.parameters * (job.reference or 0),
        "judge": (job.judge_shape or shape).parameters * job.judge + 4 * job.judge_adapter,
        "measuring": _measuring(job),
    }
    return {name: size for name, size in found.items() if size}


def moments(job: Job) -> dict[str, float]:
    """{moment: bytes} of one GPU when rollout, loss, backward pass, optimizer step or measuring is at its largest."""
    size = defaultdict(float, parts(job))
    held = size["weights"] + size["master weights and optimizer"] + size["reference"] + size["judge"]
    held += size["gathered weights"]
    asleep = ASLEEP_BYTES if job.served and job.on_gpu else 0.0
    # Trainer alone frees gradients after each step; they are back after the first pass. DeepSpeed keeps them.
    kept = size["gradients"] if job.engine.zero is not None else 0.0
    grown = size["gradients"] if job.accumulation > 1 or job.micro_batch else kept
    saved, casts, text, vision = _saved(job), _casts(job), _text_backward(job), _vision_backward(job)
    before_vision = 0.0 if job.frozen_vision else job.shape.vision_parameters * size["gradients"] / _trained(job)
    found = {
        "rollout": (held - size["gathered weights"] + size["weights gathered to sample"] + kept + casts
                    + size["rollout engine"]) if job.sampled else 0.0,
        "loss": asleep + held + grown + casts + saved + size["logits"],
        # The last text layer, where it begins, meets all activations; the first one, where only the vision tower is
        # left, most gradients; the first vision block all of them. Casts are freed on the way.
        "backward": asleep + held + max(grown + saved + casts + text,
                               max(grown, size["gradients"] - before_vision) + _vision_saved(job) + _ends(job) + text,
                               size["gradients"] + _ends(job) + vision),
        "optimizer step": asleep + held + size["gradients"] + size["float32 gradients"],
        "measuring": size["measuring"],
    }
    return {name: size + reserve(job, size) for name, size in found.items() if size}


def reserve(job: Job, size: float) -> float:
    """What CUDA and its allocator take beside `size` bytes."""
    communicators = COMMUNICATOR_BYTES if job.engine.zero == 3 and job.engine.ranks > 1 else 0.0
    return CONTEXT_BYTES + communicators + FRAGMENTATION * size if job.on_gpu else 0.0


def peak(job: Job) -> tuple[str, float]:
    """The moment with the most bytes on a GPU, and how many."""
    return max(moments(job).items(), key=lambda moment: moment[1])


def host_bytes(job: Job) -> float:
    """What offloading keeps in the machine's memory for this process: master, moments and gradients in float32."""
    optimizer = 16 * _trained(job) * job.engine.share(1) if job.engine.offload_optimizer else 0.0
    return optimizer + (2 * job.shape.parameters * job.engine.share(3) if job.engine.offload_weights else 0.0)


def _trained(job: Job) -> int:
    if job.engine.adapter:
        return job.engine.adapter
    return job.shape.parameters - (job.shape.vision_parameters if job.frozen_vision else 0)


def _optimizer_bytes(engine: Engine) -> int:
    """Per trained weight: AdamW's two moments, and under DeepSpeed the float32 master."""
    if engine.offload_optimizer:
        return 0
    return 8 if engine.zero is None else 12


def _gathered(job: Job) -> float:
    """Whole weights that ZeRO-3 has in hand: as many as it may, and the output head in any case."""
    if job.engine.zero != 3:
        return 0.0
    return job.engine.weight_bytes * max(min(job.engine.live, job.shape.parameters), job.shape.embedding_parameters)


def _gradients(engine: Engine, trained: int, shape: Shape) -> float:
    if engine.zero is None:  # DDP keeps its buckets beside the gradients
        return 4 * trained * (1 if engine.ranks == 1 else 2)
    largest = 0 if engine.adapter else shape.embedding_parameters  # reduced in one piece
    bucket = engine.weight_bytes * max(min(engine.bucket, trained), largest)
    if engine.offload_optimizer and engine.zero >= 2:
        return bucket
    return engine.weight_bytes * trained * engine.share(2) + bucket


def _step(engine: Engine, trained: int) -> float:
    """Float32 copies of gradients that DeepSpeed makes for its step; Trainer's AdamW is fused and makes none."""
    if engine.zero is None or engine.offload_optimizer or not engine.low:
        return 0.0
    own = trained * engine.share(1)
    return 4 * min(engine.sub_group, own) if engine.zero == 3 else 6 * own


def _casts(job: Job) -> float:
    """Autocast's bfloat16 copies of float32 weights, kept for the backward pass."""
    if not job.engine.bf16 or job.engine.low:
        return 0.0
    return 2 * (job.shape.parameters - (0 if job.shape.tied else job.shape.embedding_parameters))


def _saved(job: Job) -> float:
    """Activations kept for the backward pass."""
    shape = job.shape
    each = job.batch.tokens * shape.hidden * job.engine.stream_bytes if job.checkpointing else _text_layer(job)
    return shape.layers * each + _vision_saved(job) + _ends(job)


def _vision_saved(job: Job) -> float:
    """Those of the vision tower's blocks."""
    if job.frozen_vision:
        return 0.0
    stream = job.batch.prompts * job.batch.patches * job.shape.vision_hidden * job.engine.stream_bytes
    return job.shape.vision_depth * (stream if job.checkpointing else _vision_layer(job))


def _text_backward(job: Job) -> float:
    """What the backward pass of one text layer needs on top: its activations if they were not kept, and gradients."""
    shape, batch = job.shape, job.batch
    if job.kernels:
        attention = 5 * shape.query_width * batch.tokens + 2 * shape.kv_width * batch.seen
    else:
        attention = shape.query_width * (2 * batch.seen_by_tails + 5 * batch.tokens)
    widest = max((3 * shape.intermediate + 2 * shape.hidden) * batch.tokens, attention)  # gate, up, their product
    return job.engine.activation_bytes * widest + (_text_layer(job) if job.checkpointing else 0)


def _vision_backward(job: Job) -> float:
    """The same of one block of the vision tower."""
    if job.frozen_vision:
        return 0.0
    width = (3 if job.shape.vision_gated else 2) * job.shape.vision_intermediate + 2 * job.shape.vision_hidden
    gradients = job.engine.activation_bytes * job.batch.prompts * job.batch.patches * width
    return gradients + (_vision_layer(job) if job.checkpointing else 0)


def _text_layer(job: Job) -> float:
    """Tensors that autograd keeps of one layer of the text model."""
    h, q, width, t = job.shape.hidden, job.shape.query_width, job.engine.activation_bytes, job.batch.tokens
    if job.kernels:  # queries and outputs; keys and values as few as the model has, gathered
        attention = width * (2 * q * t + 2 * job.shape.kv_width * job.batch.seen)
    else:            # the mask too: SDPA wants numbers, not booleans
        rows = job.batch.seen_by_tails
        attention = width * (q * (3 * t + 2 * rows + 2 * t) + rows * job.batch.length)
    attention += 4 * job.shape.heads * t
    if job.shape.head_norms:  # of queries and keys: input and normalised values in float32
        attention += 8 * (q + job.shape.kv_width) * t
    if job.engine.adapter and job.engine.autocast:                      # a cast of its input for every adapter
        attention += width * (5 * h + q + job.shape.intermediate) * t
    return _norms(job.engine, 3) * h * t + 4 * width * job.shape.intermediate * t + attention


def _vision_layer(job: Job) -> float:
    """Tensors that autograd keeps of one block of the vision tower."""
    v, width = job.shape.vision_hidden, job.engine.activation_bytes
    wide = 4 if job.shape.vision_gated else 2  # gate, its activation, up, their product; or input and output of GELU
    per_patch = (_norms(job.engine, 1) + 7 * width) * v + wide * width * job.shape.vision_intermediate
    return job.batch.prompts * job.batch.patches * per_patch


def _norms(engine: Engine, casts: int) -> int:
    """Bytes a layer's two norms keep per token and channel: their input and the normalised values in float32, and the
    output as the linear layers behind read it. casts: layers behind the first norm, as autocast copies it for each."""
    if engine.low:
        return 2 * (4 + 2 + 2)
    if engine.bf16:
        return 2 * (4 + 4) + 2 * casts + 2 * 2
    return 2 * (4 + 4 + 4)


def _ends(job: Job) -> float:
    """What is kept outside the layers: photos, merger, embeddings, final norm and the states that meet the head."""
    shape, batch, width = job.shape, job.batch, job.engine.activation_bytes
    patches = batch.prompts * batch.patches
    mergers = (1 + shape.deepstack) * shape.vision_hidden * (8 + 3 * width)
    photos = patches * (4 * shape.patch_values + mergers)
    embeddings = (job.engine.stream_bytes + 1) * batch.tokens * shape.hidden
    return photos + embeddings + 12 * batch.tokens * shape.hidden + width * batch.scored_tokens * shape.hidden


def _logits(job: Job) -> float:
    """Logits of the scored tokens, their gradients, and what a chunk of them takes."""
    entries = job.batch.scored_tokens * job.shape.vocab
    # Autocast: accelerate hands the logits out in float32. Their gradients are cast for the head when they are gone.
    each = LOGITS_COPIES * (4 if job.engine.autocast else job.engine.activation_bytes)
    return each * entries + min(3 * 4 * entries, CHUNK_BYTES)


def _rollout(shape: Shape, completions: int, batch: Batch, width: int) -> float:
    """generate's cache at full length, one layer of it twice while it grows, and what drawing a token takes."""
    if not completions:
        return 0.0
    layer = 2 * shape.kv_width * width * completions * (batch.prompt + batch.length)
    return (shape.layers + 1) * layer + DRAW_BYTES * completions * shape.vocab


def _measuring(job: Job) -> float:
    """Judge and policy and the policy's cache, on the first GPU after training."""
    if job.measured is None:
        return 0.0
    width = job.engine.weight_bytes
    return 2 * width * job.shape.parameters + _rollout(job.shape, job.measured.completions, job.measured, width)
