"""The two ways in which a photo becomes visual tokens: all that differs between the architectures a policy may have.

Qwen's models cut a photo, resized to a budget of pixels, into patches, and image_grid_thw says into how many; their
positions have three numbers. InternVL cuts it into square tiles of one size, as many as the budget holds, with the
whole photo as one more where there are several; positions are those of text.
"""
from typing import Any

from torch import nn


def tiled(processor) -> bool:
    """Whether this processor cuts photos into tiles."""
    return hasattr(processor.image_processor, "max_patches")


def pixel_range(processor) -> tuple[int, int]:
    """Fewest and most pixels a photo has once it is resized, without the copy of the whole beside its tiles."""
    images = processor.image_processor
    if tiled(processor):
        return images.min_patches * _tile(processor), images.max_patches * _tile(processor)
    return images.size["shortest_edge"], images.size["longest_edge"]


def set_pixel_range(processor, least: int, most: int) -> None:
    """Resize photos so. Of tiles there is one at least."""
    images = processor.image_processor
    if tiled(processor):
        images.crop_to_patches = True  # what the processor asks for whatever its files say
        images.min_patches, images.max_patches = (max(1, pixels // _tile(processor)) for pixels in (least, most))
    else:
        images.size = {"shortest_edge": least, "longest_edge": most}


def processor_settings(processor) -> dict[str, Any]:
    """What an engine must tell its own processor of the same folder to cut photos as this one does."""
    images = processor.image_processor
    if tiled(processor):
        return {"crop_to_patches": True, "min_patches": images.min_patches, "max_patches": images.max_patches}
    return {"size": {"shortest_edge": images.size["shortest_edge"], "longest_edge": images.size["longest_edge"]}}


def token_pixels(processor) -> int:
    """Pixels of a photo that one visual token covers."""
    if tiled(processor):
        return _tile(processor) // processor.image_seq_length
    return (processor.image_processor.patch_size * processor.image_processor.merge_size) ** 2


def most_tokens(processor) -> int:
    """Tokens of the largest photo."""
    if tiled(processor):
        tiles = processor.image_processor.max_patches
        return (tiles + (tiles > 1)) * processor.image_seq_length + 2  # where the photo begins and ends
    return pixel_range(processor)[1] // token_pixels(processor)


def photo_ids(processor, patches: int) -> list[int]:
    """Tokens of a photo of that many patches, or tiles."""
    image = [processor.image_token_id]
    if tiled(processor):
        return [processor.start_image_token_id, *(image * (patches * processor.image_seq_length)),
                processor.end_image_token_id]
    return image * (patches // processor.image_processor.merge_size**2)


def must_agree(processor, config) -> list[tuple[str, Any, Any]]:
    """(name, processor's value, model's value) of all that must be the same, or patches and tokens mean nothing."""
    images, vision = processor.image_processor, config.vision_config
    token = ("image_token_id", processor.image_token_id, config.image_token_id)
    if tiled(processor):
        return [("size", [images.size["height"], images.size["width"]], list(vision.image_size)),
                ("image_seq_length", processor.image_seq_length, config.image_seq_length), token]
    return [("patch_size", images.patch_size, vision.patch_size),
            ("merge_size", images.merge_size, vision.spatial_merge_size),
            ("temporal_patch_size", images.temporal_patch_size, vision.temporal_patch_size), token]


def reads(processor, config) -> bool:
    """Whether the processor is of the kind the model needs."""
    return (hasattr(processor.image_processor, "get_number_of_image_patches")
            and tiled(processor) == hasattr(config, "image_seq_length"))


def modules(model) -> list[nn.Module]:
    """The parts of a transformers model that see photos; the last one's output is what the text model is given."""
    base = model.model
    return [base.visual] if hasattr(base, "visual") else [base.vision_tower, base.multi_modal_projector]


def _tile(processor) -> int:
    size = processor.image_processor.size
    return size["height"] * size["width"]
