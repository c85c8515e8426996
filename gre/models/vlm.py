"""The vision-language model and its processor: the one place that loads, encodes, freezes and sets the pixel budget.

Shapes: P prompt tokens (image tokens included), L completion tokens, V tokens of the output head.
"""
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError
from PIL import Image
from torch import BoolTensor, LongTensor, Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from gre.config import UserError, check_least, option
from gre.data.raw import RowError
from gre.models import adapter, patches, tower, zero
from gre.models import folder as model_folder
from gre.models.attention import shared_prefix
from gre.models.lora import LoraConfig
from gre.models.packing import Prompt

SPELLED = "Île de Sein, 48.0379, -4.8513"  # a tokenizer that cannot spell this knows no places
FROM_BASE = "save the processor of its base there (AutoProcessor.from_pretrained(BASE).save_pretrained(FOLDER))"
SIDE_PIXELS = 28  # one visual token of Qwen2-VL and Qwen2.5-VL covers 28 x 28 pixels, of Qwen3-VL 32 x 32
MAX_TOKENS = 1280  # a photo's, where neither config nor folder says how many
RELEASED_MAX_TOKENS = 16_384  # what Qwen's own folders say: a limit, and no budget


@dataclass(frozen=True)
class PixelBudget:
    """Pixels a photo may have once the processor has resized it; recorded in every manifest."""

    min_pixels: int
    max_pixels: int


@dataclass(frozen=True, eq=False)
class Pixels:
    """A photo as the model reads it: pixel_values (patches, channels) and image_grid_thw (1, 3), or (tiles, 3, height,
    width) and None."""

    pixel_values: Tensor
    image_grid_thw: LongTensor | None = None


@dataclass
class ModelConfig:
    """How a policy or a judge is loaded and trained."""

    min_pixels: int | None = option(None, "smallest photo in pixels; null: the parent's")
    max_pixels: int | None = option(None, f"largest photo in pixels; null: the parent's, or of a released model "
                                           f"{MAX_TOKENS} tokens ({MAX_TOKENS * SIDE_PIXELS**2} of Qwen2.5-VL)")
    max_length: int = option(4096, "tokens of prompt (photo included) and completion; longer rows are never cut")
    freeze_vision: bool = option(False, "leave the vision tower as it is")
    gradient_checkpointing: bool = option(False, "recompute activations in the backward pass: less memory, more time")
    lora: LoraConfig = option(LoraConfig, "train an adapter instead of the weights")

    def __post_init__(self):
        check_least("model.", self, {"min_pixels": 1, "max_pixels": SIDE_PIXELS**2, "max_length": 1})
        if None not in (self.min_pixels, self.max_pixels) and self.min_pixels > self.max_pixels:
            raise ValueError(f"model.min_pixels is {self.min_pixels}, above model.max_pixels={self.max_pixels}")


def load_processor(folder: str | Path, min_pixels: int | None = None, max_pixels: int | None = None):
    """The processor of a model folder, resizing photos to between `min_pixels` and `max_pixels`.

    None keeps what the folder says; `save_pretrained` of the processor keeps the budget.
    Raises UserError when the files do not load, the tokenizer cannot spell, or the chat template knows no photos.
    """
    try:
        processor = AutoProcessor.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:  # of files that are gone or broken
        raise UserError(f"{folder}: its tokenizer and processor do not load ({str(error).splitlines()[0]}): save those "
                        "of its base there (AutoProcessor.from_pretrained(BASE).save_pretrained(FOLDER))") from error
    processor.chat_template = processor.chat_template or processor.tokenizer.chat_template
    _check_fits(processor, config, folder)
    _check_processor(processor, folder)
    own = pixel_budget(processor)
    least = own.min_pixels if min_pixels is None else min_pixels
    most = own.max_pixels if max_pixels is None else max_pixels
    if least > most:
        raise UserError(f"{folder}: its photos would have {least} pixels at least and {most} at most: set "
                        "model.min_pixels too")
    tower.set_pixel_range(processor, least, most)
    return processor


def _check_fits(processor, config, folder: str | Path) -> None:
    """Raise UserError unless the processor is that of the model beside it: else its patches or its tokens mean nothing
    there, which shows at the first photo."""
    if not tower.reads(processor, config):
        raise UserError(f"{folder}: its photos are read by a {type(processor.image_processor).__name__}, not as a "
                        f"{config.model_type} reads them: {FROM_BASE}")
    for name, own, wanted in tower.must_agree(processor, config):
        if own != wanted:
            raise UserError(f"{folder}: {name} of its processor is {own}, and of its config.json {wanted}: they belong "
                            f"to two models; {FROM_BASE}")


def _check_processor(processor, folder: str | Path) -> None:
    """Raise UserError unless texts come back from the tokenizer and a turn with a photo holds one place for it."""
    remedy = FROM_BASE
    ids = processor.tokenizer(SPELLED, add_special_tokens=False).input_ids
    if processor.tokenizer.decode(ids) != SPELLED:
        raise UserError(f"{folder}: its tokenizer makes {processor.tokenizer.decode(ids)!r} of {SPELLED!r}: {remedy}")
    if not processor.chat_template:
        raise UserError(f"{folder} has no chat template, neither in chat_template.jinja or .json nor in "
                        f"tokenizer_config.json: {remedy}")
    try:
        places = _prompt_text(processor, SPELLED).count(processor.image_token)
    except (TypeError, ValueError, TemplateError) as error:
        raise UserError(f"{folder}: its chat template takes no turn with a photo ({error}): {remedy}") from None
    if places != 1:
        raise UserError(f"{folder}: its chat template leaves {places} places for the photo of a turn, not one: it is "
                        f"that of a text model; {remedy}")
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": SPELLED}]}]
    begun = processor.apply_chat_template(turn, add_generation_prompt=True)
    if processor.apply_chat_template(turn) == begun:
        raise UserError(f"{folder}: its chat template never begins the assistant's turn (add_generation_prompt): "
                        f"{remedy}")
    if begun.rstrip().endswith("<think>"):
        raise UserError(f"{folder}: its chat template opens <think> for the assistant, which completions here do "
                        "themselves: take the Instruct model instead of the Thinking one")


def pixel_budget(processor) -> PixelBudget:
    """The budget a processor works with."""
    return PixelBudget(*tower.pixel_range(processor))


def own_budget(processor) -> PixelBudget:
    """The budget of a plain folder: what its own files say, or, where they say Qwen's limit, ours for a base."""
    budget, token = pixel_budget(processor), tower.token_pixels(processor)
    if budget.max_pixels < RELEASED_MAX_TOKENS * token:
        return budget
    return PixelBudget(budget.min_pixels, MAX_TOKENS * token)


def load_model(folder: str | Path, dtype: torch.dtype = torch.float32, *, to_train: bool = False):
    """The model of a folder with shared-prefix attention installed in its text part; whole on this rank, unless it is
    to be trained under ZeRO-3, which splits it over all of them. An adapter in it stands beside the weights, frozen.

    Raises UserError when a weight is missing, unexpected or of another shape: a warning would let it train from noise;
    and when positions are rounded: ZeRO-3 builds a model in the training type, its rotary frequencies too, and in
    bfloat16 it would learn other positions than it is used with.
    """
    with nullcontext() if to_train else zero.put_away():
        try:
            model, report = AutoModelForImageTextToText.from_pretrained(
                model_folder.weights_folder(Path(folder)), dtype=dtype, attn_implementation="sdpa",
                output_loading_info=True, use_safetensors=True,
                ignore_mismatched_sizes=True)  # they are refused here, by name
        except ValueError as error:
            raise UserError(f"{folder}: no model can be built as its config.json says ({error})") from error
    faults = {fault: sorted(map(str, names)) for fault, names in report.items() if names}
    if faults:
        raise UserError(f"{folder} does not hold the weights its config.json describes: {faults}")
    if any(name.endswith("inv_freq") and buffer.dtype != torch.float32 for name, buffer in model.named_buffers()):
        raise UserError('DeepSpeed would round the positions to the training type: write "data_types": '
                        '{"keep_in_fp32_modules": ["inv_freq"]} into its config, as configs/deepspeed/zero3.json does')
    shared_prefix.install(model)
    patches.install(model)
    if model_folder.holds_adapter(Path(folder)):
        adapter.attach(model, folder)
    return model


def freeze_vision(model) -> None:
    """Take the vision tower, merger included, out of training."""
    for part in tower.modules(model):
        part.requires_grad_(False)


def process_picture(processor, image: Image.Image) -> Pixels:
    """What `encode_prompt` makes of a photo, whatever the instruction."""
    pixels = processor.image_processor(images=[image], return_tensors="pt")
    return Pixels(pixels["pixel_values"], pixels.get("image_grid_thw"))


def encode_prompt(processor, instruction: str, image: Image.Image | Pixels) -> Prompt:
    """A user's turn of one photo and one instruction, ready for the assistant's answer.

    image: a photo, or what `process_picture` made of it: the prompt is the same.
    Raises RowError when the instruction holds one of the tokenizer's control tokens.
    """
    pixels = image if isinstance(image, Pixels) else process_picture(processor, image)
    _, ids = _prompt_ids(processor, instruction, len(pixels.pixel_values))
    ids = torch.tensor(ids)
    return Prompt(ids, torch.isin(ids, torch.tensor(processor.image_token_ids)).long(), pixels.pixel_values,
                  pixels.image_grid_thw, image=None if pixels is image else image)


def prompt_ids(processor, instruction: str, width: int, height: int) -> tuple[list[int], list[int]]:
    """The tokens of `encode_prompt` for a photo of this size in pixels, without the photo: with one token for all
    of it, as engines take a prompt that they expand themselves, and with all P. RowError as in `encode_prompt`."""
    return _prompt_ids(processor, instruction, processor.image_processor.get_number_of_image_patches(height, width))


def prompt_length(processor, instruction: str, width: int, height: int) -> int:
    """P of `encode_prompt` for a photo of this size in pixels, without the photo."""
    return len(prompt_ids(processor, instruction, width, height)[1])


def _prompt_ids(processor, instruction: str, patches: int) -> tuple[list[int], list[int]]:
    """As `prompt_ids`, for a photo of so many patches or tiles."""
    if control := [token for token in processor.tokenizer.all_special_tokens if token in instruction]:
        raise RowError(f"the instruction holds the control tokens {control}: remove them from the data")
    ids = processor.tokenizer(_prompt_text(processor, instruction)).input_ids
    at = ids.index(processor.image_token_id)
    return ids, ids[:at] + tower.photo_ids(processor, patches) + ids[at + 1:]


def _prompt_text(processor, instruction: str) -> str:
    """The chat template's text, in which one token stands for the photo."""
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": instruction}]}
    return processor.apply_chat_template([turn], add_generation_prompt=True)


def encode_text(processor, text: str) -> LongTensor:
    """`text` as plain tokens (L,): the name of a control token in it is spelled out, never obeyed."""
    ids = processor.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return torch.tensor(ids, dtype=torch.long)


def encode_response(processor, text: str) -> LongTensor:
    """A completion (L,): plain text, then the end token."""
    return torch.cat([encode_text(processor, text), torch.tensor([end_token_id(processor.tokenizer)])])


def end_token_id(tokenizer) -> int:
    """The token that ends the assistant's turn."""
    return tokenizer.eos_token_id


def banned_tokens(tokenizer, vocab_size: int) -> BoolTensor:
    """True (V,) where a policy may never sample: control tokens but the end token, and ids the tokenizer lacks.

    A sampled image token would break the next forward pass. Ordinary added words (`<think>` in Qwen3-VL) stay.
    """
    banned = torch.zeros(vocab_size, dtype=torch.bool)
    banned[len(tokenizer):] = True
    for token_id, token in tokenizer.added_tokens_decoder.items():
        banned[token_id] = token.special and token_id != end_token_id(tokenizer)
    return banned
