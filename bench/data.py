"""Photos decoded and processed while GRPO trains: ours, ours with data.cache_gib, and TRL's GRPOTrainer.

    python -m bench.data [photos=8] [generations=8] [--json FILE] [key=value …]

Each side trains a very small model for two epochs with generate, whole, on the same photos. A decode is counted where
Pillow reads pixels, processing where photos reach the image processor; seconds are CPU time spent there.
"""
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image, ImageFile
from transformers import TrainerCallback

from bench import measure
from bench.plan_memory import BASE, TINY, random_model
from gre.config import option
from gre.models.attention import shared_prefix
from gre.models.vlm import SIDE_PIXELS, load_processor
from gre.rollout.generate import TransformersRollout
from gre.training import rl
from gre.training.arguments import TrainConfig, training_arguments
from gre.training.data import TrainingData, picture_loader
from gre.training.grpo import GRPOConfig, GRPOTrainer

EPOCHS = 2
NEW_TOKENS = 4


@dataclass
class Config:
    """What is measured."""

    photos: int = option(8, "photos of the data set")
    prompts: int = option(2, "prompts a step")
    generations: int = option(8, "completions of each prompt")
    visual: int = option(324, "visual tokens of a photo once it is processed")
    width: int = option(1600, "pixels of a photo's longer side; JPEG, 4:3")
    threads: int = option(1, "threads; with one, seconds are CPU time")
    json: str = option("", "file for the result, keyed by shape")


class Counter:
    """Photos decoded and processed, and the seconds it took, by epoch."""

    def __init__(self):
        self.epochs: list[dict[str, float]] = []
        self.depth = 0
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Count into a new epoch from now on."""
        self.epochs.append({"decoded": 0, "processed": 0, "seconds": 0.0})

    @contextmanager
    def count(self, what: str, pictures: int) -> Iterator[None]:
        """The block decodes or processes so many photos; a block inside a block is timed once."""
        start, self.depth = time.process_time(), self.depth + 1
        yield
        self.depth -= 1
        self.epochs[-1][what] += pictures
        if not self.depth:
            self.epochs[-1]["seconds"] += time.process_time() - start


@contextmanager
def counted(processor) -> Iterator[Counter]:
    """Count what Pillow decodes and what this kind of image processor is given."""
    counter, kind = Counter(), type(processor.image_processor)
    load, call = ImageFile.ImageFile.load, kind.__call__

    def counted_load(self):
        if not self.tile:  # its pixels are there already
            return load(self)
        with counter.count("decoded", 1):
            return load(self)

    def counted_call(self, images, *args, **kwargs):
        with counter.count("processed", len(list(flat(images)))):
            return call(self, images, *args, **kwargs)

    ImageFile.ImageFile.load, kind.__call__ = counted_load, counted_call
    try:
        yield counter
    finally:
        ImageFile.ImageFile.load, kind.__call__ = load, call


def flat(images) -> Iterator:
    """Images of an image, a list, or a list of lists."""
    if isinstance(images, (list, tuple)):
        for image in images:
            yield from flat(image)
    else:
        yield images


class _Epochs(TrainerCallback):
    """Tells the counter when the second epoch begins."""

    def __init__(self, counter: Counter, steps: int):
        self.counter, self.steps = counter, steps

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.steps:
            self.counter.begin_epoch()


def run(config: Config) -> None:
    """Measure and print."""
    torch.set_num_threads(config.threads)
    with tempfile.TemporaryDirectory() as folder:
        photos = write_photos(config, Path(folder))
        sides = {"ours": partial(train_ours, cache_gib=0.0), "ours_cached": partial(train_ours, cache_gib=1.0),
                 "trl": train_trl}
        result = {name: summary(config, side(config, photos, Path(folder) / name)) for name, side in sides.items()}
    result = {f"G{config.generations}": {**result, **measure.origin("bench.data")}}
    measure.write(config.json, result)
    print(json.dumps(result, indent=2))


def write_photos(config: Config, folder: Path) -> list[Path]:
    """JPEG files of smooth random photos."""
    generator, paths = np.random.default_rng(0), []
    for number in range(config.photos):
        paths.append(folder / f"{number}.jpg")
        small = generator.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(small).resize((config.width, config.width * 3 // 4), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def summary(config: Config, epochs: list[dict[str, float]]) -> list[dict[str, float]]:
    """Per epoch: photos decoded and processed and seconds, by photo."""
    return [{name: round(value / config.photos, 4) for name, value in epoch.items()} for epoch in epochs]


def train_ours(config: Config, photos: list[Path], folder: Path, cache_gib: float) -> list[dict[str, float]]:
    """Two epochs of gre's GRPOTrainer."""
    processor, model = make_processor(config), random_model(TINY)
    shared_prefix.install(model)
    rows = [SimpleNamespace(id=path.stem, image=path, instruction="Where is this?") for path in photos]
    steps = config.photos // config.prompts
    args = training_arguments(TrainConfig(max_steps=EPOCHS * steps, per_device_batch_size=config.prompts),
                              folder / "stage3", 0, on_cpu=True)
    load = picture_loader(processor, TrainingData(cache_gib=cache_gib), folder / "stage3")
    rollout = TransformersRollout.of(processor.tokenizer, model.config.text_config.vocab_size, NEW_TOKENS)
    with counted(processor) as counter:
        trainer = GRPOTrainer(
            model, args, rows=rows, encode=partial(rl.encode, processor, load=load), tokenizer=processor.tokenizer,
            rewards={"length": lambda groups: [[float(len(text)) for text in group.texts] for group in groups]},
            rollout=rollout, reference=None, samples=folder / "samples.jsonl",
            grpo=GRPOConfig(num_generations=config.generations, beta=0.0), callbacks=[_Epochs(counter, steps)])
        trainer.train()
    return counter.epochs


def train_trl(config: Config, photos: list[Path], folder: Path) -> list[dict[str, float]]:
    """Two epochs of TRL's GRPOTrainer."""
    from datasets import Dataset
    from datasets import Image as ImageColumn
    from trl import GRPOConfig as TRLConfig
    from trl import GRPOTrainer as TRLTrainer

    processor, model = make_processor(config), random_model(TINY)
    model.set_attn_implementation({"text_config": "sdpa"})
    dataset = Dataset.from_list([{"prompt": [{"role": "user", "content": "Where is this?"}], "image": str(path)}
                                 for path in photos]).cast_column("image", ImageColumn())
    steps = config.photos // config.prompts
    args = TRLConfig(str(folder), max_steps=EPOCHS * steps, use_cpu=True, bf16=False, report_to=[], beta=0.0,
                     per_device_train_batch_size=config.prompts * config.generations, save_strategy="no",
                     num_generations=config.generations, max_completion_length=NEW_TOKENS)
    with counted(processor) as counter:
        trainer = TRLTrainer(model, reward_funcs=lambda completions, **_: [float(len(str(one))) for one in completions],
                             args=args, train_dataset=dataset, processing_class=processor,
                             callbacks=[_Epochs(counter, steps)])
        trainer.train()
    return counter.epochs


def make_processor(config: Config):
    """The tiny base's processor, at the photos' visual tokens."""
    return load_processor(BASE, SIDE_PIXELS**2, config.visual * SIDE_PIXELS**2)


if __name__ == "__main__":
    measure.main(run, Config, __doc__)
