"""The model a stage trains: which of its weights, in which type, and with an adapter or without."""
from pathlib import Path

from gre.models import lora
from gre.models.vlm import ModelConfig, freeze_vision, load_model
from gre.training.arguments import TrainConfig, weight_dtype


def load_trained(folder: str | Path, model: ModelConfig, train: TrainConfig, seed: int):
    """The model of a folder, ready for a trainer. The training arguments must exist: ZeRO-3 acts through them."""
    loaded = load_model(folder, weight_dtype(train, model), to_train=True)
    if model.freeze_vision:
        freeze_vision(loaded)
    if model.lora.r:
        lora.adapt(loaded, model.lora, seed)
    return loaded
