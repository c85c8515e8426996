"""Random-weight models of the architectures a policy may have: true classes, processors and file formats, tiny widths.

Heads are 32 wide, as vLLM's attention for CPUs wants them. Photos cost as many tokens as they would for a released
model.
"""
from collections.abc import Callable

import torch
from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    Qwen2_5_VLProcessor,
    Qwen2TokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from gre.tiny.model import CHAT_TEMPLATE, END, INITIALIZER_RANGE, PAD, build, build_tokenizer

CORPUS = ["True", "False", "yes", "no", "Where is this? <think> </think><answer>, </answer>",
          "<think>The sign is French. latitude longitude</think><answer>48.86, 2.35</answer>"] * 100
HEAD = 32
ROPE = {"type": "mrope", "rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}
VOCABULARY = 400


def _qwen_ids(tokenizer) -> dict:
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
             "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    return {key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()}


def _text(tokenizer, tied: bool) -> dict:
    ends = {"bos_token_id": PAD, "eos_token_id": END, "pad_token_id": PAD}
    return {"vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 8192,
            "tie_word_embeddings": tied, "initializer_range": INITIALIZER_RANGE,
            **{key: tokenizer.convert_tokens_to_ids(token) for key, token in ends.items()}}


def qwen2_vl():
    """Attention over the whole photo in every block of the tower; head and embedding apart, as in the 7B."""
    tokenizer = build_tokenizer(CORPUS, VOCABULARY)
    config = Qwen2VLConfig(
        text_config={**_text(tokenizer, False), "rope_parameters": ROPE}, tie_word_embeddings=False,
        vision_config={"depth": 2, "embed_dim": 64, "hidden_size": 128, "num_heads": 2, "mlp_ratio": 4,
                       "initializer_range": INITIALIZER_RANGE}, **_qwen_ids(tokenizer))
    processor = Qwen2VLProcessor(Qwen2VLImageProcessor(min_pixels=28**2), tokenizer, Qwen2VLVideoProcessor(),
                                 chat_template=CHAT_TEMPLATE)
    return Qwen2VLForConditionalGeneration(config), processor


def qwen2_5_vl():
    """The architecture that GRE trains."""
    model, processor = build(CORPUS, hidden=128, layers=3, vocabulary=VOCABULARY)
    assert isinstance(processor, Qwen2_5_VLProcessor)
    return model, processor


def qwen3_vl():
    """Patches of 16 pixels, learned positions, features of two blocks added in the first text layers; heads together
    twice as wide as the model, with norms; interleaved rotary sections; tied, as the 4B."""
    tokenizer = build_tokenizer(CORPUS, VOCABULARY)
    config = Qwen3VLConfig(
        text_config={**_text(tokenizer, True), "num_attention_heads": 8, "head_dim": HEAD,
                     "rope_parameters": {**ROPE, "mrope_interleaved": True, "mrope_section": [6, 5, 5]}},
        tie_word_embeddings=True,
        vision_config={"depth": 3, "hidden_size": 64, "intermediate_size": 160, "num_heads": 2, "out_hidden_size": 128,
                       "num_position_embeddings": 36, "deepstack_visual_indexes": [0, 2],
                       "initializer_range": INITIALIZER_RANGE}, **_qwen_ids(tokenizer))
    processor = Qwen3VLProcessor(Qwen2VLImageProcessor(min_pixels=32**2, patch_size=16), tokenizer,
                                 Qwen3VLVideoProcessor(), chat_template=CHAT_TEMPLATE)
    return Qwen3VLForConditionalGeneration(config), processor


def internvl():
    """Tiles of 56 x 56 pixels, of four tokens each, and plain positions."""
    names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>", "turn_token": "<|im_start|>"}
    tokenizer = Qwen2TokenizerFast(tokenizer_object=build_tokenizer(CORPUS, VOCABULARY).backend_tokenizer,
                                   eos_token=END, pad_token=PAD, extra_special_tokens=names)
    text = {**_text(tokenizer, False), "model_type": "qwen2"}
    config = InternVLConfig(
        text_config={**text, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        vision_config={"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128,
                       "attention_bias": True, "image_size": [56, 56], "initializer_range": INITIALIZER_RANGE},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"), image_seq_length=4, tie_word_embeddings=False)
    images = GotOcr2ImageProcessor(size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=6)
    template = CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n")
    processor = InternVLProcessor(images, tokenizer, InternVLVideoProcessor(), image_seq_length=4,
                                  chat_template=template)
    return InternVLForConditionalGeneration(config), processor


POLICIES: dict[str, Callable] = {make.__name__: make for make in (qwen2_vl, qwen2_5_vl, qwen3_vl, internvl)}


def make_policy(name: str):
    """(model, processor) of an architecture by its model_type, float32, in eval mode. Do not train it in place."""
    torch.manual_seed(0)
    model, processor = POLICIES[name]()
    end, pad = processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id
    # What Qwen ships, repetition penalty included: a rollout that adopted it would sample from another policy.
    model.generation_config.update(eos_token_id=end, pad_token_id=pad, bos_token_id=pad, do_sample=True,
                                   temperature=0.000001, repetition_penalty=1.05)
    return model.eval(), processor
