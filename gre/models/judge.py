"""The judge: a vision-language model that says True or False about a chain of reasoning and its answer.

Template, the same in training and in use, and for a policy that learns by RL to judge: a user's turn of the picture,
JUDGE_INSTRUCTION and, as plain text, the chain and the answer; then the assistant's header, after which one word is the
verdict. Everything up to the instruction is a prefix shared by all chains about a picture, so it is forwarded once.

Shapes: n prompts, R chains in all, L tokens of a chain with the assistant's header and the verdict, V words.
"""
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import LongTensor, Tensor

from gre.config import UserError
from gre.models.packing import Group, Prompt
from gre.models.scoring import packed_logits
from gre.models.vlm import Pixels, encode_prompt, encode_text
from gre.text.answers import split_completion
from gre.text.prompts import JUDGE_CHAIN, JUDGE_INSTRUCTION

TAGS = re.compile(r"</?(?:think|answer)>")


@dataclass(frozen=True)
class Verdicts:
    """p_true (R,): p(True) / (p(True) + p(False)); outside (R,): probability of saying anything else."""

    p_true: Tensor
    outside: Tensor


class Judge:
    """P(True) of chains about pictures. `model` must use shared-prefix attention (`load_model` installs it)."""

    def __init__(self, model, processor):
        self.model, self.processor = model, processor
        self.words = {verdict: verdict_tokens(processor.tokenizer, verdict) for verdict in (True, False)}

    def prompt(self, image: Image.Image | Pixels) -> Prompt:
        """What all chains about a picture share."""
        return judge_prompt(self.processor, image)

    @torch.no_grad()
    def p_true(self, prompts: Sequence[Prompt], chains: Sequence[Sequence[str]], batch_size: int = 8) -> Verdicts:
        """Verdicts on `chains[i]` (texts of `judge_text`) about `prompts[i]`, flat, in order.

        batch_size: prompts forwarded at once. The model is left in the mode it was found in.
        """
        groups = [judge_group(self.processor, prompt, texts) for prompt, texts in zip(prompts, chains, strict=True)]
        groups = [group for group in groups if group.completions]
        was_training = self.model.training
        self.model.eval()
        logits = [packed_logits(self.model, groups[i:i + batch_size]) for i in range(0, len(groups), batch_size)]
        self.model.train(was_training)
        if not logits:
            return Verdicts(torch.empty(0), torch.empty(0))
        return self.verdicts(torch.cat(logits).cpu())

    def verdicts(self, logits: Tensor) -> Verdicts:
        """Verdicts from logits (R, V) at the verdict's position."""
        log_probs = logits.log_softmax(-1)
        true, false = (log_probs[:, self.words[verdict]].logsumexp(-1) for verdict in (True, False))
        return Verdicts(torch.sigmoid(true - false), (1 - true.exp() - false.exp()).clamp(min=0))


def judge_text(chain: str, answer: str) -> str:
    """Chain and answer as the judge reads them, without the tags they may stand in."""
    return JUDGE_CHAIN.format(chain=TAGS.sub("", chain).strip(), answer=TAGS.sub("", answer).strip())


def completion_text(completion: str) -> str:
    """The judge's text of a policy's completion."""
    chain, answer = split_completion(completion)
    return judge_text(chain or "", answer or "")


def judge_prompt(processor, image: Image.Image | Pixels) -> Prompt:
    """The picture and the instruction, without what ends the turn."""
    whole, end = encode_prompt(processor, JUDGE_INSTRUCTION, image), len(_turn_end(processor))
    return replace(whole, input_ids=whole.input_ids[:-end], mm_token_type_ids=whole.mm_token_type_ids[:-end])


def verdict_prompt(processor, image: Image.Image | Pixels, text: str) -> Prompt:
    """The template up to the verdict, as the prompt of a policy that is to say it: `judge_prompt`, a text of
    `judge_text`, the end of the turn and the assistant's header."""
    start, rest = judge_prompt(processor, image), torch.cat([encode_text(processor, text), _turn_end(processor)])
    return replace(start, input_ids=torch.cat([start.input_ids, rest]),
                   mm_token_type_ids=torch.cat([start.mm_token_type_ids, start.mm_token_type_ids.new_zeros(len(rest))]))


def judge_group(processor, prompt: Prompt, texts: Sequence[str], verdicts: Sequence[bool] | None = None) -> Group:
    """One completion per text: the text, the end of the turn and the assistant's header, the verdict's word.

    Only that word is scored. verdicts: the labels when training; otherwise True stands in, and only logits are read.
    """
    turn_end = _turn_end(processor)
    words = {verdict: verdict_tokens(processor.tokenizer, verdict)[:1] for verdict in (True, False)}
    labels = [True] * len(texts) if verdicts is None else verdicts
    completions = [torch.cat([encode_text(processor, text), turn_end, words[bool(label)]])
                   for text, label in zip(texts, labels, strict=True)]
    return Group(prompt, completions, [torch.arange(len(ids)) == len(ids) - 1 for ids in completions])


def verdict_tokens(tokenizer, verdict: bool) -> LongTensor:
    """Tokens that say `verdict`: the word itself first, then those of its variants (case, leading space) that are one
    token. Raises UserError when the word itself is not."""
    word = str(verdict)
    variants = [space + form for form in (word, word.lower(), word.upper()) for space in ("", " ")]
    ids = [tokenizer(variant, add_special_tokens=False).input_ids for variant in variants]
    if len(ids[0]) != 1:
        raise UserError(f"{word!r} is {len(ids[0])} tokens for this tokenizer: take a model that says it in one")
    return torch.tensor([tokens[0] for tokens in ids if len(tokens) == 1])


def _turn_end(processor) -> LongTensor:
    """Tokens between the user's text and the assistant's answer."""
    mark = "\N{OBJECT REPLACEMENT CHARACTER}"
    turn = {"role": "user", "content": [{"type": "text", "text": mark}]}
    text = processor.apply_chat_template([turn], add_generation_prompt=True).split(mark)[1]
    return torch.tensor(processor.tokenizer(text, add_special_tokens=False).input_ids)
