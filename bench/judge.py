"""A judge's verdicts on G chains a photo: ours, which forwards the photo once, against a row for every chain.

    python -m bench.judge [generations=8] [rounds=5] [--json FILE] [key=value …]

Ours is gre.judge.model.Judge.p_true, its tokenizing included; the peer's rows are ready before the clock starts. One
photo is forwarded at a time on both sides. When P(True) differs by more than 1e-4 no ratio is printed. device=cuda:
Qwen2.5-VL-3B in bfloat16.
"""
import json
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from bench import measure
from bench.plan_memory import BASE, random_model
from bench.sides import padded_attention
from bench.workload import SMALL, THREE, packed_flops, padded_flops
from gre.config import option
from gre.judge.model import Judge, Prompt, judge_group, judge_text
from gre.models.attention import shared_prefix
from gre.models.shapes import PATCHES_PER_TOKEN, Shape
from gre.models.vlm import SIDE_PIXELS, load_processor

WORDS = "The sign is in French and the street has a red flag on the left near white houses with low roofs".split()


@dataclass
class Config:
    """What is measured."""

    generations: int = option(8, "chains a photo")
    pictures: int = option(2, "pictures")
    side: int = option(504, "width and height of a photo in pixels; 504 makes 324 visual tokens")
    words: int = option(40, "words of a chain on average; lengths are even over half to one and a half of it")
    rounds: int = option(5, "interleaved rounds")
    threads: int = option(1, "threads; with one, seconds are CPU time, with more, wall time")
    device: str = option("cpu", measure.DEVICE)
    json: str = option("", "file for the result, keyed by shape")


class Rows:
    """The peer: a padded row for every chain, through transformers alone."""

    # left: padding in front, so that the verdict stands in the last column, and a mask. right: padding behind, where no
    # token that counts sees it, no mask, and the head at every position of the chain.
    SETTINGS = ("left padding, mask", "right padding, causal")

    def __init__(self, judge: Judge, prompts: list[Prompt], texts: list[list[str]]):
        self.judge, self.setting = judge, self.SETTINGS[0]
        self.prompts = prompts
        self.chains = [[ids[:-1] for ids in judge_group(judge.processor, prompt, row).completions]
                       for prompt, row in zip(prompts, texts, strict=True)]
        self.inputs = {setting: [self._inputs(setting, *pair) for pair in zip(prompts, self.chains, strict=True)]
                       for setting in self.SETTINGS}

    def _inputs(self, setting: str, prompt: Prompt, chains: list[Tensor]) -> dict:
        left, longest = setting == self.SETTINGS[0], max(map(len, chains))

        def stack(make) -> Tensor:
            rows = [(make(prompt.input_ids, chain), longest - len(chain)) for chain in chains]
            return torch.stack([pad(row, (gap, 0) if left else (0, gap)) for row, gap in rows])

        inputs = {"input_ids": stack(lambda start, chain: torch.cat([start, chain])),
                  "mm_token_type_ids": stack(lambda _, chain: pad(prompt.mm_token_type_ids, (0, len(chain)))),
                  "pixel_values": prompt.pixel_values.repeat(len(chains), 1),
                  "image_grid_thw": prompt.image_grid_thw.repeat(len(chains), 1),
                  "logits_to_keep": 1 if left else longest, "use_cache": False}
        if left:
            inputs["attention_mask"] = stack(lambda start, chain: torch.ones(len(start) + len(chain), dtype=torch.long))
        return {name: value.to(self.judge.model.device) if isinstance(value, Tensor) else value
                for name, value in inputs.items()}

    @torch.no_grad()
    def picture(self, number: int) -> Tensor:
        """P(True) of a photo's chains (G,)."""
        logits = self.judge.model(**self.inputs[self.setting][number]).logits
        chains = self.chains[number]
        at = [-1 if self.setting == self.SETTINGS[0] else len(chain) - 1 for chain in chains]
        return self.judge.verdicts(logits[range(len(chains)), at].float().cpu()).p_true

    def p_true(self) -> Tensor:
        """P(True) of every chain, photo by photo."""
        return torch.cat([self.picture(number) for number in range(len(self.chains))])


def run(config: Config) -> None:
    """Measure and print."""
    torch.set_num_threads(config.threads)
    result = {f"G{config.generations}": {**compare(config, THREE if config.device == "cuda" else SMALL),
                                           **measure.origin("bench.judge", config.device)}}
    measure.write(config.json, result)
    print(json.dumps(result, indent=2))


def compare(config: Config, shape: Shape) -> dict:
    """Seconds, ratio and limit. Raises UserError when the sides disagree about a chain."""
    return measure.compared(config.device, config.rounds, partial(_compare, config, shape))


def _compare(config: Config, shape: Shape, bf16: bool, rounds: int) -> dict:
    torch.manual_seed(0)
    processor = load_processor(BASE, SIDE_PIXELS**2, config.side**2)  # no photo is made smaller
    judge = Judge(random_model(shape, config.device).eval().to(torch.bfloat16 if bf16 else torch.float32), processor)
    generator, now = np.random.default_rng(0), measure.clock(config.device, config.threads)
    prompts = [judge.prompt(Image.fromarray(generator.integers(0, 255, (config.side, config.side, 3), dtype=np.uint8)))
               for _ in range(config.pictures)]
    counts = generator.integers(config.words // 2, config.words * 3 // 2 + 1, (config.pictures, config.generations))
    texts = [[judge_text(" ".join(generator.choice(WORDS, count)), "Lyon, France 45.76, 4.84") for count in row]
             for row in counts]
    rows = Rows(judge, prompts, texts)
    names = {"ours": shared_prefix.NAME, "plain": padded_attention(config.device, bf16)}

    def select(side: str) -> None:
        judge.model.set_attn_implementation({"text_config": names[side]})

    select("plain")
    tried = {}
    for rows.setting in Rows.SETTINGS[:1] + Rows.SETTINGS:  # the first pass of a process is slow
        start = now()
        rows.picture(0)
        tried[rows.setting] = round(now() - start, 3)
    rows.setting = min(tried, key=tried.get)
    sides = {"ours": lambda: judge.p_true(prompts, texts, batch_size=1).p_true, "plain": rows.p_true}
    seconds = measure.interleave(sides, rounds, now, select, partial(check, bf16=bf16), cold=int(bf16))
    spread = measure.ratio(seconds["plain"], seconds["ours"])
    lengths = [[len(chain) for chain in row] for row in rows.chains]
    work = (shape, len(prompts[0].pixel_values), len(prompts[0].input_ids))
    ours = packed_flops(*work, [[length + 1 for length in row] for row in lengths], 1)  # the prompt's last token too
    return {"ratio_vs_plain": spread["median"], "ratio_vs_plain_spread": [spread["min"], spread["max"]],
            "limit": round(padded_flops(*work, lengths, 1) / ours, 3), "seconds": seconds,
            "plain_settings_seconds_a_picture": tried, "attention": names,
            "visual": len(prompts[0].pixel_values) // PATCHES_PER_TOKEN, "prompt": len(prompts[0].input_ids),
            "lengths": lengths, "parameters": shape.parameters}


def check(p_true: dict[str, Tensor], bf16: bool) -> None:
    """Raise UserError when a verdict differs."""
    apart = (p_true["ours"] - p_true["plain"]).abs().max().item()
    measure.check_equal("the largest gap of P(True)", 0.0, apart, "plain", bf16)


if __name__ == "__main__":
    measure.main(run, Config, __doc__)
