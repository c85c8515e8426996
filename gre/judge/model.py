"""The judge: a vision-language model that says True or False about a chain of reasoning and its answer.

Template, the same in training and in use, and for a policy that learns by RL to judge: a user's turn of the photo, the
instruction and, as plain text, the chain and the answer; then the assistant's header, after which one word is the
verdict. Everything up to the instruction is a prefix shared by all chains about a photo, so it is forwarded once.
Instruction, text and words are a `Question`: GLOBE's reward model is a judge that is asked another one, to be answered
by yes or no.

Shapes: n prompts, R chains in all, L tokens of a chain with the assistant's header and the verdict, V vocabulary.
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
from gre.rollout.vllm.client import Asked, Server
from gre.text.answers import split_completion
from gre.text.prompts import JUDGE_CHAIN, JUDGE_INSTRUCTION, LOCALIZABILITY_CHAIN, LOCALIZABILITY_INSTRUCTION

AT_ONCE = 64  # questions to a server at a time
TAGS = re.compile(r"</?(?:think|answer)>")


@dataclass(frozen=True)
class Question:
    """What is asked about a chain. template: what follows the instruction, with {chain} and, if need be, {answer}.
    words: that say True and False."""

    instruction: str
    template: str
    words: tuple[str, str]

    def text(self, chain: str, answer: str = "") -> str:
        """Chain and answer as the judge reads them, without the tags they may stand in."""
        return self.template.format(chain=TAGS.sub("", chain).strip(), answer=TAGS.sub("", answer).strip())


RIGHT = Question(JUDGE_INSTRUCTION, JUDGE_CHAIN, ("True", "False"))
LOCALIZABLE = Question(LOCALIZABILITY_INSTRUCTION, LOCALIZABILITY_CHAIN, ("yes", "no"))


@dataclass(frozen=True)
class Verdicts:
    """p_true (R,): p(True) / (p(True) + p(False)); outside (R,): probability of saying anything else."""

    p_true: Tensor
    outside: Tensor


class Judge:
    """P(True) of chains about photos. `model` must use shared-prefix attention (`load_model` installs it)."""

    def __init__(self, model, processor, question: Question = RIGHT):
        self.model, self.processor, self.question = model, processor, question
        self.words = {verdict: verdict_tokens(processor.tokenizer, verdict, question) for verdict in (True, False)}

    def prompt(self, image: Image.Image | Pixels) -> Prompt:
        """What all chains about a photo share."""
        return judge_prompt(self.processor, image, self.question)

    @torch.no_grad()
    def p_true(self, prompts: Sequence[Prompt], chains: Sequence[Sequence[str]], batch_size: int = 8) -> Verdicts:
        """Verdicts on `chains[i]` (texts of `judge_text`) about `prompts[i]`, flat, in order.

        batch_size: prompts forwarded at once. The model is left in the mode it was found in.
        """
        groups = [judge_group(self.processor, prompt, texts, question=self.question)
                  for prompt, texts in zip(prompts, chains, strict=True)]
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
        return _verdicts(*(log_probs[:, self.words[verdict]] for verdict in (True, False)))


class ServedJudge:
    """`Judge` backed by a `vllm serve` of the same folder. Prompts must hold their photo; `p_true` raises UserError
    when the server refuses, or does not answer after some tries: a verdict is never made up."""

    def __init__(self, server: Server, processor, question: Question = RIGHT):
        self.server, self.processor, self.question = server, processor, question
        self.words = {verdict: verdict_tokens(processor.tokenizer, verdict, question).tolist()
                      for verdict in (True, False)}

    def prompt(self, image: Image.Image) -> Prompt:
        """What all chains about a photo share."""
        return judge_prompt(self.processor, image, self.question)

    def p_true(self, prompts: Sequence[Prompt], chains: Sequence[Sequence[str]]) -> Verdicts:
        """As `Judge.p_true`. The server keeps what the chains about a photo share."""
        return self.read([continued(prompt, ids[:-1]) for prompt, texts in zip(prompts, chains, strict=True)
                          for ids in judge_group(self.processor, prompt, texts, question=self.question).completions])

    def read(self, prompts: Sequence[Prompt]) -> Verdicts:
        """Verdicts on prompts that end where the verdict begins."""
        words = self.words[True] + self.words[False]
        # One of the words is drawn, so that no other takes a place among the log-probabilities; these are the model's.
        params = {"temperature": 0.0, "max_tokens": 1, "allowed_token_ids": words, "logprob_token_ids": words,
                  "logprobs": len(words), "detokenize": False}
        answers = self.server.answers([Asked(prompt, params, "a verdict") for prompt in prompts], AT_ONCE)
        said = [{one["token_id"]: one["logprob"] for one in choice["logprobs"]["content"][0]["top_logprobs"]}
                for (choice,) in answers]
        return _verdicts(*(torch.tensor([[log_probs[word] for word in self.words[verdict]] for log_probs in said])
                           .view(len(said), len(self.words[verdict])) for verdict in (True, False)))


def _verdicts(true: Tensor, false: Tensor) -> Verdicts:
    """Verdicts from the log-probabilities (R, forms) of all forms of each word."""
    true, false = true.logsumexp(-1), false.logsumexp(-1)
    return Verdicts(torch.sigmoid(true - false), (1 - true.exp() - false.exp()).clamp(min=0))


def judge_text(chain: str, answer: str) -> str:
    """Chain and answer as the judge reads them; see `Question.text`."""
    return RIGHT.text(chain, answer)


def completion_text(completion: str) -> str:
    """The judge's text of a policy's completion."""
    chain, answer = split_completion(completion)
    return judge_text(chain or "", answer or "")


def judge_prompt(processor, image: Image.Image | Pixels, question: Question = RIGHT) -> Prompt:
    """The photo and the instruction, without what ends the turn."""
    whole, end = encode_prompt(processor, question.instruction, image), len(_turn_end(processor))
    return replace(whole, input_ids=whole.input_ids[:-end], mm_token_type_ids=whole.mm_token_type_ids[:-end])


def verdict_prompt(processor, image: Image.Image | Pixels, text: str) -> Prompt:
    """The template up to the verdict, as the prompt of a policy that is to say it: `judge_prompt`, a text of
    `judge_text`, the end of the turn and the assistant's header."""
    return continued(judge_prompt(processor, image), torch.cat([encode_text(processor, text), _turn_end(processor)]))


def continued(prompt: Prompt, text_ids: LongTensor) -> Prompt:
    """A prompt with more text behind it."""
    kinds = prompt.mm_token_type_ids
    return replace(prompt, input_ids=torch.cat([prompt.input_ids, text_ids]),
                   mm_token_type_ids=torch.cat([kinds, kinds.new_zeros(len(text_ids))]), positions=None)


def judge_group(processor, prompt: Prompt, texts: Sequence[str], verdicts: Sequence[bool] | None = None,
                question: Question = RIGHT) -> Group:
    """One completion per text: the text, the end of the turn and the assistant's header, the verdict's word.

    Only that word is scored. verdicts: the labels when training; otherwise True stands in, and only logits are read.
    """
    turn_end = _turn_end(processor)
    words = {verdict: verdict_tokens(processor.tokenizer, verdict, question)[:1] for verdict in (True, False)}
    labels = [True] * len(texts) if verdicts is None else verdicts
    completions = [torch.cat([encode_text(processor, text), turn_end, words[bool(label)]])
                   for text, label in zip(texts, labels, strict=True)]
    return Group(prompt, completions, [torch.arange(len(ids)) == len(ids) - 1 for ids in completions])


def verdict_tokens(tokenizer, verdict: bool, question: Question = RIGHT) -> LongTensor:
    """Tokens that say `verdict`: the word itself first, then those of its variants (case, leading space) that are one
    token. Raises UserError when the word itself is not."""
    word = question.words[not verdict]
    cases = dict.fromkeys((word, word.lower(), word.upper(), word.capitalize()))
    variants = [space + form for form in cases for space in ("", " ")]
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
