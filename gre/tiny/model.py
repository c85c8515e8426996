"""A Qwen2.5-VL of a few million random weights, with its own tokenizer, processor and chat template.

Real classes, real file formats, nothing downloaded. Tests use it as it is; `gre.tiny.pretrain` teaches it to see.
"""
from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

END = "<|im_end|>"
PAD = "<|endoftext|>"
SPECIAL_TOKENS = [PAD, "<|im_start|>", END, "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",
                  "<|video_pad|>"]
INITIALIZER_RANGE = 0.06  # about 1 / sqrt(width); with the 0.02 of wide models a narrow one hardly learns to see
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(corpus: Iterable[str], vocabulary: int = 600) -> Qwen2TokenizerFast:
    """A byte-level BPE tokenizer in Qwen's form (digits one by one), trained on `corpus`."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=SPECIAL_TOKENS, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    # Named in extra_special_tokens, or transformers splits <|im_start|> into characters.
    return Qwen2TokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token=PAD,
                              extra_special_tokens=SPECIAL_TOKENS[1:])


def build(corpus: Iterable[str], hidden: int = 192, layers: int = 4, vocabulary: int = 600, tied: bool = True,
          max_pixels: int = 28 * 28 * 1280, seed: int = 0):
    """(model, processor) of a random Qwen2.5-VL.

    hidden: width of the text model (4 heads); the vision tower has half of it. tied: input and output embeddings are
    one tensor, as in Qwen2.5-VL-3B (the 7B model is untied).
    """
    tokenizer = build_tokenizer(corpus, vocabulary)
    processor = Qwen2_5_VLProcessor(Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=max_pixels), tokenizer,
                                    Qwen2VLVideoProcessor(), chat_template=CHAT_TEMPLATE)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    half = hidden // 4 // 2  # half of a head, which MRoPE splits into time, height and width
    space = half * 3 // 8
    depth = max(2, layers // 2)
    config = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=8192, tie_word_embeddings=tied,
            initializer_range=INITIALIZER_RANGE,
            rope_parameters={"type": "mrope", "rope_type": "default", "rope_theta": 1e6,
                             "mrope_section": [half - 2 * space, space, space]},
            bos_token_id=ids[PAD], eos_token_id=ids[END], pad_token_id=ids[PAD]),
        vision_config=dict(depth=depth, hidden_size=hidden // 2, intermediate_size=hidden, num_heads=4,
                           out_hidden_size=hidden, fullatt_block_indexes=[depth - 1], window_size=112,
                           initializer_range=INITIALIZER_RANGE),
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"], tie_word_embeddings=tied,
        initializer_range=INITIALIZER_RANGE,
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"])
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    # What Qwen2.5-VL ships, repetition penalty included: a rollout that adopted it would sample from another policy.
    model.generation_config.update(eos_token_id=ids[END], pad_token_id=ids[PAD], bos_token_id=ids[PAD],
                                   do_sample=True, temperature=0.000001, repetition_penalty=1.05)
    return model, processor
